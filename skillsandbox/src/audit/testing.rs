//! Events for tests, as the kernel side would write them.

use std::{
    ffi::OsString,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use serde_json::Value;

use skillsandbox_common::{
    event::{NetworkBody, PathBody, PathSource, ProcessBody, UnixBody},
    header::{Actor, COMM_LEN, EVENT_VERSION, EventHeader, EventPrefix, Kind, Reason, Verdict},
};
use zerocopy::IntoBytes;

use super::store::{About, FORMAT};

/// What is known of a run, on a host that started with 2026.
pub(crate) fn about(run: &str) -> About {
    About {
        format: FORMAT,
        run: run.to_owned(),
        sandbox: "weather-0123abcd".to_owned(),
        skill_name: "weather".to_owned(),
        skill_version: "1".to_owned(),
        host: "host".to_owned(),
        tier: "kernel".to_owned(),
        lasts_for_boot: None,
        booted_unix_ns: 1_767_225_600_000_000_000,
        rules: Vec::new(),
    }
}

/// The prefix of an allowed access of process 4242, with this sequence number.
pub(crate) fn prefix(sequence: u64) -> EventPrefix {
    let mut comm = [0; COMM_LEN];
    comm[..7].copy_from_slice(b"python3");
    EventPrefix {
        header: EventHeader {
            version: EVENT_VERSION,
            kind: Kind::Open as u8,
            verdict: Verdict::Allow as u8,
            reason: Reason::Rule as u8,
            length: 0,
            time_ns: 5_000_000_000 + sequence,
        },
        actor: Actor {
            sequence,
            pid: 4242,
            tgid: 4242,
            ppid: 4200,
            uid: 65534,
            gid: 65534,
            rule: 1,
            comm,
        },
    }
}

/// The same prefix for a denial for this reason.
pub(crate) fn denied(sequence: u64, reason: Reason) -> EventPrefix {
    let mut prefix = prefix(sequence);
    prefix.header.verdict = Verdict::Deny as u8;
    prefix.header.reason = reason as u8;
    prefix.actor.rule = 0;
    prefix
}

/// Version and length set right, then the body.
pub(crate) fn encode(mut prefix: EventPrefix, body: &[u8]) -> Vec<u8> {
    prefix.header.version = EVENT_VERSION;
    prefix.header.length = u32::try_from(size_of::<EventPrefix>() + body.len()).unwrap();
    [prefix.as_bytes(), body].concat()
}

pub(crate) fn path_body(access: u16) -> PathBody {
    PathBody {
        access,
        source: PathSource::Resolved as u16,
        open_flags: 0o2_000_000,
        directory: 0,
        result: 0,
    }
}

pub(crate) fn path(
    mut prefix: EventPrefix,
    kind: Kind,
    body: PathBody,
    path: impl AsRef<[u8]>,
) -> Vec<u8> {
    prefix.header.kind = kind as u8;
    encode(prefix, &[body.as_bytes(), path.as_ref()].concat())
}

pub(crate) fn network(mut prefix: EventPrefix, kind: Kind, address: &str, port: u16) -> Vec<u8> {
    prefix.header.kind = kind as u8;
    let (address, family) = match address.parse::<IpAddr>().unwrap() {
        IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 2),
        IpAddr::V6(v6) => (v6, 10),
    };
    let datagram = matches!(kind, Kind::Sendmsg | Kind::Bind);
    let body = NetworkBody {
        address: address.octets(),
        port,
        family,
        protocol: if datagram { 17 } else { 6 },
        socket_type: if datagram { 2 } else { 1 },
    };
    encode(prefix, body.as_bytes())
}

pub(crate) fn socket(mut prefix: EventPrefix, family: u16, socket_type: u16) -> Vec<u8> {
    prefix.header.kind = Kind::Socket as u8;
    let body = NetworkBody {
        address: [0; 16],
        port: 0,
        family,
        protocol: 0,
        socket_type,
    };
    encode(prefix, body.as_bytes())
}

pub(crate) fn unix(mut prefix: EventPrefix, name: &str) -> Vec<u8> {
    prefix.header.kind = Kind::Unix as u8;
    let body = UnixBody {
        socket_type: 1,
        is_abstract: 0,
    };
    encode(prefix, &[body.as_bytes(), name.as_bytes()].concat())
}

pub(crate) fn fork(prefix: EventPrefix, child: u32) -> Vec<u8> {
    process(prefix, Kind::Fork, ProcessBody { child, status: 0 })
}

pub(crate) fn exit(prefix: EventPrefix, status: i32) -> Vec<u8> {
    process(prefix, Kind::Exit, ProcessBody { child: 0, status })
}

/// A refused look into a process.
pub(crate) fn ptrace(mut prefix: EventPrefix, child: u32, mode: i32) -> Vec<u8> {
    prefix.header.kind = Kind::Ptrace as u8;
    let body = ProcessBody {
        child,
        status: mode,
    };
    encode(prefix, body.as_bytes())
}

fn process(mut prefix: EventPrefix, kind: Kind, body: ProcessBody) -> Vec<u8> {
    prefix.header.kind = kind as u8;
    prefix.header.reason = Reason::Observed as u8;
    prefix.actor.rule = 0;
    encode(prefix, body.as_bytes())
}

/// A folder of its own for one test, removed afterwards.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().canonicalize().unwrap();
        let folder = folder.join(format!("skillsandbox-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    pub(crate) fn names(&self) -> Vec<OsString> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Memory that a sink can own and a test can read.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn records(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap();
        let lines = bytes.split(|byte| *byte == b'\n');
        lines
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}
