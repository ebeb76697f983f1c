//! What stands on the stage, and who.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::UdpSocket,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{PermissionsExt, chown},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use skillsandbox_attacks::all;

use crate::{attempts::NOBODY, scene::Scene};

/// The program that a variable names, which `cargo xtask test` sets.
pub(super) fn program(variable: &str) -> PathBuf {
    let program = std::env::var_os(variable);
    let program =
        program.unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask test`"));
    program.into()
}

pub(super) fn random() -> [u8; 16] {
    use std::io::Read;
    let mut bytes = [0; 16];
    let mut source = File::open("/dev/urandom").expect("random bytes");
    source.read_exact(&mut bytes).expect("random bytes");
    bytes
}

pub(super) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode to set");
}

/// Files of the skill's user, open to all: no refusal is that of a mode.
pub(super) fn files(scene: &Scene, token: &str, attacker: &Path) {
    let fill = |name: String, content: &str| {
        let path = scene.file(&name);
        fs::write(path, content).expect("a file on the stage");
    };
    for attack in all() {
        let name = attack.name;
        for folder in [format!("allowed/{name}"), format!("denied/{name}/empty")] {
            scene.folder(folder);
        }
        fill(format!("denied/{name}/secret"), token);
        fill(format!("denied/{name}/victim"), "untouched");
        fill(format!("denied/{name}/folder/secret"), token);
        fill(format!("readable/{name}/file"), "untouched");
        for folder in ["empty", "folder"] {
            let path = scene.path(format!("denied/{name}/{folder}"));
            chown(&path, Some(NOBODY), Some(NOBODY)).expect("a folder to give to nobody");
        }
    }
    let deep: String = (0..30).map(|_| "d/").collect();
    fill(format!("denied/names/{deep}secret"), token);
    fill("denied/names/secret".to_owned(), token);
    for name in skillsandbox_attacks::names() {
        let path = scene.path("denied/names").join(name);
        fs::write(&path, token).expect("a file with an odd name");
        mode(&path, 0o666);
    }
    let program = scene.path("denied/names/program");
    fs::copy(attacker, &program).expect("a program that is not granted");
    mode(&program, 0o755);
    // Where nobody but root can put another in its place.
    for folder in ["shown", "shown/hidden", "shown/hidden/again", "tools"] {
        let path = scene.path(folder);
        fs::create_dir(&path).expect("a folder of root's");
        mode(&path, 0o755);
    }
    for name in ["shown/hidden/secret", "shown/hidden/again/secret"] {
        fs::write(scene.path(name), token).expect("a file of root's");
    }
    let before = scene.path("denied/made-before");
    fs::write(&before, token).expect("a file with two names");
    mode(&before, 0o666);
    fs::hard_link(&before, scene.path("allowed/made-before")).expect("its second name");
}

/// Gives a program every capability: `struct vfs_cap_data`, version 2, effective.
pub(super) fn make_capable(path: &Path) -> rustix::io::Result<()> {
    let words: [u32; 5] = [0x0200_0001, u32::MAX, 0, 0x1ff, 0];
    let value: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "security.capability", &value, flags)
}

/// Somebody of the skill's user, outside, with the token in its memory, its environment and behind
/// a descriptor.
pub(super) fn victim(attacker: &Path, token: &str, struck: &Path) -> (Child, u64, i32) {
    let mut child = Command::new(attacker)
        .args(["victim".as_ref(), token.as_ref(), struck.as_os_str()])
        .env_clear()
        .env("TOKEN", token)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .uid(NOBODY)
        .gid(NOBODY)
        .spawn()
        .expect("somebody outside");
    let mut line = String::new();
    let output = child.stdout.take().expect("its output");
    BufReader::new(output)
        .read_line(&mut line)
        .expect("a line of its");
    let mut numbers = line.split_whitespace();
    let mut number = || numbers.next().and_then(|number| number.parse().ok());
    let (address, descriptor) = (number(), number());
    let address: u64 = address.expect("an address");
    let descriptor = descriptor.and_then(|number| i32::try_from(number).ok());
    (child, address, descriptor.expect("a descriptor"))
}

/// Descriptors that a careless caller leaves open to what it starts.
pub(super) fn inherited(scene: &Scene, listener: &UdpSocket) -> [OwnedFd; 3] {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let to = listener.local_addr().expect("its address");
    socket.connect(to).expect("a socket that is connected");
    let file = File::open(scene.path("denied/names/secret")).expect("a file");
    let folder = File::open(scene.path("denied/names")).expect("a folder");
    let all: [OwnedFd; 3] = [file.into(), folder.into(), socket.into()];
    for descriptor in &all {
        let none = rustix::io::FdFlags::empty();
        rustix::io::fcntl_setfd(descriptor, none).expect("a flag to take away");
    }
    all
}
