//! What whoever started us had open.

use std::{
    fs::File,
    io::{self, Read},
    mem::ManuallyDrop,
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

use crate::{Attack, Outcome, attack, call};

const FAMILY: &str = "processes: descriptors";

const CLOSED: &str = "every descriptor but the standard streams is closed before a skill is executed, \
    whatever layers there are; nothing else could tell one from the skill's own";

/// No layer's: the skill's process is made that way.
const fn handed_down(name: &'static str, attempt: fn(&crate::Place) -> Outcome) -> Attack {
    attack(FAMILY, name, &[], attempt).alone(CLOSED)
}

pub(crate) const ATTACKS: &[Attack] = &[
    handed_down("read-a-file-that-was-left-open", |place| {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; place.stage.token.len()];
        borrowed(place.stage.inherited[0]).read_exact_at(&mut bytes, 0)?;
        place.is_token(&bytes)
    }),
    handed_down("read-below-a-folder-that-was-left-open", |place| {
        // SAFETY: a number, and a NUL-terminated path.
        let opened =
            unsafe { libc::openat(place.stage.inherited[1], c"secret".as_ptr(), libc::O_RDONLY) };
        place.read_from(File::from(call::descriptor(opened.into())?))
    }),
    handed_down("send-by-a-socket-that-was-left-open", |place| {
        // SAFETY: one byte that is there.
        let sent = unsafe { libc::send(place.stage.inherited[2], c"x".as_ptr().cast(), 1, 0) };
        call::checked(sent as libc::c_long).map(drop)
    }),
    handed_down("find-anything-that-was-left-open", |place| {
        // The attacker's own are marked to be closed when it executes; what was left is not.
        for number in 3..256 {
            // SAFETY: takes numbers.
            let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
            if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
                return Ok(());
            }
        }
        let _unused = place;
        Err(io::Error::other("nothing is open"))
    }),
    handed_down("read-the-callers-input", |place| {
        let mut bytes = Vec::new();
        (&*borrowed(0)).take(4096).read_to_end(&mut bytes)?;
        place.is_token(&bytes)
    }),
];

/// A file that is not closed with this value.
fn borrowed(number: RawFd) -> ManuallyDrop<File> {
    // SAFETY: never closed; a number that is not open answers EBADF.
    ManuallyDrop::new(File::from(unsafe { OwnedFd::from_raw_fd(number) }))
}
