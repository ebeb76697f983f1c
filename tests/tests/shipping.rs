//! Segments that are copied elsewhere: each once, and what was cut off since is found out.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use skillsandbox_tests::{
    manifest::Manifest,
    sandbox::{Run, plain_skillsandbox},
    scene::Scene,
    store::{audit, kept, told},
};

/// A store with a segment for each of so many runs.
fn sealed(scene: &Scene, runs: usize) -> PathBuf {
    let store = scene.path("audit");
    for _ in 0..runs {
        let run = Run::shell(scene, &Manifest::default().exec("/usr/bin"), "true");
        let _ran = kept(run, &store).end().with_code(0);
        told(&audit(&store, &["seal"]), 0);
    }
    store
}

/// As users have it: what tests layers ships to folders alone.
fn ship(store: &Path, to: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = plain_skillsandbox();
    command.args(["audit", "ship", "--to", to, "--audit-dir"]);
    command.arg(store).envs(environment.iter().copied());
    command.stdin(Stdio::null()).output().expect("it starts")
}

#[track_caller]
fn refused(output: &Output, why: &str) {
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && words.contains(why), "{words}");
}

/// Files below a folder, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    found
}

#[test]
fn each_segment_is_shipped_once_whatever_interrupts_it() {
    let scene = Scene::new("shipped");
    let store = sealed(&scene, 2);
    let to = scene.path("there").join("deep");
    let there = to.display().to_string();
    let ledger = store.join("ledger");
    let before = fs::read(&ledger).expect("a ledger");
    let said = told(&ship(&store, &there, &[]), 0);
    assert!(said.starts_with("2 segments were shipped"), "{said}");
    let copies = files(&to);
    let tables: Vec<_> = copies
        .iter()
        .filter(|file| file.ends_with(".parquet"))
        .collect();
    assert_eq!(tables.len(), 2, "{copies:?}");
    for (copy, own) in tables.iter().zip(files(&store.join("segments"))) {
        assert!(copy.contains("/date=") && copy.contains("/host="), "{copy}");
        assert!(fs::read(copy).expect("a copy") == fs::read(own).expect("a segment"));
    }
    told(&audit(&store, &["verify"]), 0);
    let said = told(&ship(&store, &there, &[]), 0);
    assert!(said.starts_with("0 segments"), "{said}");
    assert_eq!(files(&to), copies, "nothing to do, and nothing done");
    let shipped = fs::read(&ledger).expect("a ledger");

    // It was interrupted before the ledger said so, or something else has the name of one.
    let within = |place: &str| {
        scene
            .path(place)
            .join(Path::new(tables[0]).strip_prefix(&to).expect("below"))
    };
    for (place, content) in [
        ("begun", fs::read(tables[0]).expect("a copy")),
        ("taken", b"other".to_vec()),
    ] {
        let copy = within(place);
        fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
        fs::write(copy, content).expect("a copy");
    }
    let said = told(
        &ship(&store, &scene.path("begun").display().to_string(), &[]),
        0,
    );
    assert!(
        said.starts_with("1 segments") && said.contains("1 more were there already"),
        "{said}"
    );
    refused(
        &ship(&store, &scene.path("taken").display().to_string(), &[]),
        "is something else",
    );
    assert_eq!(fs::read(within("taken")).expect("it"), b"other");

    // What was cut off since is found out.
    let checkpoint = copies
        .iter()
        .find(|file| file.ends_with(".json"))
        .expect("one");
    told(&audit(&store, &["verify", "--checkpoint", checkpoint]), 0);
    fs::write(&ledger, &before).expect("an older ledger");
    told(&audit(&store, &["verify"]), 0);
    let named = told(&audit(&store, &["verify", "--checkpoint", checkpoint]), 1);
    assert!(named.contains("its end was cut off"), "{named}");
    refused(&ship(&store, &there, &[]), "checkpoints/");
    fs::write(&ledger, &shipped).expect("the ledger");

    // What is not as it was written stays here.
    let own = files(&store.join("segments")).remove(0);
    let mut bytes = fs::read(&own).expect("a segment");
    bytes[100] ^= 1;
    fs::write(&own, bytes).expect("a changed segment");
    let other = scene.path("other").display().to_string();
    refused(&ship(&store, &other, &[]), "not what was written");
}

/// A server of S3 with a bucket; says where it is, and at the end what is in the bucket.
const SERVER: &str = r#"
import sys
import boto3
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
endpoint = f"http://{host}:{port}"
s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1",
                  aws_access_key_id="key", aws_secret_access_key="secret")
s3.create_bucket(Bucket="records")
print(endpoint, flush=True)
sys.stdin.readline()
for thing in s3.list_objects_v2(Bucket="records").get("Contents", []):
    print(thing["Size"], thing["Key"])
server.stop()
"#;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn a_bucket_has_each_segment_once() {
    let scene = Scene::new("bucket");
    let store = sealed(&scene, 1);
    let packages = std::env::var_os("PYTHON_PACKAGES").expect("PYTHON_PACKAGES: run by xtask");
    let mut server = Command::new("/usr/bin/python3");
    server.args(["-c", SERVER]).env("PYTHONPATH", packages);
    server
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut server = Server(server.spawn().expect("python3 starts"));
    let mut said = BufReader::new(server.0.stdout.take().expect("its output"));
    let mut endpoint = String::new();
    said.read_line(&mut endpoint).expect("where it is");
    let environment = [
        ("AWS_ENDPOINT", endpoint.trim()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let ledger = store.join("ledger");
    let before = fs::read(&ledger).expect("a ledger");
    let to = "s3://records/of/skills";
    for expected in ["1 segments were shipped", "0 segments were shipped"] {
        let said = told(&ship(&store, to, &environment), 0);
        assert!(said.starts_with(expected), "{said}");
    }
    fs::write(&ledger, before).expect("an older ledger");
    // The segment is there, and is found to be the same; what the ledger comes to is something else now.
    refused(&ship(&store, to, &environment), "of/skills/checkpoints/");
    let mut stdin = server.0.stdin.take().expect("its input");
    stdin.write_all(b"\n").expect("it reads");
    let objects: Vec<String> = said.lines().map(|line| line.expect("text")).collect();
    let own = files(&store.join("segments")).remove(0);
    let length = fs::metadata(own).expect("a segment").len().to_string();
    let tables: Vec<_> = objects
        .iter()
        .filter(|one| one.ends_with(".parquet"))
        .collect();
    assert_eq!(tables.len(), 1, "{objects:?}");
    assert!(
        tables[0].starts_with(&format!("{length} of/skills/date=")),
        "{tables:?}"
    );
}
