//! The stage: files, somebody outside, and servers that nobody is to reach.

use std::{
    fs::{self, File},
    io::Write,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use skillsandbox_attacks::{Stage, all};

use super::{
    Layers,
    props::{files, inherited, make_capable, mode, program, random, victim},
};
use crate::{attempts::NOBODY, manifest::Manifest, sandbox::Run, scene::Scene};

/// A stage that is set. Set anew for each choice of layers: attacks change it.
pub struct Setting {
    scene: Scene,
    stage: Stage,
    victim: Child,
    struck: PathBuf,
    tcp: [TcpListener; 2],
    udp: [UdpSocket; 2],
    name_server: (TcpListener, UdpSocket),
    _granted: (TcpListener, UdpSocket),
    unix: [UnixListener; 3],
    datagrams: UnixDatagram,
    _inherited: [OwnedFd; 3],
}

impl Setting {
    /// Sets the stage.
    #[must_use]
    pub fn new() -> Self {
        let scene = Scene::new("attacks");
        let token = format!("token-{:032x}", u128::from_ne_bytes(random()));
        let attacker = scene.path("attacker");
        fs::copy(program("ATTACKER_BIN"), &attacker).expect("a copy of the attacker");
        mode(&attacker, 0o755);
        let setuid = scene.path("tools/setuid");
        let capable = scene.path("tools/capable");
        files(&scene, &token, &attacker);
        fs::copy(&attacker, &setuid).expect("a copy to be setuid");
        mode(&setuid, 0o4755);
        fs::copy(&attacker, &capable).expect("a copy to be capable");
        mode(&capable, 0o755);
        let _unsupported = make_capable(&capable);

        let v4 = || SocketAddr::from(([127, 0, 0, 1], 0));
        let v6 = || "[::1]:0".parse::<SocketAddr>().expect("an address");
        let tcp = [v4(), v6()].map(|address| {
            let listener = TcpListener::bind(address).expect("a port to listen at");
            listener.set_nonblocking(true).expect("a flag to set");
            listener
        });
        let udp = [v4(), v6()].map(|address| {
            let socket = UdpSocket::bind(address).expect("a port to receive at");
            socket.set_nonblocking(true).expect("a flag to set");
            socket
        });
        // Not one that a host may have a name server of its own at.
        let name_server = IpAddr::from([127, 0, 0, 99]);
        let by_tcp = TcpListener::bind((name_server, 53)).expect("port 53");
        let by_udp = UdpSocket::bind((name_server, 53)).expect("port 53");
        by_tcp.set_nonblocking(true).expect("a flag to set");
        by_udp.set_nonblocking(true).expect("a flag to set");
        let granted = TcpListener::bind(v4()).expect("a port to be granted");
        let granted_port = granted.local_addr().expect("its address").port();
        let granted_udp = UdpSocket::bind(("127.0.0.1", granted_port)).expect("the same of UDP");

        let (unix_path, unix_allowed) = (scene.path("denied/socket"), scene.path("allowed/socket"));
        let unix_abstract = format!("attacks-{token}");
        let name = UnixAddress::from_abstract_name(&unix_abstract).expect("a name");
        let unix = [
            UnixListener::bind(&unix_path).expect("a socket at a path"),
            UnixListener::bind(&unix_allowed).expect("a socket at a path"),
            UnixListener::bind_addr(&name).expect("a socket at a name"),
        ];
        for listener in &unix {
            listener.set_nonblocking(true).expect("a flag to set");
        }
        let unix_datagram = scene.path("allowed/datagrams");
        let datagrams = UnixDatagram::bind(&unix_datagram).expect("a socket for datagrams");
        datagrams.set_nonblocking(true).expect("a flag to set");
        for socket in [&unix_path, &unix_allowed, &unix_datagram] {
            mode(socket, 0o666);
        }

        let struck = scene.file("struck");
        fs::write(&struck, "").expect("an empty log");
        let (victim, victim_address, victim_descriptor) = victim(&attacker, &token, &struck);
        let inherited = inherited(&scene, &udp[0]);
        let port = |address: std::io::Result<SocketAddr>| address.expect("its address").port();
        let stage = Stage {
            allowed: scene.path("allowed"),
            readable: scene.path("readable"),
            denied: scene.path("denied"),
            hidden: scene.path("shown/hidden"),
            attacker,
            setuid,
            capable,
            victim: i32::try_from(victim.id()).expect("a process id"),
            victim_address,
            victim_descriptor,
            ports: [
                port(tcp[0].local_addr()),
                port(tcp[1].local_addr()),
                port(udp[0].local_addr()),
                port(udp[1].local_addr()),
            ],
            name_server,
            granted: granted_port,
            unix: unix_path,
            unix_in_allowed: unix_allowed,
            unix_datagram,
            unix_abstract,
            inherited: inherited.each_ref().map(AsRawFd::as_raw_fd),
            token,
        };
        Self {
            scene,
            stage,
            victim,
            struck,
            tcp,
            udp,
            name_server: (by_tcp, by_udp),
            _granted: (granted, granted_udp),
            unix,
            datagrams,
            _inherited: inherited,
        }
    }

    /// What a skill is granted here: nothing that any attack is after.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        let stage = &self.stage;
        let mut manifest = Manifest::default()
            .both(&stage.allowed)
            .read(&stage.readable)
            .read(self.scene.path("shown"))
            .deny(&stage.hidden)
            .read(stage.hidden.join("again"))
            .egress("127.0.0.1/32", stage.granted, "any");
        for program in [&stage.attacker, &stage.setuid, &stage.capable] {
            manifest = manifest.read(program).exec(program);
        }
        manifest.set("/resources/max_runtime_seconds", serde_json::json!(1800))
    }

    /// Lets the attacker try everything, and answers what it wrote and what we wrote of it.
    #[must_use]
    pub fn attack(&self, layers: Layers) -> (String, Option<serde_json::Value>) {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| self.call_who_asks(&over));
            // Also when this thread panics: the scope waits for the other.
            let _end = Over(&over);
            self.attack_alone(layers)
        })
    }

    /// Calls every port that an attack names, and tells the token there.
    fn call_who_asks(&self, over: &AtomicBool) {
        const PAUSE: Duration = Duration::from_millis(10);
        const PATIENCE: Duration = Duration::from_secs(1);
        let asking: Vec<PathBuf> = all()
            .filter(|attack| attack.family == "network: being called")
            .map(|attack| self.stage.allowed.join(attack.name).join("call-me"))
            .collect();
        while !over.load(Ordering::Relaxed) {
            self.answer_questions();
            for file in &asking {
                let Ok(text) = fs::read_to_string(file) else {
                    continue;
                };
                let _gone = fs::remove_file(file);
                let token = self.stage.token.as_bytes();
                // Whether the call arrives is for the attack to say.
                let (protocol, address) = text.split_once(' ').expect("a protocol and an address");
                let address: SocketAddr = address.parse().expect("an address");
                let _refused = if protocol == "tcp" {
                    TcpStream::connect_timeout(&address, PATIENCE)
                        .and_then(|mut stream| stream.write_all(token))
                } else {
                    UdpSocket::bind("127.0.0.1:0")
                        .and_then(|socket| socket.send_to(token, address))
                        .map(drop)
                };
            }
            thread::sleep(PAUSE);
        }
    }

    /// Answers whatever is asked with the token.
    fn answer_questions(&self) {
        let token = self.stage.token.as_bytes();
        let (by_tcp, by_udp) = &self.name_server;
        while let Ok((_, asker)) = by_udp.recv_from(&mut [0; 512]) {
            let _gone = by_udp.send_to(token, asker);
        }
        while let Ok((mut stream, _)) = by_tcp.accept() {
            let _gone = stream.write_all(token);
        }
    }

    fn attack_alone(&self, layers: Layers) -> (String, Option<serde_json::Value>) {
        let stage = serde_json::to_string(&self.stage).expect("a stage is JSON");
        let input = File::open(self.stage.denied.join("names/secret")).expect("an input");
        match layers {
            Layers::Outside => {
                let by = |root: bool| {
                    let names: Vec<_> = all()
                        .filter(|attack| attack.by_root == root)
                        .map(|attack| attack.name)
                        .collect();
                    let mut command = Command::new(&self.stage.attacker);
                    command.arg(&stage).args(names).current_dir("/");
                    if !root {
                        command.uid(NOBODY).gid(NOBODY);
                    }
                    let input = input.try_clone().expect("the input again");
                    let output = command.stdin(input).output().expect("the attacker runs");
                    String::from_utf8_lossy(&output.stdout).into_owned()
                };
                (by(false) + &by(true), None)
            }
            _ => {
                // Not the scene's own folder: what is in a skill's folder it may read.
                let folder = self.scene.folder("skill");
                let entrypoint = serde_json::json!({
                    "command": self.stage.attacker,
                    "args": [stage],
                    "workdir": "/",
                });
                let manifest = self.manifest().set("/entrypoint", entrypoint);
                let text = manifest.0.to_string();
                fs::write(folder.join("skillsandbox.yaml"), text).expect("a manifest");
                let mut run = Run::skill(&self.scene, &folder);
                if let Some(left_out) = layers.left_out() {
                    run = run.option(format!("--without-layer={left_out}"));
                }
                run.command().stdin(input);
                let ran = run.end();
                assert_eq!(
                    ran.code,
                    Some(0),
                    "{layers:?}: {}\n{}",
                    ran.stderr,
                    ran.output()
                );
                let start = ran.of_kind("start").next().cloned();
                (ran.output(), start)
            }
        }
    }

    /// What is on the stage after a sandbox with all layers, whatever the attacker says of itself.
    pub fn is_untouched(&mut self, output: &str) {
        assert!(
            !output.contains(&self.stage.token),
            "the token was written out"
        );
        for listener in &self.tcp {
            assert!(listener.accept().is_err(), "a connection came");
        }
        for socket in &self.udp {
            assert!(socket.recv(&mut [0; 16]).is_err(), "a datagram came");
        }
        for listener in &self.unix {
            assert!(
                listener.accept().is_err(),
                "a connection of a unix socket came"
            );
        }
        assert!(
            self.datagrams.recv(&mut [0; 16]).is_err(),
            "a datagram of a unix socket came"
        );
        assert_eq!(
            fs::read_to_string(&self.struck).ok().as_deref(),
            Some(""),
            "a signal came"
        );
        assert!(
            matches!(self.victim.try_wait(), Ok(None)),
            "the victim has ended"
        );
        let content = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        for attack in all() {
            let (denied, readable) = (
                self.stage.denied.join(attack.name),
                self.stage.readable.join(attack.name),
            );
            assert_eq!(
                content(&denied.join("secret")),
                self.stage.token,
                "{}",
                attack.name
            );
            assert_eq!(
                content(&denied.join("victim")),
                "untouched",
                "{}",
                attack.name
            );
            assert_eq!(
                content(&readable.join("file")),
                "untouched",
                "{}",
                attack.name
            );
            let entries = fs::read_dir(&denied).expect("the folder").count();
            assert_eq!(entries, 4, "names in {}", denied.display());
            for path in [denied.join("victim"), readable.join("file")] {
                let mode = fs::metadata(&path).expect("the file").permissions().mode();
                assert_eq!(mode & 0o777, 0o666, "the mode of {}", path.display());
            }
        }
    }
}

/// Says that it is over when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Default for Setting {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        // One that has ended already is what is left of some attacks.
        let _gone = self.victim.kill();
        let _reaped = self.victim.wait();
    }
}
