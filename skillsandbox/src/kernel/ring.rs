//! Reads the rings of one sandbox.
//!
//! A reader says apart from reading what it has kept. So one that is killed in between leaves it on the rings for the
//! next, and nothing is lost; what was kept all the same comes twice, and is known by its sequence number.

use std::{
    ffi::c_void,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};

use aya::{
    maps::{MapData, MapError},
    sys::SyscallError,
};
use aya_obj::generated::{BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, BPF_RINGBUF_HDR_SZ};
use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    param::page_size,
};
use skillsandbox_common::{
    header::EventPrefix,
    names::{MAP_DENIALS, MAP_EVENTS},
};

use super::{Folds, KernelError};

/// The ring of denied accesses and the rings of everything else.
#[derive(Debug)]
pub struct Rings {
    events: Vec<Ring>,
    denials: Ring,
    folds: Option<Folds>,
}

impl Rings {
    pub(super) fn new(
        events: Vec<MapData>,
        denials: MapData,
        folds: Option<Folds>,
    ) -> Result<Self, KernelError> {
        let events = events.into_iter().map(|ring| Ring::of(MAP_EVENTS, ring));
        Ok(Self {
            events: events.collect::<Result<_, _>>()?,
            denials: Ring::of(MAP_DENIALS, denials)?,
            folds,
        })
    }

    /// Accesses that were counted with earlier ones, where that is done.
    pub fn folds(&mut self) -> Option<&mut Folds> {
        self.folds.as_mut()
    }

    /// Whether there are several rings of events. Then something can have been made before what was drained from
    /// another, and not be drained yet: what had come to its ring before is drained the next time.
    #[must_use]
    pub fn are_several(&self) -> bool {
        self.events.len() > 1
    }

    /// Hands over at most `most` of the events that are there, and then every denial. In this order a denial that was made
    /// before the last event taken is taken with it. They stay on the rings until [`release`](Self::release).
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> Drained {
        self.events.iter_mut().for_each(Ring::look);
        let mut drained = Drained::default();
        while drained.events < most {
            let rings = self.events.iter_mut();
            let heads = rings.filter_map(|ring| Some((ring.head()?.number, ring)));
            let Some((number, ring)) = heads.min_by_key(|(number, _)| *number) else {
                break;
            };
            let Some(event) = ring.next() else { break };
            take(event);
            drained.events += 1;
            drained.last = drained.last.max(number);
        }
        self.denials.look();
        while let Some(event) = self.denials.next() {
            take(event);
            drained.denials += 1;
        }
        drained
    }

    /// Everything that was handed over is kept: its room on the rings is free.
    pub fn release(&mut self) {
        self.events.iter_mut().for_each(Ring::release);
        self.denials.release();
    }

    /// How full they are, for another thread than the one that reads them.
    pub fn fill(&self) -> Result<Fill, KernelError> {
        let events = self.events.iter();
        let events = events.map(|ring| FillOfOne::of(MAP_EVENTS, ring));
        let denials = FillOfOne::of(MAP_DENIALS, &self.denials);
        events.chain([denials]).collect::<Result<_, _>>().map(Fill)
    }

    /// The descriptors that become readable when there is something urgent: a denial, or a ring
    /// that is half full. Everything else is to be looked for on a timer.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let rings = self.events.iter().chain([&self.denials]);
        rings.map(|ring| ring.map.fd().as_fd())
    }
}

/// What was handed over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drained {
    /// How many events.
    pub events: usize,
    /// The highest number of these.
    pub last: u64,
    /// How many denials.
    pub denials: usize,
}

/// One ring (`BPF_MAP_TYPE_RINGBUF`, Linux 5.8; `kernel/bpf/ringbuf.c`): a page that says how far it is read, a page that
/// says how far it is written, and the data, twice in a row.
#[derive(Debug)]
struct Ring {
    map: MapData,
    read_to: Pages,
    written: Pages,
    /// Bytes of the data; a power of two.
    size: usize,
    /// How far it was handed over.
    at: usize,
    /// How far it was written when that was last looked at. Each look takes the word from the processor that writes it.
    end: usize,
    /// What begins there.
    head: Option<Head>,
}

/// A record that is whole.
#[derive(Clone, Copy, Debug)]
struct Head {
    /// The sequence number of its event.
    number: u64,
    /// Where its event is, in the pages.
    start: usize,
    length: usize,
    /// Where the next record begins, as the reader's position counts.
    next: usize,
}

impl Ring {
    fn of(name: &'static str, map: MapData) -> Result<Self, KernelError> {
        let info = map.info().map_err(KernelError::map("read", name))?;
        let size = info.max_entries() as usize;
        let page = page_size();
        let fd = map.fd().as_fd();
        let read_to = Pages::of(name, fd, 0, page, ProtFlags::READ | ProtFlags::WRITE)?;
        let written = Pages::of(name, fd, page, page + 2 * size, ProtFlags::READ)?;
        let at = read_to.position().load(Ordering::Acquire);
        Ok(Self {
            map,
            read_to,
            written,
            size,
            at,
            end: at,
            head: None,
        })
    }

    /// Everything that is there now is to be handed over.
    fn look(&mut self) {
        // Records up to here are whole, or marked as busy.
        self.end = self.written.position().load(Ordering::Acquire);
    }

