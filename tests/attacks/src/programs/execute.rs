//! Executing them.

use std::{
    fs,
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{PermissionsExt, symlink},
        },
    },
    path::Path,
};

use crate::{
    Attack,
    Layer::{Ebpf, Landlock, Mounts, Seccomp},
    Place, attack, call,
    stage::run,
};

const FAMILY: &str = "programs: executing";

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
const TRUE: &str = "/usr/bin/true";

pub(crate) const ATTACKS: &[Attack] = &[
    attack(
        FAMILY,
        "execute-a-program-of-the-system",
        &[Ebpf, Landlock],
        |_| run(TRUE, &[]),
    ),
    attack(
        FAMILY,
        "execute-it-through-proc-self-root",
        &[Ebpf, Landlock],
        |_| run(format!("/proc/self/root{TRUE}"), &[]),
    ),
    attack(
        FAMILY,
        "execute-it-through-a-symlink",
        &[Ebpf, Landlock],
        |place| {
            symlink(TRUE, place.allowed("link"))?;
            run(place.allowed("link"), &[])
        },
    ),
    attack(
        FAMILY,
        "execute-it-through-a-descriptor",
        &[Ebpf, Landlock],
        |_| {
            let program = call::open(TRUE, libc::O_RDONLY)?;
            call::in_child(|| call::execute(&program, &["true"]))
        },
    ),
    attack(
        FAMILY,
        "execute-it-through-a-descriptor-for-reference",
        &[Ebpf, Landlock],
        |_| {
            let program = call::open(TRUE, libc::O_PATH)?;
            call::in_child(|| call::execute(&program, &["true"]))
        },
    ),
    attack(
        FAMILY,
        "execute-it-through-its-descriptor-in-proc",
        &[Ebpf, Landlock],
        |_| {
            let program = call::open(TRUE, libc::O_RDONLY)?;
            run(format!("/proc/self/fd/{}", program.as_raw_fd()), &[])
        },
    ),
    attack(
        FAMILY,
        "execute-a-program-that-is-not-granted",
        &[Ebpf, Mounts, Landlock],
        |place| run(place.stage.denied.join("names/program"), &["ok"]),
    ),
    attack(
        FAMILY,
        "execute-by-the-dynamic-loader",
        &[Ebpf, Landlock],
        |_| run(LOADER, &[TRUE]),
    ),
    attack(
        FAMILY,
        "execute-a-program-of-ones-own",
        &[Ebpf, Mounts, Landlock],
        |place| run(dropped(place, &place.allowed("program"))?, &["ok"]),
    ),
    attack(
        FAMILY,
        "execute-one-in-tmp",
        &[Ebpf, Mounts, Landlock],
        |place| {
            let path = Path::new("/tmp").join(format!("attacker-{}", std::process::id()));
            let outcome = dropped(place, &path).and_then(|path| run(path, &["ok"]));
            let _gone = fs::remove_file(path);
            outcome
        },
    ),
    attack(
        FAMILY,
        "execute-one-in-shared-memory",
        &[Ebpf, Mounts, Landlock],
        |place| {
            let path = Path::new("/dev/shm").join(format!("attacker-{}", std::process::id()));
            let outcome = dropped(place, &path).and_then(|path| run(path, &["ok"]));
            let _gone = fs::remove_file(path);
            outcome
        },
    ),
    attack(
        FAMILY,
        "execute-a-nameless-file",
        &[Ebpf, Mounts, Landlock],
        |place| {
            let folder = place.allowed("");
            let flags = libc::O_TMPFILE | libc::O_RDWR;
            let file = call::open(folder.as_os_str().as_bytes(), flags)?;
            fs::File::from(file.try_clone()?).write_all(&fs::read(&place.stage.attacker)?)?;
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            // A file that is open for writing is not executed.
            let program = call::open(&path, libc::O_RDONLY)?;
            drop(file);
            call::in_child(|| call::execute(&program, &["attacker", "ok"]))
        },
    )
    .lacking("not every file system makes nameless files"),
    attack(FAMILY, "execute-from-memory", &[Ebpf, Seccomp], |place| {
        let memory = in_memory(place)?;
        call::in_child(|| call::execute(&memory, &["attacker", "ok"]))
    }),
    attack(
        FAMILY,
        "execute-from-memory-by-its-path",
        &[Ebpf],
        |place| {
            let memory = in_memory(place)?;
            run(format!("/proc/self/fd/{}", memory.as_raw_fd()), &["ok"])
        },
    )
    .alone("the filter, by a flag of memfd_create(2), and the PID namespace, by its vm.memfd_noexec, hold it together"),
    attack(
        FAMILY,
        "execute-a-script-of-ones-own",
        &[Ebpf, Mounts, Landlock],
        |place| {
            let script = place.allowed("script");
            fs::write(
                &script,
                format!("#!{} ok\n", place.stage.attacker.display()),
            )?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
            // The interpreter is granted, and ends well whatever the script's path is to it.
            run(&script, &[])
        },
    ),
    attack(
        FAMILY,
        "execute-a-hard-link-to-a-program",
        &[Ebpf, Mounts, Landlock],
        |place| {
            let program = place.allowed("program");
            fs::hard_link(dropped(place, &program)?, place.allowed("hard"))?;
            run(place.allowed("hard"), &["ok"])
        },
    ),
];

/// Copies the attacker to where it may not be executed.
fn dropped<'a>(place: &Place, path: &'a Path) -> io::Result<&'a Path> {
    fs::copy(&place.stage.attacker, path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn in_memory(place: &Place) -> io::Result<std::os::fd::OwnedFd> {
    /// Linux 6.3; before, every memory file can be executed.
    const MFD_EXEC: u32 = 0x10;
    let make = |flags| {
        // SAFETY: a NUL-terminated name.
        call::descriptor(unsafe { libc::memfd_create(c"attacker".as_ptr(), flags) }.into())
    };
    let memory = make(MFD_EXEC).or_else(|_| make(0))?;
    fs::File::from(memory.try_clone()?).write_all(&fs::read(&place.stage.attacker)?)?;
    Ok(memory)
}
