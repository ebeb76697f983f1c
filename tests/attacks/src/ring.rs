//! `io_uring(7)` by hand: one request, and its result.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::call::{Result, checked, descriptor};

/// Offsets for `mmap`, and operations: `include/uapi/linux/io_uring.h`.
const OFF_SQ_RING: i64 = 0;
const OFF_SQES: i64 = 0x1000_0000;
const ENTER_GETEVENTS: u32 = 1;
const FEAT_SINGLE_MMAP: u32 = 1;
/// `IORING_OP_SENDMSG`
pub const SENDMSG: u8 = 9;
/// `IORING_OP_CONNECT`
pub const CONNECT: u8 = 16;
/// `IORING_OP_OPENAT`
pub const OPENAT: u8 = 18;

#[repr(C)]
#[derive(Default)]
struct SqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    reserved: u32,
    user_addr: u64,
}

#[repr(C)]
#[derive(Default)]
struct CqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    overflow: u32,
    cqes: u32,
    flags: u32,
    reserved: u32,
    user_addr: u64,
}

#[repr(C)]
#[derive(Default)]
struct Parameters {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    sq_off: SqOffsets,
    cq_off: CqOffsets,
}

/// `struct io_uring_sqe`.
#[repr(C)]
#[derive(Default)]
pub struct Request {
    /// `IORING_OP_*`
    pub opcode: u8,
    /// `IOSQE_*`
    pub flags: u8,
    /// Priority.
    pub ioprio: u16,
    /// A descriptor.
    pub fd: i32,
    /// `off`, or a socket address's length.
    pub off: u64,
    /// An address in memory.
    pub addr: u64,
    /// A length.
    pub len: u32,
    /// `open_flags`, or `msg_flags`.
    pub op_flags: u32,
    /// Comes back with the result.
    pub user_data: u64,
    /// Nothing here needs it.
    pub rest: [u64; 3],
}

#[repr(C)]
struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

fn map(ring: &OwnedFd, bytes: usize, offset: i64) -> Result<*mut libc::c_void> {
    // SAFETY: a new mapping of a descriptor of ours; nothing else uses its address.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            ring.as_raw_fd(),
            offset,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(address)
}

/// Submits one request on a new ring and waits for it. The mappings stay until this process
/// ends, which is soon.
///
/// # Safety
/// What `request` points to must stay valid during the call.
pub unsafe fn submit(request: Request) -> Result<i32> {
    let mut parameters = Parameters::default();
    // SAFETY: `parameters` has the size and shape of `struct io_uring_params`.
    let ring =
        descriptor(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1_u32, &raw mut parameters) })?;
    if parameters.features & FEAT_SINGLE_MMAP == 0 {
        return Err(io::Error::other(
            "rings in two mappings, as before Linux 5.4",
        ));
    }
    let (sq, cq) = (&parameters.sq_off, &parameters.cq_off);
    let bytes = (sq.array as usize + parameters.sq_entries as usize * 4)
        .max(cq.cqes as usize + parameters.cq_entries as usize * size_of::<Completion>());
    let rings = map(&ring, bytes, OFF_SQ_RING)?;
    let requests = map(&ring, size_of::<Request>(), OFF_SQES)?;
    // SAFETY: the offsets are the kernel's, inside the mapping that it made; the caller vouches
    // for the request's pointers.
    unsafe {
        requests.cast::<Request>().write(request);
        rings.byte_add(sq.array as usize).cast::<u32>().write(0);
        let tail = &*rings.byte_add(sq.tail as usize).cast::<AtomicU32>();
        tail.store(1, Ordering::Release);
        checked(libc::syscall(
            libc::SYS_io_uring_enter,
            ring.as_raw_fd(),
            1_u32,
            1_u32,
            ENTER_GETEVENTS,
            ptr::null::<u8>(),
            0_usize,
        ))?;
        let tail = &*rings.byte_add(cq.tail as usize).cast::<AtomicU32>();
        if tail.load(Ordering::Acquire) == 0 {
            return Err(io::Error::other("the ring answered nothing"));
        }
        let result = rings
            .add(cq.cqes as usize)
            .cast::<Completion>()
            .read()
            .result;
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        Ok(result)
    }
}
