//! The system calls that rustix does not wrap. The only file of this module with `unsafe` code.
#![expect(
    unsafe_code,
    reason = "each function wraps one system call and says why it is sound"
)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use rustix::io::FdFlags;
use rustix::mount::MountAttrFlags;
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Which side of a [`fork`] this is.
pub(super) enum Forked {
    /// The process that called, and the child that it now has.
    Parent(Pid),
    /// The new process.
    Child,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Duplicates this process, which must have one thread only: a lock that another thread holds
/// would stay locked in the child for ever.
pub(super) fn fork() -> io::Result<Forked> {
    refuse_other_threads()?;
    // SAFETY: no other thread exists, so the child's copy of memory is consistent.
    forked(libc::c_long::from(unsafe { libc::fork() }))
}

/// The same, with the child in this cgroup from the first moment on: `CLONE_INTO_CGROUP`, clone(2), Linux 5.7. To join one
/// later waits for every processor (`cgroup_threadgroup_rwsem`, `kernel/cgroup/cgroup.c`), some ten milliseconds.
pub(super) fn fork_into(cgroup: BorrowedFd<'_>) -> io::Result<Forked> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    refuse_other_threads()?;
    // SAFETY: every field is a number, for which zero means that nothing is asked.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = CLONE_INTO_CGROUP;
    arguments.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    arguments.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    // SAFETY: no memory is shared and no stack given, so this is `fork`; no other thread exists. What the C library does
    // around its own is about handlers that nobody here has set, and locks that nobody holds.
    forked(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    })
}

fn refuse_other_threads() -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("more than one thread is running"));
    }
    Ok(())
}

fn forked(result: libc::c_long) -> io::Result<Forked> {
    let pid = i32::try_from(check(result)?).ok();
    Ok(pid
        .and_then(Pid::from_raw)
        .map_or(Forked::Child, Forked::Parent))
}

/// Has this thread run before all that share the processors by weight, and at once when it wakes: `SCHED_FIFO`, sched(7).
/// A nice value will not do: it counts within a session alone (`autogroup`).
pub(crate) fn run_in_real_time() -> io::Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the kernel reads the parameter, which lives until the call is over; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) };
    check(result.into()).map(drop)
}

/// Leaves the namespaces named by `flags` for new ones.
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: the descriptor table stays shared (no `FILES`), which is the only hazard.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// `struct mount_attr` of `include/uapi/linux/mount.h`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds `set` to the attributes of the mount that `mount` is the root of, and of those below it
/// when `recursive`, and cuts its propagation. Linux 5.12.
pub(super) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    set: MountAttrFlags,
    recursive: bool,
) -> io::Result<()> {
    let attributes = MountAttr {
        set: u64::from(set.bits()),
        clear: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated constant, and the kernel reads exactly the size given
    // from a struct that outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// Marks every descriptor but standard input, output and error to be closed by `execve`.
/// Linux 5.11.
pub(super) fn keep_only_standard_streams() -> io::Result<()> {
    // SAFETY: no memory is passed, and nothing is closed before `execve`.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })?;
    Ok(())
}

/// Takes ownership of a descriptor that the parent process left open for this one.
///
/// Each number may be taken once, and only if nothing else in this process owns it.
pub(super) fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `F_GETFD` only asks whether the number is open.
    check(libc::c_long::from(unsafe {
        libc::fcntl(descriptor, libc::F_GETFD)
    }))?;
    // SAFETY: it is open, and the caller promises that nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Leaves `descriptors` open, under the same numbers, in the process that `command` starts.
///
/// The caller keeps them open until then.
pub(crate) fn inherit(command: &mut Command, descriptors: Vec<RawFd>) {
    let clear = move || {
        for &descriptor in &descriptors {
            // SAFETY: the caller keeps it open until the child exists, which has a copy of it.
            let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
            rustix::io::fcntl_setfd(borrowed, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes plain system calls; it neither allocates
    // nor takes a lock.
    unsafe { command.pre_exec(clear) };
}

/// Blocks `SIGCHLD` and returns a descriptor that becomes readable when a child changes state.
pub(super) fn child_signals() -> io::Result<File> {
    // SAFETY: a zeroed set is valid memory for `sigemptyset` to fill, and the set outlives the
    // calls that read it. The descriptor is new, so nothing else owns it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::c_long::from(libc::sigprocmask(
            libc::SIG_BLOCK,
            &raw const set,
            ptr::null_mut(),
        )))?;
        let descriptor = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(libc::c_long::from(descriptor))?;
        Ok(File::from_raw_fd(descriptor))
    }
}

/// Gives every signal its default action and blocks none, as a new program expects.
pub(super) fn reset_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action runs no code of ours. The two signals that have no other
        // action, and those that the C library keeps for itself, answer EINVAL.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: as in `child_signals`.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        check(libc::c_long::from(libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const set,
            ptr::null_mut(),
        )))?;
    }
    Ok(())
}

/// Replaces this program by another. Returns only when that failed.
pub(super) fn exec(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists end with a null pointer, and their strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Changes the user and group by which this thread, and no other, reaches files, and answers whether they are these now
/// (setfsuid(2)). The kernel takes the capabilities about files away with user 0 and gives them back with it.
pub(super) fn reach_files_as(uid: u32, gid: u32) -> bool {
    const ASK: libc::c_long = -1;
    // SAFETY: no memory is passed.
    let change = |call, id| unsafe {
        libc::syscall(call, libc::c_long::from(id));
        libc::syscall(call, ASK) == libc::c_long::from(id)
    };
    // The group changes while the user is 0.
    change(libc::SYS_setfsuid, 0)
        && change(libc::SYS_setfsgid, gid)
        && change(libc::SYS_setfsuid, uid)
}

/// Makes a system call that has no effect, for its error number; 0 when it succeeded.
///
/// Only for calls that touch no memory of this process with the two arguments given.
pub(super) fn probe(number: libc::c_long, [first, second]: [libc::c_long; 2]) -> i32 {
    let zero: libc::c_long = 0;
    // SAFETY: the caller picks a call whose remaining arguments, all zero, name no memory.
    match check(unsafe { libc::syscall(number, first, second, zero, zero, zero, zero) }) {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    }
}

/// Version of Landlock that the kernel offers, 0 for none. Linux 5.13.
pub(super) fn landlock_abi() -> i64 {
    const CREATE_RULESET_VERSION: libc::c_long = 1;
    // SAFETY: with this flag the kernel reads no memory and creates nothing.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<libc::c_void>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    version.max(0)
}
