//! System calls with words as arguments, and their errors by name.

use std::io;

pub(crate) use skillsandbox_attacks::call::{Result, checked, descriptor, open, text};

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
