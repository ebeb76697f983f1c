//! Body of `fork` and `exit`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A process began or ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ProcessBody {
    /// `fork`: process id of the child. `exit`: zero.
    pub child: u32,
    /// `exit`: status as `wait(2)` encodes it. `fork`: zero.
    pub status: i32,
}

const _: () = assert!(size_of::<ProcessBody>() == 8);
