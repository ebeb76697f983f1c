//! Where attacks are tried: what a skill was given, what it was not, and who is outside.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Outcome, call};

/// What the attacker is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stage {
    /// In every file that no skill is to read.
    pub token: String,
    /// May be read and written.
    pub allowed: PathBuf,
    /// May be read.
    pub readable: PathBuf,
    /// Not granted.
    pub denied: PathBuf,
    /// In what may be read, and denied by a rule.
    pub hidden: PathBuf,
    /// The attacker's program, which may be executed.
    pub attacker: PathBuf,
    /// A program of root's with the bit that makes whoever runs it root; may be executed.
    pub setuid: PathBuf,
    /// A program with every capability; may be executed.
    pub capable: PathBuf,
    /// A process of the same user outside.
    pub victim: i32,
    /// Where the token is in its memory.
    pub victim_address: u64,
    /// A descriptor of its that leads to the token, in a file that has no name any more.
    pub victim_descriptor: i32,
    /// Who listens outside: `tcp4`, `tcp6`, `udp4`, `udp6`.
    pub ports: [u16; 4],
    /// Who answers at port 53.
    pub name_server: IpAddr,
    /// A port that may be reached over TCP and UDP at 127.0.0.1.
    pub granted: u16,
    /// Who listens at a path that is not granted.
    pub unix: PathBuf,
    /// Who listens at a path that may be read and written.
    pub unix_in_allowed: PathBuf,
    /// Who takes datagrams at a path that may be read and written.
    pub unix_datagram: PathBuf,
    /// Who listens at a name that is no path.
    pub unix_abstract: String,
    /// Descriptors that the supervisor, and an attacker outside, were started with: a file with the
    /// token, a folder with such a file, and a socket that is connected to `udp4`.
    pub inherited: [i32; 3],
}

/// The stage as one attack sees it, with folders of its own.
pub struct Place<'a> {
    /// All of it.
    pub stage: &'a Stage,
    /// The attack's name.
    pub name: &'a str,
}

impl Place<'_> {
    /// A path in the attack's own folder of what may be read and written.
    pub fn allowed(&self, name: &str) -> PathBuf {
        self.stage.allowed.join(self.name).join(name)
    }

    /// A path in the attack's own folder of what may be read; `file` is there.
    pub fn readable(&self, name: &str) -> PathBuf {
        self.stage.readable.join(self.name).join(name)
    }

    /// A path in the attack's own folder of what is not granted; `secret` and `victim` are there.
    pub fn denied(&self, name: &str) -> PathBuf {
        self.stage.denied.join(self.name).join(name)
    }

    /// The file with the token.
    pub fn secret(&self) -> PathBuf {
        self.denied("secret")
    }

    /// The file that is to stay as it is.
    pub fn victim(&self) -> PathBuf {
        self.denied("victim")
    }

    /// The outcome of having read these bytes.
    pub fn is_token(&self, bytes: &[u8]) -> Outcome {
        let token = self.stage.token.as_bytes();
        if bytes.windows(token.len()).any(|window| window == token) {
            Ok(())
        } else {
            Err(io::Error::other("read, and it is not the token"))
        }
    }

    /// Reads the token from a path.
    pub fn read(&self, path: impl AsRef<Path>) -> Outcome {
        self.is_token(&fs::read(path)?)
    }

    /// Reads the token from an open file.
    pub fn read_from(&self, mut file: impl io::Read) -> Outcome {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        self.is_token(&bytes)
    }
}

/// Writes into a file that is there.
pub(crate) fn overwrite(path: impl AsRef<Path>) -> Outcome {
    use std::{io::Write, os::unix::ffi::OsStrExt};
    let file = call::open(path.as_ref().as_os_str().as_bytes(), libc::O_WRONLY)?;
    fs::File::from(file).write_all(b"attacked")
}

/// Runs a program that is to end well.
pub(crate) fn run(program: impl AsRef<Path>, arguments: &[&str]) -> Outcome {
    use std::process::{Command, Stdio};
    let mut command = Command::new(program.as_ref());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let status = command.stdout(Stdio::null()).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("the program ended with {status}")))
    }
}
