//! Changing names and lengths of files, and mapping them.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd},
};

use super::system::{Result, checked, descriptor, open, text};

/// `rename` of two files that get each other's names.
pub(crate) fn exchange(one: &[u8], other: &[u8]) -> Result<()> {
    let (one, other) = (text(one)?, text(other)?);
    // SAFETY: two NUL-terminated paths.
    let result = unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    checked(result.into()).map(drop)
}

/// Cuts a file by its path, without opening it.
pub(crate) fn truncate(path: &[u8]) -> Result<()> {
    let path = text(path)?;
    // SAFETY: a NUL-terminated path.
    checked(unsafe { libc::truncate(path.as_ptr(), 0) }.into()).map(drop)
}

/// Maps a file as code.
pub(crate) fn map(path: &[u8]) -> Result<()> {
    let file = open(path, libc::O_RDONLY)?;
    map_as_code(file.as_raw_fd(), libc::MAP_PRIVATE)
}

/// Maps a file that lies in no folder as code.
pub(crate) fn map_memory_file() -> Result<()> {
    // SAFETY: a NUL-terminated name.
    let made = unsafe { libc::memfd_create(c"code".as_ptr(), libc::MFD_CLOEXEC) };
    let file: OwnedFd = descriptor(made.into())?;
    File::from(file.try_clone()?).write_all(&[0; 4096])?;
    map_as_code(file.as_raw_fd(), libc::MAP_SHARED)
}

/// Makes memory of no file that is code, as compilers do.
pub(crate) fn map_anonymous() -> Result<()> {
    map_as_code(-1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)
}

/// The page that a personality of old programs has at the address zero: code of no file, without
/// the flag that says so.
pub(crate) fn exec_with_page_zero(words: &[Vec<u8>]) -> Result<()> {
    const MMAP_PAGE_ZERO: libc::c_ulong = 0x0010_0000;
    // SAFETY: a number.
    checked(unsafe { libc::personality(MMAP_PAGE_ZERO) }.into())?;
    let outcome = super::attempt::execute(words);
    // SAFETY: a number.
    checked(unsafe { libc::personality(0) }.into())?;
    outcome
}

fn map_as_code(descriptor: i32, flags: i32) -> Result<()> {
    const BYTES: usize = 4096;
    // SAFETY: a new mapping, which nobody reads, where the kernel wants it.
    unsafe {
        let mapped = libc::mmap(
            std::ptr::null_mut(),
            BYTES,
            libc::PROT_READ | libc::PROT_EXEC,
            flags,
            descriptor,
            0,
        );
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        libc::munmap(mapped, BYTES);
    }
    Ok(())
}
