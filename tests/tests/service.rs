//! Callers who are not root ask the daemon for runs.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;
use skillsandbox_tests::{
    sandbox::skillsandbox,
    service::{ANA, BEN, GROUP_NUMBER, Ground, manifest, sleeps, until, words},
    store::{audit, told},
};

#[test]
fn who_is_not_root_runs_a_skill_as_themselves() {
    let ground = Ground::prepare();
    let _daemon = ground.daemon();
    let events = ground.scene.folder("out").join("events.jsonl");
    let script = "id -u; id -g; id -G; echo $GIVEN-$KEPT; cat; echo oops >&2; exit 7";
    let mut run = ground.as_user(ANA);
    let manifest = manifest().pass("GIVEN");
    run.arg("run").arg("--socket").arg(&ground.socket);
    run.arg("--stdin").arg("--events").arg(&events);
    run.arg("--manifest").arg(ground.manifest(&manifest));
    run.args(["--", "sh", "-c", script]);
    run.env("GIVEN", "given")
        .env("KEPT", "kept")
        .stdin(Stdio::piped());
    let mut run = run.spawn().expect("the program starts");
    let mut stdin = run.stdin.take().expect("its standard input");
    stdin.write_all(b"from stdin\n").expect("a line to write");
    drop(stdin);
    let ran = run.wait_with_output().expect("its end");
    let (out, err) = (words(&ran.stdout), words(&ran.stderr));
    assert_eq!(ran.status.code(), Some(7), "{err}");
    let expected = format!("{ANA}\n{GROUP_NUMBER}\n{GROUP_NUMBER}\ngiven-\nfrom stdin\n");
    assert_eq!(out, expected);
    assert!(err.contains("oops"), "{err}");
    let events = fs::read_to_string(&events).expect("records");
    let kinds = [
        "\"kind\":\"start\"",
        "\"kind\":\"exec\"",
        "\"kind\":\"end\"",
    ];
    for kind in kinds {
        assert!(events.contains(kind), "{kind} in {events}");
    }
    assert!(!events.contains("\"kept\""), "a value that is not passed");

    let listed = told(&audit(&ground.store, &["runs"]), 0);
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert!(told(&audit(&ground.store, &["verify"]), 0).contains(" 0 troubles"));
    assert!(ground.refusals().is_empty());
    for option in [
        "--user=root",
        "--audit-dir=/tmp/x",
        "--resolver=127.0.0.1",
        "--record-refused",
    ] {
        let mut run = ground.as_user(ANA);
        run.arg("run")
            .arg("--socket")
            .arg(&ground.socket)
            .arg(option);
        run.arg("--manifest").arg(ground.manifest(&manifest));
        let ran = run
            .args(["--", "true"])
            .output()
            .expect("the program starts");
        assert_eq!(ran.status.code(), Some(122), "{option}");
        assert!(words(&ran.stderr).contains("root's to choose"), "{option}");
    }
}