    fn next(&mut self) -> Option<&[u8]> {
        let head = self.head()?;
        self.head = None;
        self.at = head.next;
        self.written.bytes(head.start, head.length)
    }

    /// What is handed over next.
    fn head(&mut self) -> Option<Head> {
        while self.head.is_none() && self.at != self.end {
            let start = page_size() + (self.at & (self.size - 1));
            let header = self.written.word(start)?.load(Ordering::Acquire);
            if header & BPF_RINGBUF_BUSY_BIT != 0 {
                return None;
            }
            let length = (header & !BPF_RINGBUF_DISCARD_BIT) as usize;
            let head = BPF_RINGBUF_HDR_SZ as usize;
            let record = (head + length).next_multiple_of(size_of::<u64>());
            let next = self.at.wrapping_add(record);
            if header & BPF_RINGBUF_DISCARD_BIT != 0 {
                self.at = next;
                continue;
            }
            let start = start + head;
            self.head = Some(Head {
                number: EventPrefix::sequence_of(self.written.bytes(start, length)?),
                start,
                length,
                next,
            });
        }
        self.head
    }

    /// What was handed over may be written over from now on.
    fn release(&mut self) {
        self.read_to.position().store(self.at, Ordering::Release);
    }
}

/// How full the rings of one sandbox are.
#[derive(Debug)]
pub struct Fill(Vec<FillOfOne>);

#[derive(Debug)]
struct FillOfOne {
    ring: OwnedFd,
    read_to: Pages,
    written: Pages,
    size: usize,
}

impl Fill {
    /// Of the fullest one, what is not read yet in percent of its room.
    #[must_use]
    pub fn percent(&self) -> usize {
        let percent = |ring: &FillOfOne| {
            // In this order: what is read was written before.
            let read_to = ring.read_to.position().load(Ordering::Acquire);
            let written = ring.written.position().load(Ordering::Acquire);
            written.wrapping_sub(read_to) * 100 / ring.size
        };
        self.0.iter().map(percent).max().unwrap_or_default()
    }

    /// The descriptors through which the kernel tells when one is more than half full, and of the first denial on an empty one.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|ring| ring.ring.as_fd())
    }
}

impl FillOfOne {
    fn of(name: &'static str, ring: &Ring) -> Result<Self, KernelError> {
        let fd = ring.map.fd().as_fd();
        let own = fd.try_clone_to_owned().map_err(MapError::from);
        let page = page_size();
        Ok(Self {
            ring: own.map_err(KernelError::map("read", name))?,
            read_to: Pages::of(name, fd, 0, page, ProtFlags::READ)?,
            written: Pages::of(name, fd, page, page, ProtFlags::READ)?,
            size: ring.size,
        })
    }
}

/// Pages of a map.
#[derive(Debug)]
struct Pages {
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: the pages belong to this value alone, wherever it is.
#[expect(unsafe_code, reason = "a pointer says nothing of who may have it")]
unsafe impl Send for Pages {}

#[expect(unsafe_code, reason = "the kernel's memory is read and written")]
impl Pages {
    /// Of the map of this name.
    fn of(
        name: &'static str,
        map: BorrowedFd<'_>,
        offset: usize,
        length: usize,
        access: ProtFlags,
    ) -> Result<Self, KernelError> {
        Self::map(map, offset, length, access).map_err(|io_error| {
            let call = "mmap";
            let error = MapError::SyscallError(SyscallError { call, io_error });
            KernelError::map("read", name)(error)
        })
    }

    fn map(
        map: BorrowedFd<'_>,
        offset: usize,
        length: usize,
        access: ProtFlags,
    ) -> io::Result<Self> {
        // SAFETY: a new mapping, where the kernel wants it.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                length,
                access,
                MapFlags::SHARED,
                map,
                offset as u64,
            )?
        };
        let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    /// The position that the first page begins with.
    fn position(&self) -> &AtomicUsize {
        // SAFETY: a page is longer than a word and begins at a multiple of its size; the kernel only accesses it
        // atomically.
        unsafe { self.start.cast().as_ref() }
    }

    /// The word at an offset.
    fn word(&self, at: usize) -> Option<&AtomicU32> {
        let fits = at.is_multiple_of(size_of::<u32>()) && at + size_of::<u32>() <= self.length;
        // SAFETY: it lies within the mapping, at a multiple of its size; the kernel only accesses headers atomically once
        // they are reachable.
        fits.then(|| unsafe { self.start.byte_add(at).cast().as_ref() })
    }

    /// The bytes of a record that is whole.
    fn bytes(&self, at: usize, length: usize) -> Option<&[u8]> {
        let fits = at.checked_add(length)? <= self.length;
        // SAFETY: they lie within the mapping, and the kernel does not write over a record before the reader's position
        // is behind it, which takes `&mut` of the ring.
        fits.then(|| unsafe {
            std::slice::from_raw_parts(self.start.byte_add(at).cast().as_ptr(), length)
        })
    }
}

#[expect(unsafe_code, reason = "what was mapped is unmapped")]
impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, to which no reference is left. It cannot fail on one that is there.
        let _gone = unsafe { munmap(self.start.as_ptr(), self.length) };
    }
}
