//! Looking into a process outside.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
};

use crate::{
    Attack,
    Layer::{Ebpf, Landlock, Namespaces, Seccomp},
    Outcome, Place, attack, call,
};

const FAMILY: &str = "processes: secrets";

const YAMA: &str = "Yama may let only parents look into a process (kernel.yama.ptrace_scope)";

pub(crate) const ATTACKS: &[Attack] = &[
    attack(FAMILY, "read-its-environment", &[Ebpf, Landlock], |place| {
        place.read(proc(place, "environ"))
    }),
    attack(
        FAMILY,
        "read-its-environment-by-its-thread",
        &[Ebpf, Landlock],
        |place| {
            let victim = place.stage.victim;
            place.read(proc(place, &format!("task/{victim}/environ")))
        },
    ),
    attack(FAMILY, "read-its-command-line", &[], |place| {
        place.read(proc(place, "cmdline"))
    })
    .alone("/proc asks no LSM hook for it: mounts and the PID namespace hide it together, by a /proc of the \
         sandbox's own"),
    attack(FAMILY, "read-its-memory-map", &[Ebpf, Landlock], |place| {
        let maps = fs::read_to_string(proc(place, "maps"))?;
        if maps.contains("[stack]") {
            Ok(())
        } else {
            Err(io::Error::other("an empty map"))
        }
    }),
    attack(
        FAMILY,
        "read-its-memory-in-proc",
        &[Ebpf, Landlock],
        |place| {
            let mut bytes = vec![0; place.stage.token.len()];
            File::open(proc(place, "mem"))?
                .read_exact_at(&mut bytes, place.stage.victim_address)?;
            place.is_token(&bytes)
        },
    )
    .lacking(YAMA),
    attack(FAMILY, "read-what-it-has-open", &[Ebpf, Landlock], |place| {
        place.read(proc(
            place,
            &format!("fd/{}", place.stage.victim_descriptor),
        ))
    })
    .lacking(YAMA),
    attack(
        FAMILY,
        "read-its-memory-by-call",
        &[Ebpf, Landlock, Namespaces, Seccomp],
        read_memory,
    )
    .lacking(YAMA),
    attack(
        FAMILY,
        "write-its-memory-by-call",
        &[Ebpf, Landlock, Namespaces, Seccomp],
        write_memory,
    )
    .lacking(YAMA),
    attack(
        FAMILY,
        "take-its-descriptor",
        &[Ebpf, Landlock, Namespaces, Seccomp],
        |place| {
            // SAFETY: takes numbers.
            let process = call::descriptor(unsafe {
                libc::syscall(libc::SYS_pidfd_open, place.stage.victim, 0)
            })?;
            use std::os::fd::AsRawFd;
            // SAFETY: takes numbers.
            let taken = call::descriptor(unsafe {
                let number = place.stage.victim_descriptor;
                libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0)
            })?;
            let mut bytes = vec![0; place.stage.token.len()];
            File::from(taken).read_exact_at(&mut bytes, 0)?;
            place.is_token(&bytes)
        },
    )
    .lacking(YAMA),
    attack(FAMILY, "trace-it", &[Ebpf, Landlock, Namespaces, Seccomp], |place| {
        // SAFETY: takes numbers.
        let traced = unsafe {
            let none = std::ptr::null_mut::<libc::c_void>();
            libc::ptrace(libc::PTRACE_SEIZE, place.stage.victim, none, none)
        };
        call::checked(traced).map(drop)
    })
    .lacking(YAMA),
    attack(
        FAMILY,
        "compare-its-descriptors",
        &[Ebpf, Landlock, Namespaces, Seccomp],
        |place| {
            const KCMP_FILES: i32 = 2;
            // SAFETY: takes numbers.
            let compared = unsafe {
                let (own, other) = (libc::getpid(), place.stage.victim);
                libc::syscall(libc::SYS_kcmp, own, other, KCMP_FILES, 0, 0)
            };
            call::checked(compared).map(drop)
        },
    )
    .lacking("not every kernel has kcmp(2)"),
];

fn proc(place: &Place, name: &str) -> String {
    format!("/proc/{}/{name}", place.stage.victim)
}

fn remote(place: &Place, length: usize) -> libc::iovec {
    libc::iovec {
        iov_base: place.stage.victim_address as *mut libc::c_void,
        iov_len: length,
    }
}

fn read_memory(place: &Place) -> Outcome {
    let mut bytes = vec![0_u8; place.stage.token.len()];
    let local = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let remote = remote(place, bytes.len());
    // SAFETY: one range of ours, and one of the other process, which the kernel checks.
    let read = unsafe {
        libc::process_vm_readv(
            place.stage.victim,
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    call::checked(read as libc::c_long)?;
    place.is_token(&bytes)
}

fn write_memory(place: &Place) -> Outcome {
    // The same bytes again: what counts is that they could be others.
    let bytes = place.stage.token.as_bytes();
    let local = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let remote = remote(place, bytes.len());
    // SAFETY: one range of ours, which is only read, and one of the other process.
    let written = unsafe {
        libc::process_vm_writev(
            place.stage.victim,
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    call::checked(written as libc::c_long).map(drop)
}