#[test]
fn a_caller_has_nothing_that_they_could_not_reach_themselves() {
    let ground = Ground::prepare();
    let _daemon = ground.daemon();
    let closed = ground.scene.folder("closed");
    let secret = ground.scene.file("closed/secret");
    let path = secret.to_str().expect("a path in UTF-8");
    let reads = manifest().read(&secret);
    let before = ground.ran(ANA, &reads, &["cat", path]);
    assert_eq!(before.status.code(), Some(0), "{}", words(&before.stderr));

    // Nobody but root enters; the file itself may still be read by all.
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("its mode");
    let denied = ground.ran(ANA, &reads, &["cat", path]);
    assert_eq!(denied.status.code(), Some(122));
    assert_eq!(words(&denied.stdout), "");
    assert!(
        words(&denied.stderr).contains("ermission denied"),
        "{}",
        words(&denied.stderr)
    );
    let by_root = skillsandbox()
        .args(["run", "--user=43001", "--manifest"])
        .arg(ground.manifest(&reads))
        .args(["--", "cat", path])
        .output()
        .expect("the program starts");
    assert_eq!(by_root.status.code(), Some(0), "root may grant it");

    // A folder is made where its maker may make one, and nowhere else.
    let made = ground.scene.folder("shared").join("made");
    let written = ground.ran(
        ANA,
        &manifest().write(&made),
        &["touch", &format!("{}/x", made.display())],
    );
    assert_eq!(written.status.code(), Some(0), "{}", words(&written.stderr));
    let roots = ground.scene.folder("roots");
    fs::set_permissions(&roots, fs::Permissions::from_mode(0o755)).expect("its mode");
    let refused = ground.ran(ANA, &manifest().write(roots.join("made")), &["true"]);
    assert_eq!(
        refused.status.code(),
        Some(122),
        "{}",
        words(&refused.stderr)
    );
    assert!(!roots.join("made").exists());

    // A program, or a folder of a skill, is reached like that as well.
    fs::copy("/usr/bin/true", closed.join("program")).expect("a program");
    let program = closed.join("program");
    let refused = ground.ran(
        ANA,
        &manifest().exec(&program),
        &[program.to_str().expect("UTF-8")],
    );
    assert_eq!(
        refused.status.code(),
        Some(122),
        "{}",
        words(&refused.stderr)
    );

    // So is a skill's folder.
    let skill = |folder: &Path| {
        let run = json!({"manifest": manifest().0.to_string(), "manifest_file": "m", "skill_dir": folder});
        let mut ask = Command::new("python3");
        let text = json!({"version": 1, "run": run}).to_string();
        let script = "import socket, struct, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                      b = sys.argv[2].encode(); s.sendall(struct.pack('>I', len(b)) + b); \
                      n, = struct.unpack('>I', s.recv(4)); print(s.recv(n).decode())";
        let ask = ask.args(["-c", script]).arg(&ground.socket).arg(text);
        let said = ask.uid(ANA).gid(GROUP_NUMBER).output().expect("python3");
        words(&said.stdout)
    };
    fs::create_dir(closed.join("skill")).expect("a folder");
    assert!(skill(Path::new("/usr/share")).contains("accepted"));
    let refused = skill(&closed.join("skill"));
    assert!(refused.contains("ermission denied"), "{refused}");

    // What is missing where they cannot look is not told from what is there.
    let missing = closed.join("missing");
    let tells = |path: &Path| {
        let ran = ground.ran(ANA, &manifest().read(path), &["true"]);
        words(&ran.stderr).replace(path.to_str().expect("UTF-8"), "PATH")
    };
    assert_eq!(tells(&secret), tells(&missing));
}

#[test]
fn a_run_is_over_when_its_caller_is_gone_and_goes_on_when_the_daemon_is() {
    let ground = Ground::prepare();
    let mut daemon = ground.daemon();
    let mut gone = ground.run(ANA, &manifest(), &["sleep", "4300.1"]);
    let mut gone = gone.spawn().expect("the program starts");
    until("the skill runs", || sleeps("4300.1"));
    gone.kill().expect("a process to kill");
    gone.wait().expect("its end");
    until("the skill is over", || !sleeps("4300.1"));

    let script = "echo begun; cat >/dev/null; echo done; exit 3";
    let mut run = ground.as_user(ANA);
    run.arg("run")
        .arg("--socket")
        .arg(&ground.socket)
        .arg("--stdin");
    run.arg("--manifest").arg(ground.manifest(&manifest()));
    run.args(["--", "sh", "-c", script]).stdin(Stdio::piped());
    let mut run = run.spawn().expect("the program starts");
    let mut out = BufReader::new(run.stdout.take().expect("its output"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "begun\n");
    daemon.child.kill().expect("a process to kill");
    daemon.child.wait().expect("its end");
    daemon = ground.daemon();
    drop(run.stdin.take());
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, "done\n");
    assert_eq!(run.wait().expect("its end").code(), Some(3));
    assert_eq!(
        ground.ran(BEN, &manifest(), &["true"]).status.code(),
        Some(0)
    );
    drop(daemon);
    let listed = told(&audit(&ground.store, &["runs"]), 0);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(told(&audit(&ground.store, &["verify"]), 0).contains(" 0 troubles"));
}

