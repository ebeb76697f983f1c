//! System calls by hand.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// The outcome of a call.
pub type Result<T> = io::Result<T>;

/// A text that ends with NUL.
pub fn text(word: impl AsRef<[u8]>) -> Result<CString> {
    CString::new(word.as_ref()).map_err(io::Error::from)
}

/// A path that ends with NUL.
pub fn path(path: impl AsRef<Path>) -> Result<CString> {
    text(path.as_ref().as_os_str().as_bytes())
}

/// The result of a system call, or its error.
pub fn checked(result: libc::c_long) -> Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

/// The descriptor that a system call answers.
pub fn descriptor(result: libc::c_long) -> Result<OwnedFd> {
    let number = checked(result)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// `open(2)`.
pub fn open(path: impl AsRef<[u8]>, flags: i32) -> Result<OwnedFd> {
    let path = text(path)?;
    // SAFETY: the path is NUL-terminated and outlives the call.
    descriptor(libc::c_long::from(unsafe {
        libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o666)
    }))
}

/// Runs `inside` in a child and answers its outcome.
pub(crate) fn in_child(inside: impl FnOnce() -> Result<()>) -> Result<()> {
    let (mut ends, mut status) = ([0; 2], 0);
    // SAFETY: this process has one thread, so the child may do what it could.
    unsafe {
        checked(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC).into())?;
        let child = checked(libc::fork().into())?;
        if child == 0 {
            let error = inside()
                .err()
                .map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
            libc::write(ends[1], (&raw const error).cast(), 4);
            libc::_exit(i32::from(error != 0));
        }
        libc::close(ends[1]);
        let mut error = 0_i32;
        let told = libc::read(ends[0], (&raw mut error).cast(), 4);
        libc::close(ends[0]);
        checked(libc::waitpid(child, &raw mut status, 0).into())?;
        if told == 4 && error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
    }
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!("ended with status {status:#x}")))
    }
}

/// Executes what a descriptor leads to, in place of this process.
pub(crate) fn execute(program: &impl AsRawFd, arguments: &[&str]) -> Result<()> {
    let words = arguments.iter().map(text).collect::<Result<Vec<_>>>()?;
    let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let environment = [std::ptr::null::<libc::c_char>()];
    // SAFETY: arguments and environment end with NULL and outlive the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            pointers.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    })
    .map(drop)
}
