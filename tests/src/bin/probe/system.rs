//! System calls with words as arguments, and their errors by name.

use std::{ffi::CString, io, os::fd::FromRawFd, os::fd::OwnedFd};

pub(crate) type Result<T> = io::Result<T>;

/// The name of an error as tests compare it.
pub(crate) fn name_of(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => "EPERM".to_owned(),
        Some(libc::EACCES) => "EACCES".to_owned(),
        Some(libc::ENOENT) => "ENOENT".to_owned(),
        Some(libc::ENOEXEC) => "ENOEXEC".to_owned(),
        Some(libc::EROFS) => "EROFS".to_owned(),
        Some(libc::ENAMETOOLONG) => "ENAMETOOLONG".to_owned(),
        Some(libc::ECONNREFUSED) => "ECONNREFUSED".to_owned(),
        Some(libc::ENOSYS) => "ENOSYS".to_owned(),
        _ => error.to_string(),
    }
}

pub(crate) fn text(word: &[u8]) -> Result<CString> {
    CString::new(word).map_err(io::Error::from)
}

/// The result of a system call, or its error.
pub(crate) fn checked(result: libc::c_long) -> Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

/// The descriptor that a system call answers.
pub(crate) fn descriptor(result: libc::c_long) -> Result<OwnedFd> {
    let number = checked(result)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// `open(2)`.
pub(crate) fn open(path: &[u8], flags: i32) -> Result<OwnedFd> {
    let path = text(path)?;
    // SAFETY: the path is NUL-terminated and outlives the call.
    descriptor(libc::c_long::from(unsafe {
        libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o666)
    }))
}
