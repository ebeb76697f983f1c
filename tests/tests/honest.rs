//! Real programs run unhindered under tight manifests, the examples in `manifests/programs`.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use skillsandbox_tests::{
    attempts::NOBODY,
    sandbox::{Ran, Run},
    scene::Scene,
};

/// A copy of an example, in which the words of its manifest that name this host are replaced.
struct Example {
    scene: Scene,
    folder: PathBuf,
    /// Where it looks for files that it does without.
    in_vain: Option<&'static str>,
}

impl Example {
    fn new(name: &str) -> Self {
        let scene = Scene::new(name);
        let folder = scene.path(name);
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/programs");
        outside("cp", &["-r", text(&kept.join(name)), text(&folder)]);
        Self {
            scene,
            folder,
            in_vain: None,
        }
    }

    fn replacing(self, word: &str, by: &str) -> Self {
        let manifest = self.folder.join("skillsandbox.yaml");
        let kept = fs::read_to_string(&manifest).expect("the example's manifest");
        assert!(kept.contains(word), "{word} is not in {kept}");
        fs::write(&manifest, kept.replace(word, by)).expect("the changed manifest");
        self
    }

    fn looking_in_vain_below(self, folder: &'static str) -> Self {
        Self {
            in_vain: Some(folder),
            ..self
        }
    }

    /// Runs it: it must end well, have been denied nothing, and be recorded without a gap.
    #[track_caller]
    fn prints(&self, expected: &str) -> Ran {
        let ran = Run::skill(&self.scene, &self.folder).end().with_code(0);
        assert_eq!(ran.output(), expected, "{}", ran.stderr);
        let denied: Vec<_> = ran
            .events
            .iter()
            .filter(|event| event["verdict"] == "deny" && !self.is_in_vain(event))
            .collect();
        assert!(denied.is_empty(), "denied: {denied:#?}");
        let trace = ran.trace();
        assert_eq!(trace["accounting"]["balanced"], true, "{trace}");
        assert_eq!(trace["exit_code"], 0);
        ran
    }

    fn is_in_vain(&self, event: &serde_json::Value) -> bool {
        let path = event["path"].as_str().unwrap_or_default();
        event["kind"] == "open" && self.in_vain.is_some_and(|folder| path.starts_with(folder))
    }

    /// As [`Self::prints`], and each of these programs was started, by its resolved path.
    #[track_caller]
    fn prints_by(&self, expected: &str, programs: &[&str]) {
        let ran = self.prints(expected);
        for program in programs {
            let real = fs::canonicalize(program).expect("a program of this host");
            let started = ran
                .of_kind("exec")
                .any(|event| event["path"].as_str().map(resolved) == Some(real.clone()));
            assert!(started, "no record of {}", real.display());
        }
    }
}

/// The fallback tier records a path as the program passed it.
fn resolved(path: &str) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.into())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Prepares something before a run.
#[track_caller]
fn outside(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{program} {arguments:?}"
    );
}

/// SHA-256 of `skill` and a newline.
const DIGEST: &str = "3088e5b60779a95389e4ed08d2ecee6eaac2311c590dab3f2e4beb3090a54f00";

#[test]
fn python_has_threads_child_processes_and_tls() {
    let expected = format!("threads: 328350\nprocess: {DIGEST}\ntls: hello TLSv1.2\n");
    Example::new("python").prints_by(&expected, &["/usr/bin/python3", "/usr/bin/sha256sum"]);
}

#[test]
fn node_has_worker_threads_and_files() {
    let expected = format!("worker: 328350\nfile: {DIGEST}\n");
    Example::new("node")
        // The limits of its cgroup, on hosts with the first version of these.
        .looking_in_vain_below("/sys/fs/cgroup/memory/")
        .prints_by(&expected, &["/usr/bin/node"]);
}

