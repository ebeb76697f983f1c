//! Reads the rings of one sandbox.

use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{MapData, RingBuf};

use super::Folds;

/// The ring of denied accesses and the ring of everything else.
pub struct Rings {
    events: RingBuf<MapData>,
    denials: RingBuf<MapData>,
    folds: Option<Folds>,
}

impl Rings {
    pub(super) fn new(
        events: RingBuf<MapData>,
        denials: RingBuf<MapData>,
        folds: Option<Folds>,
    ) -> Self {
        Self {
            events,
            denials,
            folds,
        }
    }

    /// Accesses that were counted with earlier ones, where that is done.
    pub fn folds(&mut self) -> Option<&mut Folds> {
        self.folds.as_mut()
    }

    /// Hands over at most `most` events, and then every denial that is there, and answers how
    /// many events there were. In this order a denial that was made before the last event taken
    /// is taken with it.
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> usize {
        let mut taken = 0;
        while taken < most {
            let Some(event) = self.events.next() else {
                break;
            };
            take(&event);
            taken += 1;
        }
        while let Some(event) = self.denials.next() {
            take(&event);
            taken += 1;
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
