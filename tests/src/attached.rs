//! A cgroup to attach, what runs in it, and what was recorded.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    cgroup::{Cgroup, Inside, command, listed},
    manifest::Manifest,
    scene::Scene,
    store::{audit, told},
};

/// Does what each line says and answers with an error number, or 0; `find` with addresses. `load` has it open and connect without an end, and
/// the next line asks for the counts.
pub const ACTOR: &str = r#"
import json, os, select, socket, sys, time

def attempt(what, of):
    try:
        if what == 'open':
            os.close(os.open(of, os.O_RDONLY))
        elif what == 'mkdir':
            os.mkdir(of)
        elif what == 'connect':
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                s.connect(('127.0.0.1', int(of)))
            finally:
                s.close()
        elif what == 'exec':
            child = os.fork()
            if child == 0:
                try:
                    os.execv(of, [of])
                except OSError as error:
                    os._exit(error.errno)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return 0
    except OSError as error:
        return error.errno

def load(attempts):
    counts = {}
    while not select.select([sys.stdin], [], [], 0.0002)[0]:
        for (what, of) in attempts:
            key = '%s %s %d' % (what, of, attempt(what, of))
            counts[key] = counts.get(key, 0) + 1
    return counts

def find(name):
    try:
        return ' '.join(sorted({a[4][0] for a in socket.getaddrinfo(name, 1, proto=6)}))
    except OSError:
        return 'none'

def reach(host, port):
    s = socket.socket()
    try:
        s.connect((host, int(port)))
        return 0
    except OSError as error:
        return error.errno
    finally:
        s.close()

attempt('exec', '/bin/true')
find('localhost')
print('ready')
for line in sys.stdin:
    words = line.split()
    if words[0] == 'load':
        print('loaded')
        print(json.dumps(load([w.split('=') for w in words[1:]])))
    elif words[0] == 'find':
        print(find(words[1]))
    elif words[0] == 'reach':
        print(reach(words[1], words[2]))
    elif words[0] != 'enough':
        print(attempt(words[0], words[1]))
print('over')
"#;

/// How a denied access fails.
pub const EPERM: &str = "1";
/// Nobody listens there, which a datagram's socket is not told.
pub const PORT: u16 = 7;
/// The same.
pub const OTHER_PORT: u16 = 9;

/// What the tests attach.
#[derive(Debug)]
pub struct Ground {
    /// Files.
    pub scene: Scene,
    /// The audit store.
    pub store: String,
    /// The cgroup.
    pub cgroup: Cgroup,
    /// The name that it is attached under.
    pub name: String,
}

impl Ground {
    /// A cgroup and an empty store.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let scene = Scene::new(name);
        Self {
            store: text(&scene.path("audit")),
            cgroup: Cgroup::new(name),
            name: format!("{name}-{}", std::process::id()),
            scene,
        }
    }

    /// Writes a manifest to a file.
    #[must_use]
    pub fn manifest(&self, file: &str, manifest: &Manifest) -> String {
        let path = self.scene.path(file);
        fs::write(&path, manifest.0.to_string()).expect("a manifest in the scene");
        text(&path)
    }

    /// Arguments that attach under a manifest.
    #[must_use]
    pub fn arguments<'a>(&'a self, manifest: &'a str) -> Vec<&'a str> {
        vec![
            "--name",
            &self.name,
            "--cgroup",
            &self.cgroup.place,
            "--manifest",
            manifest,
            "--audit-dir",
            &self.store,
            "--accept-fallback",
        ]
    }

    /// Detaches it.
    pub fn detach(&self) {
        let (code, said) = command(&["detach", &self.name]);
        assert_eq!(code, Some(0), "{said}");
        assert!(listed(&self.name).is_none());
    }

    /// Every record of the store, once it is proved to be whole, and that none was lost.
    #[must_use]
    pub fn records(&self) -> Vec<Value> {
        let records = self.records_and_losses();
        let lost = records.iter().find(|record| record["kind"] == "lost");
        assert!(lost.is_none(), "{lost:?}");
        records
    }

    /// The same, where some may have found no room: their number is on record.
    #[must_use]
    pub fn records_and_losses(&self) -> Vec<Value> {
        let store = Path::new(&self.store);
        told(&audit(store, &["verify"]), 0);
        let records = told(&audit(store, &["query", "--format=jsonl"]), 0);
        let records = records.lines().map(serde_json::from_str);
        let records: Vec<Value> = records.collect::<Result<_, _>>().expect("records");
        for end in records.iter().filter(|record| record["kind"] == "end") {
            assert_eq!(end["balanced"], true, "{end}");
        }
        records
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // What a failed test has left.
        if listed(&self.name).is_some() {
            let _gone = command(&["detach", &self.name]);
        }
    }
}

/// A path as text.
#[must_use]
pub fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// What lets a datagram be sent to one port.
#[must_use]
pub fn policy() -> Manifest {
    Manifest::default().egress("127.0.0.1/32", PORT, "udp")
}

/// Has the process do something without an end until `meanwhile` has: what came of it, and how often.
pub fn under_load(inside: &mut Inside, attempts: &str, meanwhile: impl FnOnce()) -> Value {
    assert_eq!(inside.ask(&format!("load {attempts}")), "loaded");
    meanwhile();
    serde_json::from_str(&inside.ask("enough")).expect("counts")
}

/// How many records of a kind have this in a field, and this verdict.
#[must_use]
pub fn count(records: &[Value], kind: &str, field: &str, of: &Value, verdict: &str) -> u64 {
    let like = |record: &&Value| {
        record["kind"] == kind && record[field] == *of && record["verdict"] == verdict
    };
    records.iter().filter(like).count() as u64
}
