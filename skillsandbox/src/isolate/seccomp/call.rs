//! System calls by name and number.

use libc::c_long;

/// A system call of this architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Call {
    /// Its name in the manual, such as `openat`.
    pub(super) name: &'static str,
    /// Its number.
    pub(super) number: c_long,
}

/// The calls that these constants of the libc crate number.
macro_rules! calls {
    ($($constant:ident)*) => {
        &[$($crate::isolate::seccomp::call::Call {
            name: $crate::isolate::seccomp::call::without_prefix(stringify!($constant)),
            number: libc::$constant,
        }),*]
    };
}
pub(super) use calls;

/// `SYS_openat` without `SYS_`.
pub(super) const fn without_prefix(constant: &'static str) -> &'static str {
    constant.split_at("SYS_".len()).1
}
