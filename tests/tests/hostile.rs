//! Callers who do not mean well ask the daemon for runs.

use std::{
    fs,
    io::{IoSlice, Write},
    mem::MaybeUninit,
    net::{TcpListener, TcpStream},
    os::{fd::AsFd, unix::net::UnixStream},
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use skillsandbox_tests::{
    service::{
        ANA, BEN, Ground, PATIENCE, accepted, answer, asks, manifest, message, sleeps, until, words,
    },
    store::{audit, told},
};

#[test]
fn hostile_requests_are_each_refused_and_recorded() {
    let ground = Ground::prepare();
    let daemon = ground.daemon();
    let asks = |run: Value| message(json!({"version": 1, "run": run}).to_string().as_bytes());
    let fine = json!({"manifest": manifest().0.to_string(), "manifest_file": "m", "skill_dir": "/usr/share"});
    let with = |key: &str, value: Value| {
        let mut run = fine.clone();
        run[key] = value;
        asks(run)
    };
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("text", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("a length of 4 GiB", vec![0xff; 4]),
        ("nothing at all", message(b"")),
        ("no JSON", message(&[0xfe; 100])),
        ("nothing but nesting", message(&[b'['; 100_000])),
        ("another version", message(br#"{"version":2,"run":{}}"#)),
        (
            "a version that is none",
            message(br#"{"version":"1 ","run":{}}"#),
        ),
        ("no request", message(br#"{"version":1}"#)),
        (
            "another request",
            message(br#"{"version":1,"attach":{"cgroup":"/"}}"#),
        ),
        ("another user", with("user", json!("root"))),
        ("another store", with("audit_dir", json!("/etc"))),
        ("a resolver", with("resolvers", json!(["127.0.0.1:1"]))),
        ("an escape", with("manifest_file", json!("\x1b[2Jm"))),
        (
            "a name without end",
            with("manifest_file", json!("m".repeat(5000))),
        ),
        ("a command of nothing", with("command", json!([]))),
        ("a NUL", with("arguments", json!(["a\0b"]))),
        (
            "a variable that is none",
            with("environment", json!({"A=B": "c"})),
        ),
        ("a manifest that is none", with("manifest", json!("{"))),
        (
            "a folder that is none",
            with("skill_dir", json!("/etc/passwd")),
        ),
        ("a number for text", with("manifest", json!(7))),
    ];
    assert_eq!(hostile.len(), 20);
    for (what, bytes) in &hostile {
        let answer = ground.said(bytes);
        let why = answer["refused"]["why"].as_str().unwrap_or_default();
        assert!(!why.is_empty(), "{what}: {answer}");
    }
    // Who says nothing, or not all of it, and stays.
    let mut silent = [ground.connect(), ground.connect()];
    silent[1].write_all(&[0, 0, 1]).expect("three bytes");
    for stream in &mut silent {
        let why = answer(stream)["refused"]["why"].to_string();
        assert!(why.contains("five seconds"), "{why}");
    }
    // Who says nothing and goes.
    drop(ground.connect());
    until("all are recorded", || {
        ground.refusals().len() == hostile.len() + 3
    });
    let refusals = ground.refusals();
    for line in &refusals {
        assert!(line.contains("uid 0 "), "{line}");
        assert!(!line.contains('\x1b'), "{line}");
    }
    assert!(told(&audit(&ground.store, &["verify"]), 0).contains(" 0 troubles"));
    assert_eq!(told(&audit(&ground.store, &["runs"]), 0), "");
    assert_eq!(
        ground.ran(ANA, &manifest(), &["true"]).status.code(),
        Some(0)
    );
    drop(daemon);
}

#[test]
fn a_caller_who_hears_nothing_of_a_run_keeps_nothing_of_it_from_the_record() {
    let ground = Ground::prepare();
    let _daemon = ground.daemon();
    let mut stream = ground.connect();
    let script =
        "i=0; while [ $i -lt 50 ]; do cat /usr/bin/true >/dev/null; i=$((i+1)); done; exit 4";
    let asked = asks(&manifest(), script, true);
    stream.write_all(&asked).expect("a request");
    drop(accepted(&stream));
    let ended = answer(&mut stream);
    assert_eq!(ended["ended"]["exit_code"], 4, "{ended}");
    assert_eq!(
        ended["ended"]["recorded"], false,
        "what was asked for was not read: {ended}"
    );
    let query = [
        "query",
        "--kind=open",
        "--path=/usr/bin/true",
        "--format=jsonl",
    ];
    let found = told(&audit(&ground.store, &query), 0);
    assert!(found.lines().count() >= 50, "{}", found.lines().count());
    let verified = told(&audit(&ground.store, &["verify"]), 0);
    assert!(verified.contains(" 0 troubles"), "{verified}");
    assert!(ground.refusals().is_empty());
}

#[test]
fn a_caller_who_reads_nothing_makes_no_run_longer() {
    let ground = Ground::prepare();
    let _daemon = ground.daemon();
    let brief = manifest().set("/resources", json!({"max_runtime_seconds": 3}));
    let script = "while :; do cat /usr/bin/true; echo x >&2; done";
    let mut stream = ground.connect();
    stream
        .write_all(&asks(&brief, script, true))
        .expect("a request");
    let _unread = accepted(&stream);
    let ended = answer(&mut stream);
    assert!(ended["ended"]["exit_code"].is_null(), "{ended}");
    let query = ["query", "--kind=deadline", "--format=jsonl"];
    assert_eq!(told(&audit(&ground.store, &query), 0).lines().count(), 1);
}

#[test]
fn whoever_goes_has_a_run_or_a_refusal_on_record() {
    let ground = Ground::prepare();
    let _daemon = ground.daemon();
    assert_eq!(
        ground.ran(ANA, &manifest(), &["true"]).status.code(),
        Some(0)
    );
    for _ in 0..10 {
        let mut stream = ground.connect();
        let asked = asks(&manifest(), "sleep 4300.3", false);
        stream.write_all(&asked).expect("a request");
        let _streams = accepted(&stream);
    }
    let count = || {
        // One that begins just now cannot be read yet.
        let runs = audit(&ground.store, &["runs"]);
        words(&runs.stdout).lines().count() + ground.refusals().len()
    };
    until("each is on record", || count() == 11);
    until("none goes on", || !sleeps("4300.3"));
    until("the record is complete", || {
        let verified = audit(&ground.store, &["verify"]);
        words(&verified.stdout).contains(" 0 of them running") && verified.status.success()
    });
}

/// A socket that whoever closes it last waits for: what it has to send is read by nobody.
fn lingering() -> (TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_nonblocking(true).expect("no waiting");
    let mut full = &stream;
    while full.write(&[0; 65536]).is_ok() {}
    // Longer than the test waits for anybody whom that holds up.
    let linger = PATIENCE * 2;
    rustix::net::sockopt::set_socket_linger(&stream, Some(linger)).expect("an option");
    (listener, stream)
}

#[test]
fn what_a_caller_sends_along_holds_nobody_up() {
    let ground = Ground::prepare();
    let daemon = ground.daemon();
    let send = |stream: &UnixStream, bytes: &[u8]| {
        let (listener, lingering) = lingering();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let handed = [lingering.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&handed)));
        let part = [IoSlice::new(bytes)];
        sendmsg(stream, &part, &mut control, SendFlags::empty()).expect("a message");
        listener
    };
    let others_are_served = || {
        let mut run = ground.run(ANA, &manifest(), &["true"]);
        let mut run = run.spawn().expect("the program starts");
        until("another caller is served", || {
            let ended = run.try_wait().expect("how it is");
            ended.is_some_and(|ended| ended.success())
        });
    };
    // To a worker, which is to be refused, and to the daemon, which refuses without having heard.
    let mut heard = ground.connect();
    let _first = send(&heard, &message(b"{}"));
    assert!(answer(&mut heard)["refused"].is_object());
    let mut waiting: Vec<UnixStream> = (0..32).map(|_| ground.connect()).collect();
    let mut listeners = Vec::new();
    for _ in 0..5 {
        let stream = ground.connect();
        listeners.push(send(&stream, b"?"));
        drop(stream);
    }
    others_are_served();
    for stream in &mut waiting {
        assert!(answer(stream)["refused"].is_object());
    }
    others_are_served();
    // With it go those that wait for a caller.
    drop(daemon);
    until("no worker is left", || {
        let all = fs::read_dir("/proc").expect("the processes");
        let socket = ground.socket.as_os_str().as_encoded_bytes();
        !all.flatten().any(|process| {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let mut arguments = line.split(|byte| *byte == 0);
            arguments.nth(1) == Some(b"__worker") && arguments.any(|argument| argument == socket)
        })
    });
}

#[test]
fn who_asks_too_much_is_refused_and_others_are_not() {
    let ground = Ground::prepare();
    let _daemon = ground.daemon();
    // Root's: they say nothing, and each has a worker that waits.
    let mut waiting: Vec<UnixStream> = (0..32).map(|_| ground.connect()).collect();
    let why = answer(&mut ground.connect())["refused"]["why"].to_string();
    assert!(why.contains("too many runs at once"), "{why}");
    assert_eq!(
        ground.ran(ANA, &manifest(), &["true"]).status.code(),
        Some(0)
    );
    for stream in &mut waiting {
        assert!(answer(stream)["refused"].is_object());
    }
    until("there is room again", || {
        let answer = ground.said(&message(b"{}"));
        !answer["refused"]["why"].to_string().contains("at once")
    });
    let mut flooded = String::new();
    for _ in 0..200 {
        flooded = ground.said(&message(b"{}"))["refused"]["why"].to_string();
        if flooded.contains("too many requests") {
            break;
        }
    }
    assert!(flooded.contains("too many requests"), "{flooded}");
    assert_eq!(
        ground.ran(BEN, &manifest(), &["true"]).status.code(),
        Some(0)
    );
    let recorded = ground.refusals();
    assert!(
        recorded.iter().any(|line| line.contains("too many")),
        "{recorded:?}"
    );
}
