//! Striking a process outside.

use std::os::fd::AsRawFd;

use crate::{
    Attack,
    Layer::{LandlockScopes, Namespaces},
    attack, call,
};

const FAMILY: &str = "processes: signals";

const SIGNAL: i32 = libc::SIGUSR1;

pub(crate) const ATTACKS: &[Attack] = &[
    attack(
        FAMILY,
        "signal-it",
        &[Namespaces, LandlockScopes],
        |place| {
            // SAFETY: takes numbers.
            call::checked(unsafe { libc::kill(place.stage.victim, SIGNAL) }.into()).map(drop)
        },
    ),
    attack(
        FAMILY,
        "signal-its-thread",
        &[Namespaces, LandlockScopes],
        |place| {
            let victim = place.stage.victim;
            // SAFETY: takes numbers.
            call::checked(unsafe { libc::syscall(libc::SYS_tgkill, victim, victim, SIGNAL) })
                .map(drop)
        },
    ),
    attack(
        FAMILY,
        "queue-a-signal",
        &[Namespaces, LandlockScopes],
        |place| {
            let value = libc::sigval {
                sival_ptr: std::ptr::null_mut(),
            };
            // SAFETY: takes numbers.
            call::checked(unsafe { libc::sigqueue(place.stage.victim, SIGNAL, value) }.into())
                .map(drop)
        },
    ),
    attack(
        FAMILY,
        "signal-it-by-descriptor",
        &[Namespaces, LandlockScopes],
        |place| {
            // SAFETY: takes numbers.
            let process = call::descriptor(unsafe {
                libc::syscall(libc::SYS_pidfd_open, place.stage.victim, 0)
            })?;
            // SAFETY: takes numbers, and no details.
            call::checked(unsafe {
                let details = std::ptr::null::<libc::siginfo_t>();
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    process.as_raw_fd(),
                    SIGNAL,
                    details,
                    0,
                )
            })
            .map(drop)
        },
    ),
    attack(FAMILY, "change-its-priority", &[Namespaces], |place| {
        let victim = libc::id_t::try_from(place.stage.victim).unwrap_or(0);
        // SAFETY: takes numbers.
        call::checked(unsafe { libc::setpriority(libc::PRIO_PROCESS, victim, 10) }.into()).map(drop)
    })
    .alone("no eBPF program is on its hook: the PID namespace hides whom it would be done to"),
    attack(FAMILY, "change-its-limits", &[Namespaces], |place| {
        let limit = libc::rlimit {
            rlim_cur: 64,
            rlim_max: 1024,
        };
        // SAFETY: a limit to set, and none to be told.
        call::checked(
            unsafe {
                let none = std::ptr::null_mut();
                libc::prlimit(
                    place.stage.victim,
                    libc::RLIMIT_CORE,
                    &raw const limit,
                    none,
                )
            }
            .into(),
        )
        .map(drop)
    })
    .alone("no eBPF program is on its hook: the PID namespace hides whom it would be done to"),
    attack(FAMILY, "choose-its-processors", &[Namespaces], |place| {
        let all = [u64::MAX; 16];
        // SAFETY: a mask of the size that is passed.
        call::checked(
            unsafe {
                let size = size_of_val(&all);
                libc::sched_setaffinity(place.stage.victim, size, all.as_ptr().cast())
            }
            .into(),
        )
        .map(drop)
    })
    .alone("no eBPF program is on its hook: the PID namespace hides whom it would be done to"),
];
