//! The chains of iptables: of one sandbox each, about its packets alone, and gone with it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::json;
use skillsandbox_tests::{
    manifest::Manifest,
    network::Network,
    sandbox::{Ran, Run},
    scene::Scene,
};

const PROGRAMS: [&str; 2] = ["iptables", "ip6tables"];
/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every rule of this network's, but those of sandboxes.
fn of_others() -> String {
    let all = listing();
    let lines = all.lines().filter(|line| !line.contains("SKILLSANDBOX-"));
    lines.collect::<Vec<_>>().join("\n")
}

fn listing() -> String {
    let list = |program| {
        let output = Command::new(program).arg("-S").output();
        let output = output.expect("iptables, of Debian's package of that name");
        assert!(output.status.success(), "{program}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    PROGRAMS.map(list).concat()
}

fn chains() -> usize {
    let all = listing();
    all.lines()
        .filter(|line| line.starts_with("-N SKILLSANDBOX-"))
        .count()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}:\n{}", listing());
        sleep(Duration::from_millis(20));
    }
}

/// A skill that runs until its file is there.
fn waiting(scene: &Scene, manifest: &Manifest, file: &str) -> Run {
    let end = scene.path(file);
    let manifest = manifest.clone().read(scene.folder("signs"));
    Run::shell(
        scene,
        &manifest,
        &format!("while ! test -e {}; do sleep 0.05; done", end.display()),
    )
}

fn layer(ran: &Ran, name: &str) -> bool {
    let start = ran.of_kind("start").next().expect("a start on record");
    let layers = start["layers"].as_array().expect("layers");
    let layer = layers.iter().find(|layer| layer["name"] == name);
    layer.expect("a layer of that name")["achieved"] == true
}

#[test]
fn chains_are_of_one_sandbox_each_and_the_hosts_traffic_is_nobodys_concern() {
    let scene = Scene::new("chains");
    let _network = Network::own(&scene, &[]);
    let own = ["-A", "OUTPUT", "-d", "203.0.113.77", "-j", "DROP"];
    let status = Command::new("iptables").args(own).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "a rule of the host's"
    );
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("its address").port();
    let talk = || {
        let mut client = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        let (mut accepted, _) = server.accept().expect("a connection");
        client.write_all(b"x").expect("a byte to send");
        accepted.read_exact(&mut [0]).expect("a byte to read");
    };
    let before = of_others();
    talk();
    let manifest = Manifest::default().egress("192.0.2.0/24", 443, "tcp");
    let mut runs = ["signs/one", "signs/two"].map(|file| waiting(&scene, &manifest, file));
    let mut children = runs.each_mut().map(|run| {
        run.pipe_output();
        run.start()
    });
    until("two sandboxes, two families", || chains() == 4);
    until("closed", || {
        listing().matches("-d 192.0.2.0/24 -p tcp").count() == 2
    });
    assert_eq!(of_others(), before, "during");
    talk();
    scene.file("signs/one");
    let status = children[0].wait().expect("an end");
    assert!(status.success());
    assert_eq!(chains(), 2, "the other's stay");
    talk();
    scene.file("signs/two");
    for (run, child) in runs.iter().zip(children) {
        let ran = run.read(child.wait_with_output().expect("an end"));
        assert!(layer(&ran, "iptables") && layer(&ran, "ip6tables"));
    }
    assert_eq!(listing(), before.clone() + "\n", "after");
    talk();
}

#[test]
fn what_a_killed_supervisor_left_goes_with_the_next_start() {
    let scene = Scene::new("left");
    let _network = Network::own(&scene, &[]);
    let before = listing();
    let mut run = waiting(&scene, &Manifest::default(), "signs/never");
    let mut child = run.start();
    until("its chains", || chains() == 2);
    // Not its launcher: what it started ends with it.
    child.kill().expect("SIGKILL");
    child.wait().expect("an end");
    assert_eq!(
        chains(),
        2,
        "they hold on for whatever is left in the cgroup"
    );
    let next = Run::shell(&scene, &Manifest::default(), "true").end();
    let _ran = next.with_code(0);
    assert_eq!(listing(), before);
}

