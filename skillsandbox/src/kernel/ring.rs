//! Reads the rings of one sandbox.

use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{MapData, RingBuf};

/// The ring of denied accesses and the ring of everything else.
pub struct Rings {
    events: RingBuf<MapData>,
    denials: RingBuf<MapData>,
}

impl Rings {
    pub(super) fn new(events: RingBuf<MapData>, denials: RingBuf<MapData>) -> Self {
        Self { events, denials }
    }

    /// Hands over every event that is there, denials first, and answers how many there were.
    /// `take` may stop the drain by answering `false`.
    pub fn drain(&mut self, mut take: impl FnMut(&[u8]) -> bool) -> usize {
        let mut taken = 0;
        for ring in [&mut self.denials, &mut self.events] {
            while let Some(event) = ring.next() {
                taken += 1;
                if !take(&event) {
                    return taken;
                }
            }
        }
        taken
    }

    /// The descriptors that become readable when there is something urgent: a denial, or a ring
    /// that is half full. Everything else is to be looked for on a timer.
    #[must_use]
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.denials.as_fd(), self.events.as_fd()]
    }
}

impl std::fmt::Debug for Rings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rings").finish_non_exhaustive()
    }
}
