//! Changing a file without opening it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::{
    Attack,
    Layer::{EbpfNames, LandlockTruncate, Mounts},
    Outcome, attack, call,
};

const FAMILY: &str = "files: attributes";

const ONE: &str = "no LSM hook for it is told a path, and Landlock does not restrict it: \
    where nothing is granted mounts leave no name to call it by, where reading is they are read-only";

pub(crate) const ATTACKS: &[Attack] = &[
    attack(FAMILY, "chmod", &[EbpfNames, Mounts], |place| {
        chmod(&place.victim())
    }),
    attack(
        FAMILY,
        "chmod-what-may-be-read",
        &[EbpfNames, Mounts],
        |place| chmod(&place.readable("file")),
    ),
    attack(FAMILY, "chown-to-oneself", &[EbpfNames, Mounts], |place| {
        std::os::unix::fs::chown(place.victim(), None, Some(65534))
    }),
    attack(FAMILY, "change-its-times", &[Mounts], |place| {
        times(&place.victim())
    })
    .alone(ONE),
    attack(
        FAMILY,
        "change-the-times-of-what-may-be-read",
        &[Mounts],
        |place| times(&place.readable("file")),
    )
    .alone(ONE),
    attack(FAMILY, "set-an-attribute", &[Mounts], |place| {
        attribute(&place.victim())
    })
    .alone(ONE)
    .lacking("not every file system keeps attributes of users"),
    attack(
        FAMILY,
        "set-an-attribute-of-what-may-be-read",
        &[Mounts],
        |place| attribute(&place.readable("file")),
    )
    .alone(ONE)
    .lacking("not every file system keeps attributes of users"),
    attack(
        FAMILY,
        "truncate",
        &[EbpfNames, Mounts, LandlockTruncate],
        |place| truncate(&place.victim()),
    ),
    attack(
        FAMILY,
        "truncate-what-may-be-read",
        &[EbpfNames, Mounts, LandlockTruncate],
        |place| truncate(&place.readable("file")),
    ),
];

fn chmod(path: &Path) -> Outcome {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

fn times(path: &Path) -> Outcome {
    let path = call::path(path)?;
    let times = [libc::timeval {
        tv_sec: 1,
        tv_usec: 0,
    }; 2];
    // SAFETY: a NUL-terminated path and two times.
    call::checked(unsafe { libc::utimes(path.as_ptr(), times.as_ptr()) }.into()).map(drop)
}

fn attribute(path: &Path) -> Outcome {
    let path = call::path(path)?;
    // SAFETY: NUL-terminated texts, and a value of the size that is passed.
    let set = unsafe {
        let name = c"user.attacked".as_ptr();
        libc::setxattr(path.as_ptr(), name, c"yes".as_ptr().cast(), 3, 0)
    };
    call::checked(set.into()).map(drop)
}

fn truncate(path: &Path) -> Outcome {
    let path = call::path(path)?;
    // SAFETY: a NUL-terminated path.
    call::checked(unsafe { libc::truncate(path.as_ptr(), 0) }.into()).map(drop)
}