#[test]
fn a_chain_follows_the_addresses_of_names() {
    let scene = Scene::new("follows");
    let network = Network::own(&scene, &[]);
    network.hosts(&[
        ("192.0.2.5", "api.example.com"),
        ("2001:db8::5", "api.example.com"),
    ]);
    let egress = json!([{"domain": "api.example.com", "ports": ["8000-8010"]}]);
    let manifest = Manifest::default().set("/permissions/network/egress", egress);
    let end = scene.folder("signs").join("end");
    let script = format!(
        "getent ahosts api.example.com; while ! test -e {}; do sleep 0.05; done",
        end.display()
    );
    let manifest = manifest.read(scene.path("signs"));
    let mut run = network.run(Run::shell(&scene, &manifest, &script));
    let child = run.command().stdout(Stdio::null());
    let _same = child;
    let mut child = run.start();
    let fresh = ["192.0.2.5/32", "2001:db8::5/128"]
        .map(|address| format!("-d {address} -p tcp -m tcp --dport 8000:8010 -j ACCEPT"));
    until("granted", || {
        let listing = listing();
        fresh.iter().all(|line| listing.contains(line))
    });
    until("expired", || {
        listing()
            .matches("! --tcp-flags FIN,SYN,RST,ACK SYN")
            .count()
            == 2
    });
    let listing = listing();
    assert!(
        !fresh.iter().any(|line| listing.contains(line)),
        "{listing}"
    );
    scene.file("signs/end");
    assert!(child.wait().expect("an end").success());
}

#[test]
fn of_many_addresses_each_is_let_through_by_iptables_and_none_beside_them() {
    const ADDRESSES: usize = 2000;
    let scene = Scene::new("many");
    let network = Network::own(&scene, &[]);
    network.address("198.18.0.0/15");
    let address = |number: usize| {
        // Scattered, and yet many that are next to each other.
        let bits = (number / 4).wrapping_mul(0x9e37) % 0x8000 * 4 + number % 4;
        std::net::Ipv4Addr::from_bits(0xc612_0000 | u32::try_from(bits).expect("17 bits"))
    };
    let declared = (0..ADDRESSES).step_by(2);
    let egress = declared
        .map(|number| json!({"cidr": format!("{}/32", address(number)), "ports": [53000], "protocol": "udp"}));
    let manifest = Manifest::default()
        .set("/permissions/network/egress", egress.collect())
        .exec("/usr/bin");
    let all: Vec<_> = (0..ADDRESSES)
        .map(|number| address(number).to_string())
        .collect();
    let script = format!(
        "import socket\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         def sent(host):\n\
         \x20   try: return s.sendto(b'x', (host, 53000))\n\
         \x20   except PermissionError: return 0\n\
         print([sent(host) for host in {all:?}] == [1, 0] * {})\n",
        ADDRESSES / 2
    );
    let run = |option: &str| {
        let run = Run::new(&scene, &manifest, ["python3", "-c", &script]).option(option);
        let ran = run.end().with_code(0);
        assert_eq!(ran.output(), "True\n", "{option}");
        ran
    };
    assert!(layer(&run("--without-layer=ebpf"), "iptables"));
    run("--without-layer=iptables");
    assert_eq!(chains(), 0, "after");
}

#[test]
fn a_host_without_iptables_is_told_of_and_runs_all_the_same() {
    let scene = Scene::new("without");
    // In a mount namespace in which the program is not there, or does nothing but fail.
    for other in ["/dev/null", "/bin/false"] {
        let script =
            format!("mount --bind {other} /usr/sbin/xtables-nft-multi && exec \"$0\" \"$@\"");
        let run = Run::shell(&scene, &Manifest::default(), "true");
        let run = run.around(&["unshare", "--mount", "sh", "-c", &script]);
        let ran = run.end().with_code(0);
        assert!(
            !layer(&ran, "iptables") && !layer(&ran, "ip6tables"),
            "{other}"
        );
    }
}

#[test]
fn a_change_that_failed_is_made_by_the_next_answer() {
    let scene = Scene::new("failed");
    let network = Network::own(&scene, &[]);
    network.hosts(&[("192.0.2.5", "api.example.com")]);
    let egress = json!([{"domain": "api.example.com", "ports": [8000]}]);
    let signs = scene.folder("signs");
    let manifest = Manifest::default()
        .set("/permissions/network/egress", egress)
        .read(&signs);
    let script = format!(
        "cd {}; while ! test -e flushed; do sleep 0.05; done; \
         until getent hosts api.example.com; do sleep 0.05; done; \
         while ! test -e end; do sleep 0.05; done",
        signs.display()
    );
    let mut run = network.run(Run::shell(&scene, &manifest, &script));
    run.command().stdout(Stdio::null());
    let mut child = run.start();
    until("closed", || listing().matches("-j REJECT").count() >= 4);
    for program in PROGRAMS {
        for flag in ["-F", "-X"] {
            let status = Command::new(program).arg(flag).status();
            assert!(
                status.is_ok_and(|status| status.success()),
                "{program} {flag}"
            );
        }
    }
    scene.file("signs/flushed");
    until("granted", || {
        listing().contains("-d 192.0.2.5/32 -p tcp -m tcp --dport 8000")
    });
    scene.file("signs/end");
    assert!(child.wait().expect("an end").success());
    let refused = std::fs::read_to_string(run.events_file()).expect("records");
    assert!(refused.contains("iptables-restore refused"), "{refused}");
}
