//! A network of a test's own, with a name server that answers for it.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    manifest::Manifest,
    sandbox::{Ran, Run},
    scene::Scene,
};

/// Where the name server listens: not at port 53, so that nothing but its name leads to it.
const PORT: u16 = 5300;
/// Far longer than it takes to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// The network that the calling thread, and what it starts, is in from now on; nothing that is sent
/// leaves it. `dnsmasq` answers in it for the names that it is told of, and for no others.
pub struct Network {
    server: Child,
    hosts: PathBuf,
    log: PathBuf,
}

impl Network {
    /// Moves this thread there. `aliases` are pairs of a name and what it is an alias of.
    #[must_use]
    #[expect(unsafe_code, reason = "no safe call moves a thread to a new network")]
    pub fn own(scene: &Scene, aliases: &[(&str, &str)]) -> Self {
        // SAFETY: takes a number; this thread has no sockets yet.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "a network");
        ip("link set lo up");
        let (hosts, log) = (scene.file("hosts"), scene.file("asked"));
        fs::write(&hosts, "").expect("an empty file of hosts");
        fs::write(&log, "").expect("an empty log");
        let mut command = Command::new("dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--user=root",
            ])
            .args(["--no-resolv", "--no-hosts", "--local=/#/", "--log-queries"])
            .args([
                "--pid-file",
                "--bind-interfaces",
                "--listen-address=127.0.0.1",
            ])
            .arg(format!("--port={PORT}"))
            .arg(format!("--addn-hosts={}", hosts.display()))
            .arg(format!("--log-facility={}", log.display()));
        for (name, other) in aliases {
            command.arg(format!("--cname={name},{other}"));
        }
        let server = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let server = server.expect("dnsmasq, of Debian's dnsmasq-base");
        let network = Self { server, hosts, log };
        network.waits_for("started");
        network
    }

    /// Gives this network an address.
    pub fn address(&self, address: &str) {
        ip(&format!("address add {address} dev lo"));
    }

    /// A server at every address, which takes what is sent and answers nothing.
    pub fn serve(&self, port: u16) {
        let listener = TcpListener::bind(("0.0.0.0", port)).expect("a port to listen at");
        thread::spawn(move || {
            // Each stays open for as long as the test runs.
            let _open: Vec<_> = listener.incoming().collect();
        });
    }

    /// Has the name server answer so from now on: pairs of an address and its names.
    pub fn hosts(&self, hosts: &[(&str, &str)]) {
        let lines: String = hosts
            .iter()
            .map(|(address, names)| format!("{address} {names}\n"))
            .collect();
        fs::write(&self.hosts, lines).expect("a file of hosts");
        let before = self.read().matches("read ").count();
        let server = i32::try_from(self.server.id()).expect("a process id");
        let server = rustix::process::Pid::from_raw(server).expect("a process id");
        rustix::process::kill_process(server, rustix::process::Signal::HUP).expect("its process");
        let start = Instant::now();
        while self.read().matches("read ").count() == before {
            assert!(start.elapsed() < PATIENCE, "{}", self.read());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The names that the name server was asked for, each once, sorted.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        let log = self.read();
        let asked = log.lines().filter_map(|line| {
            let (_, query) = line.split_once(": query[")?;
            query.split_whitespace().nth(1).map(str::to_owned)
        });
        let mut asked: Vec<_> = asked.collect();
        asked.sort();
        asked.dedup();
        asked
    }

    /// What is to be asked in the place of the host's resolvers.
    #[must_use]
    pub fn resolver(&self) -> String {
        format!("--resolver=127.0.0.1:{PORT}")
    }

    /// A run whose names are looked up here.
    #[must_use]
    pub fn run(&self, run: Run) -> Run {
        run.option(self.resolver())
    }

    /// Runs Python in a sandbox. `reach(host, port)` connects, or has the error's name; `find(name)` has a
    /// name's addresses.
    #[must_use]
    pub fn python(&self, scene: &Scene, manifest: &Manifest, script: &str) -> Ran {
        let manifest = manifest.clone().exec("/usr/bin");
        let prelude = "import socket, struct, sys, time\n\
            def reach(host, port):\n\
            \x20   s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)\n\
            \x20   s.settimeout(20)\n\
            \x20   try: s.connect((host, port)); return s\n\
            \x20   except OSError as e: return type(e).__name__\n\
            def find(name):\n\
            \x20   try: return sorted({a[4][0] for a in socket.getaddrinfo(name, 1, proto=6)})\n\
            \x20   except OSError as e: return 'none'\n";
        let script = format!("{prelude}{script}");
        let run = Run::new(scene, &manifest, ["python3", "-c", &script]);
        self.run(run).end().with_code(0)
    }

    fn read(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    fn waits_for(&self, words: &str) {
        let start = Instant::now();
        while !self.read().contains(words) {
            assert!(start.elapsed() < PATIENCE, "{}", self.read());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _gone = self.server.kill();
        let _reaped = self.server.wait();
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    let status = status.expect("ip, of Debian's iproute2");
    assert!(status.success(), "ip {arguments}: {status}");
}
