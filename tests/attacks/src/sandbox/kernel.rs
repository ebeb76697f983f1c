//! Calls to the kernel that no skill needs.

use crate::{Attack, Layer::Seccomp, Outcome, Place, attack, by_root, call};

const FAMILY: &str = "sandbox: the kernel";

const ONLY: &str =
    "no other layer sees the call; what it takes is the kernel's own code, not a right";

/// A call that any user may make.
const fn anybodys(name: &'static str, attempt: fn(&Place) -> Outcome) -> Attack {
    attack(FAMILY, name, &[Seccomp], attempt)
        .alone(ONLY)
        .lacking("a host may lack it, or keep it to root")
}

/// A call that only root may make.
const fn roots(name: &'static str, attempt: fn(&Place) -> Outcome) -> Attack {
    by_root(FAMILY, name, attempt).lacking("a host may keep it from root, too")
}

pub(crate) const ATTACKS: &[Attack] = &[
    roots("list-ebpf-programs", |_| {
        const BPF_PROG_GET_NEXT_ID: i32 = 11;
        let attribute = [0_u32; 32];
        // SAFETY: attributes of the size that is passed.
        call::checked(unsafe {
            let size = size_of_val(&attribute);
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_GET_NEXT_ID,
                attribute.as_ptr(),
                size,
            )
        })
        .map(drop)
    }),
    roots("make-an-ebpf-map", |_| {
        // Type array, key and value of four bytes, one entry.
        let mut attribute = [0_u32; 32];
        attribute[..4].copy_from_slice(&[2, 4, 4, 1]);
        // SAFETY: attributes of the size that is passed.
        call::descriptor(unsafe {
            let size = size_of_val(&attribute);
            libc::syscall(libc::SYS_bpf, 0, attribute.as_ptr(), size)
        })
        .map(drop)
    }),
    anybodys("watch-performance-counters", |_| {
        // `struct perf_event_attr`: a software clock, of this process in user space alone.
        let mut attribute = [0_u64; 17];
        attribute[0] = 1 | (size_of_val(&attribute) as u64) << 32;
        attribute[1] = 1;
        attribute[5] = 1 << 5 | 1 << 6;
        // SAFETY: attributes of the size that they say.
        call::descriptor(unsafe {
            libc::syscall(libc::SYS_perf_event_open, attribute.as_ptr(), 0, -1, -1, 0)
        })
        .map(drop)
    }),
    anybodys("handle-page-faults", |_| {
        const UFFD_USER_MODE_ONLY: i32 = 1;
        // SAFETY: takes numbers.
        call::descriptor(unsafe { libc::syscall(libc::SYS_userfaultfd, UFFD_USER_MODE_ONLY) })
            .map(drop)
    }),
    anybodys("make-an-io-uring", |_| {
        let mut parameters = [0_u8; 256];
        // SAFETY: room for the parameters.
        call::descriptor(unsafe {
            libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr())
        })
        .map(drop)
    }),
    anybodys("keep-a-key-in-the-kernel", |_| {
        const KEY_SPEC_PROCESS_KEYRING: i32 = -2;
        // SAFETY: NUL-terminated texts, and bytes of the size that is passed.
        call::checked(unsafe {
            let (kind, name) = (c"user".as_ptr(), c"attacked".as_ptr());
            libc::syscall(
                libc::SYS_add_key,
                kind,
                name,
                name,
                8,
                KEY_SPEC_PROCESS_KEYRING,
            )
        })
        .map(drop)
    }),
    anybodys("change-ones-personality", |_| {
        const ADDR_NO_RANDOMIZE: i32 = 0x0004_0000;
        // SAFETY: takes a number.
        call::checked(unsafe { libc::syscall(libc::SYS_personality, ADDR_NO_RANDOMIZE) }).map(drop)
    }),
    anybodys("watch-what-others-open", |_| {
        // SAFETY: takes numbers.
        call::descriptor(unsafe { libc::syscall(libc::SYS_fanotify_init, 0x200, 0) }).map(drop)
    }),
    roots("load-a-module", |_| {
        permitted(load_nothing(), &[libc::ENOEXEC, libc::EFAULT, libc::EINVAL])
    }),
    roots("restart-the-machine", |_| {
        // Without the numbers that it takes to be done.
        // SAFETY: takes numbers.
        let asked = unsafe { libc::syscall(libc::SYS_reboot, 1, 2, 3, 0) };
        permitted(call::checked(asked), &[libc::EINVAL])
    }),
    roots("replace-the-kernel", |_| {
        // SAFETY: no segments.
        let asked = unsafe { libc::syscall(libc::SYS_kexec_load, 0, 1 << 30, 0, 1 << 15) };
        permitted(call::checked(asked), &[libc::EINVAL])
    }),
    roots("swap-to-a-file", |_| {
        // SAFETY: a NUL-terminated text.
        let asked = unsafe { libc::swapon(c"/proc/self/no-such-file".as_ptr(), 0) };
        permitted(call::checked(asked.into()), &[libc::ENOENT])
    }),
    roots("read-the-kernels-log", |_| {
        const SIZE_UNREAD: i32 = 9;
        // SAFETY: takes numbers.
        call::checked(unsafe { libc::klogctl(SIZE_UNREAD, std::ptr::null_mut(), 0) }.into())
            .map(drop)
    }),
    roots("name-the-host", |_| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
        let name = name.trim();
        // SAFETY: bytes of the size that is passed: the name that it has.
        call::checked(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into())
            .map(drop)
    }),
    roots("account-for-processes", |_| {
        // SAFETY: a NUL-terminated text.
        let asked = unsafe { libc::acct(c"/proc/self/no-such-file".as_ptr()) };
        permitted(call::checked(asked.into()), &[libc::ENOENT])
    }),
    roots("set-the-clock", |_| {
        // SAFETY: all bytes zero changes nothing … but asks for the right to.
        let asked = unsafe {
            let mut time: libc::timex = std::mem::zeroed();
            time.modes = libc::ADJ_TICK;
            time.tick = 1;
            libc::adjtimex(&raw mut time)
        };
        permitted(call::checked(asked.into()), &[libc::EINVAL])
    }),
    roots("use-ports-of-the-machine", |_| {
        // SAFETY: takes a number.
        call::checked(unsafe { libc::syscall(libc::SYS_iopl, 3) }).map(drop)
    }),
];

/// Whoever lacks the right is told so before the rest is looked at.
fn permitted(outcome: std::io::Result<i32>, errors: &[i32]) -> Outcome {
    match outcome {
        Err(error)
            if errors
                .iter()
                .any(|number| error.raw_os_error() == Some(*number)) =>
        {
            Ok(())
        }
        other => other.map(drop),
    }
}

fn load_nothing() -> std::io::Result<i32> {
    // SAFETY: an image that is none, and no parameters.
    call::checked(unsafe {
        let image = c"no module".as_ptr();
        libc::syscall(libc::SYS_init_module, image, 9, c"".as_ptr())
    })
}
