//! Programs that make whoever runs them more than they were. All may be executed.

use crate::{Attack, Layer::Privileges, attack, by_root, stage::run};

const FAMILY: &str = "programs: gaining privileges";

const LOST: &str = "no_new_privs stops it before any other layer is asked, and is never left out; nosuid \
    mounts would as well";

pub(crate) const ATTACKS: &[Attack] = &[
    attack(FAMILY, "execute-a-setuid-program", &[Privileges], |place| {
        run(&place.stage.setuid, &["root"])
    })
    .alone(LOST),
    attack(
        FAMILY,
        "execute-a-program-with-capabilities",
        &[Privileges],
        |place| run(&place.stage.capable, &["root"]),
    )
    .alone(LOST)
    .lacking("not every file system keeps capabilities"),
    by_root(FAMILY, "become-root", |_| {
        // SAFETY: takes a number.
        crate::call::checked(unsafe { libc::setuid(0) }.into()).map(drop)
    }),
];
