//! The stage: files, somebody outside, and servers that nobody is to reach.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            fs::{PermissionsExt, chown},
            net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use skillsandbox_attacks::{Stage, all};

use super::Layers;
use crate::{attempts::NOBODY, manifest::Manifest, sandbox::Run, scene::Scene};

/// A stage that is set. Set anew for each choice of layers: attacks change it.
pub struct Setting {
    scene: Scene,
    stage: Stage,
    victim: Child,
    struck: PathBuf,
    tcp: [TcpListener; 2],
    udp: [UdpSocket; 2],
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
            let outcome = self.attack_alone(layers);
            over.store(true, Ordering::Relaxed);
            outcome
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

/// The program that a variable names, which `cargo xtask test` sets.
fn program(variable: &str) -> PathBuf {
    let program = std::env::var_os(variable);
    let program =
        program.unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask test`"));
    program.into()
}

fn random() -> [u8; 16] {
    use std::io::Read;
    let mut bytes = [0; 16];
    let mut source = File::open("/dev/urandom").expect("random bytes");
    source.read_exact(&mut bytes).expect("random bytes");
    bytes
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode to set");
}

/// Files of the skill's user, open to all: no refusal is that of a mode.
fn files(scene: &Scene, token: &str, attacker: &Path) {
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
fn make_capable(path: &Path) -> rustix::io::Result<()> {
    let words: [u32; 5] = [0x0200_0001, u32::MAX, 0, 0x1ff, 0];
    let value: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "security.capability", &value, flags)
}

/// Somebody of the skill's user, outside, with the token in its memory, its environment and behind
/// a descriptor.
fn victim(attacker: &Path, token: &str, struck: &Path) -> (Child, u64, i32) {
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
fn inherited(scene: &Scene, listener: &UdpSocket) -> [OwnedFd; 3] {
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