#[test]
fn git_clones_a_local_repository() {
    let example = Example::new("git");
    let work = example.scene.folder("work");
    fs::write(work.join("README"), "a greeting\n").expect("a file to commit");
    let git = |arguments: &[&str]| {
        let author = ["-c", "user.name=A", "-c", "user.email=a@example.com"];
        outside(
            "git",
            &[&["-C", text(&work)], &author[..], arguments].concat(),
        );
    };
    git(&["init", "--quiet"]);
    git(&["add", "README"]);
    git(&["commit", "--quiet", "--message", "Greet"]);
    let repository = example.scene.path("greeting.git");
    git(&["clone", "--quiet", "--bare", ".", text(&repository)]);
    // git refuses a repository that belongs to somebody else.
    outside("chown", &["-R", &NOBODY.to_string(), text(&repository)]);
    example
        .replacing("/srv/git/greeting.git", text(&repository))
        .prints_by("Greet\na greeting\n", &["/bin/sh", "/usr/bin/git"]);
}

#[test]
fn curl_fetches_from_the_declared_server() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let request = BufReader::new(stream.try_clone().expect("a second handle"));
        let lines = request.lines().map_while(Result::ok);
        let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n")
            .expect("an answer");
        head
    });
    let example = Example::new("curl").replacing("18081", &port.to_string());
    let ran = example.prints("hello\n");
    let connected = ran.of_kind("connect").find(|event| event["port"] == port);
    let connected = connected.expect("a record of the connection");
    assert_eq!(connected["address"], "127.0.0.1");
    assert_eq!(connected["verdict"], "allow");
    let head = server.join().expect("the server");
    assert_eq!(head[0], "GET /greeting HTTP/1.1");
}

#[test]
fn bash_runs_pipelines() {
    let programs = [
        "/bin/bash",
        "/usr/bin/sort",
        "/usr/bin/comm",
        "/usr/bin/cut",
    ];
    Example::new("bash").prints_by(
        "4 the\n2 cat\nb\nc\na failure in a pipeline is seen: 3\n",
        &programs,
    );
}

#[test]
fn gcc_compiles_a_program_that_runs() {
    let example = Example::new("gcc");
    let build = example.scene.folder("build");
    example.replacing("/srv/build", text(&build)).prints_by(
        "hello from a compiled program\n",
        &[
            "/usr/bin/gcc",
            "/usr/bin/as",
            "/usr/bin/ld",
            text(&build.join("hello")),
        ],
    );
}

#[test]
fn a_static_program_runs_without_any_runtime() {
    let example = Example::new("static");
    let (source, program) = (example.folder.join("hello.c"), example.folder.join("hello"));
    let arguments = ["-static", "-O2", "-o", text(&program), text(&source)];
    outside("musl-gcc", &arguments);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode to set");
    example.prints("hello from a static program\n");
}

#[test]
fn sqlite_keeps_a_database_with_a_log() {
    let expected = "wal\nBern|134\nBasel|173\nok\n";
    Example::new("sqlite").prints_by(expected, &["/usr/bin/sqlite3"]);
}

#[test]
fn tar_packs_and_unpacks() {
    let expected = "content/\ncontent/first.txt\ncontent/folder/\ncontent/folder/second.txt\n\
                    the same\n";
    Example::new("tar").prints_by(expected, &["/usr/bin/tar", "/usr/bin/gzip"]);
}

#[test]
fn ripgrep_searches_in_threads() {
    let expected = "text/first.txt:2:a needle in it\ntext/second.txt:3:the needle\n";
    Example::new("ripgrep").prints_by(expected, &["/usr/bin/rg"]);
}

#[test]
fn jq_queries_json() {
    let expected = "{\"customer\":\"Ada\",\"total\":42}\n{\"customer\":\"Bo\",\"total\":5}\n";
    Example::new("jq").prints_by(expected, &["/usr/bin/jq"]);
}

#[test]
fn make_builds_in_parallel() {
    let programs = [
        "/usr/bin/make",
        "/usr/bin/cp",
        "/usr/bin/sort",
        "/usr/bin/cat",
    ];
    Example::new("make").prints_by("a\nb\nc\n", &programs);
}