#[test]
fn a_caller_gets_no_more_than_everybody() {
    let ground = Ground::prepare();
    let _daemon = ground.daemon();
    // A ring of the kernel's memory, and the daemon's own socket.
    let big = manifest().set("/audit", json!({"ring_kib": 65536}));
    let ran = ground.ran(ANA, &big, &["true"]);
    assert_eq!(ran.status.code(), Some(122));
    assert!(
        words(&ran.stderr).contains("ring_kib"),
        "{}",
        words(&ran.stderr)
    );
    let socket = ground.socket.to_str().expect("UTF-8");
    let own = manifest().set("/permissions/network", json!({"unix": [socket]}));
    let ran = ground.ran(ANA, &own, &["true"]);
    assert_eq!(ran.status.code(), Some(122));
    assert!(
        words(&ran.stderr).contains("the daemon's own socket"),
        "{}",
        words(&ran.stderr)
    );

    // Who is in no group of theirs does not get that far.
    let mut stranger = ground.run(ANA, &manifest(), &["true"]);
    let ran = stranger.gid(43_000).output().expect("the program starts");
    assert_eq!(ran.status.code(), Some(121));
    assert!(
        words(&ran.stderr).contains("members of its group"),
        "{}",
        words(&ran.stderr)
    );

    // What is recorded of one is not for another, nor for themselves.
    assert_eq!(
        ground.ran(BEN, &manifest(), &["true"]).status.code(),
        Some(0)
    );
    for arguments in [["runs"], ["verify"], ["refusals"]] {
        let mut asked = ground.as_user(ANA);
        asked
            .args(["audit", "--audit-dir"])
            .arg(&ground.store)
            .args(arguments);
        let asked = asked.output().expect("the program starts");
        assert_ne!(asked.status.code(), Some(0));
        assert_eq!(words(&asked.stdout), "");
    }
    // Nor does anybody but root attach.
    let mut attach = ground.as_user(ANA);
    attach.args(["attach", "--name=theirs", "--cgroup=/", "--manifest"]);
    attach.arg(ground.manifest(&manifest()));
    assert_ne!(
        attach.output().expect("the program starts").status.code(),
        Some(0)
    );
}

#[test]
fn a_second_daemon_is_told_and_the_first_goes_on() {
    let ground = Ground::prepare();
    let _daemon = ground.daemon();
    let second = skillsandbox()
        .args(["daemon", "--policies"])
        .arg(ground.scene.path("policies"))
        .arg("--audit-dir")
        .arg(&ground.store)
        .arg("--socket")
        .arg(&ground.socket)
        .output()
        .expect("skillsandbox starts");
    assert_eq!(second.status.code(), Some(122));
    assert!(words(&second.stderr).contains("another daemon serves"));
    assert_eq!(
        ground.ran(ANA, &manifest(), &["true"]).status.code(),
        Some(0)
    );

    let file = ground.scene.file("no-socket");
    let third = skillsandbox()
        .args(["daemon", "--policies"])
        .arg(ground.scene.path("policies"))
        .arg("--socket")
        .arg(&file)
        .output()
        .expect("skillsandbox starts");
    assert_eq!(third.status.code(), Some(122));
    assert_eq!(
        fs::read_to_string(&file).expect("it is still there"),
        "content\n"
    );
}

mod fallback_tier {
    use super::*;

    #[test]
    fn a_record_does_not_tell_what_is_there_where_its_caller_cannot_look() {
        let ground = Ground::prepare();
        let _daemon = ground.daemon();
        let closed = ground.scene.folder("closed");
        let secret = ground.scene.file("closed/secret");
        let recorded = |path: &Path| {
            let name = path.to_str().expect("a path in UTF-8");
            let ran = ground.ran(ANA, &manifest(), &["cat", name]);
            assert_eq!(ran.status.code(), Some(1), "{}", words(&ran.stderr));
            let asked = ["query", "--kind=open", "--format=jsonl", "--path", name];
            let records = told(&audit(&ground.store, &asked), 0);
            let verdicts = records.lines().map(|line| {
                let record: serde_json::Value = serde_json::from_str(line).expect("a record");
                (record["verdict"].clone(), record["rule"].clone())
            });
            verdicts.collect::<Vec<_>>()
        };
        let missing = closed.join("missing");
        assert_ne!(recorded(&secret), recorded(&missing), "anybody may look");
        let (secret, missing) = (closed.join("secret-2"), closed.join("missing-2"));
        fs::write(&secret, "").expect("a file");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("its mode");
        let of_what_is_there = recorded(&secret);
        assert!(!of_what_is_there.is_empty());
        assert_eq!(of_what_is_there, recorded(&missing));
    }
}
