//! Being called: at the ports that the manifest declares, over TCP, and nowhere else.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Stdio,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde_json::json;
use skillsandbox_tests::{
    attempts,
    manifest::Manifest,
    sandbox::{Ran, Run},
    scene::Scene,
};

/// Far longer than a call takes, also on an emulated processor.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a call is waited for that does not get through.
const SILENCE: Duration = Duration::from_secs(2);

/// Says which port it listens at, takes one call within the time, and gives a byte back.
const SERVER: &str = r#"
import socket, sys
host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
server = socket.create_server((host, port), family=family)
print(server.getsockname()[1], flush=True)
server.settimeout(seconds)
try:
    client, _ = server.accept()
    client.sendall(client.recv(1))
    print("called")
except TimeoutError:
    print("not called")
"#;

/// A port that nobody has.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

fn listening(ports: &[u16]) -> Manifest {
    Manifest::default().set("/permissions/network/listen", json!(ports))
}

/// Has a skill listen and calls it, from a port of ours or any. The skill's end, and what the call came
/// to.
fn call(run: Run, host: &str, own: u16) -> (Ran, std::io::Result<u8>) {
    let mut run = run;
    run.pipe_output();
    // Read by nobody while the skill's words are.
    run.command().stderr(Stdio::inherit());
    let mut child = run.start();
    let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).expect("words of the skill's");
    let called = match line.trim().parse::<u16>() {
        Ok(port) => exchange(
            SocketAddr::new(host.parse().expect("an address"), port),
            own,
        ),
        Err(error) => Err(std::io::Error::other(error)),
    };
    let mut rest = String::new();
    said.read_to_string(&mut rest)
        .expect("words of the skill's");
    let output = child.wait_with_output().expect("an end");
    let mut ran = run.read(output);
    ran.stdout = [line, rest].concat().into_bytes();
    (ran, called)
}

/// Calls from a port of ours, 0 for any, and gets a byte back.
fn exchange(server: SocketAddr, own: u16) -> std::io::Result<u8> {
    let family = if server.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(server.ip(), own))?;
    // SYN is sent again after a second: what is not answered is given up by then.
    rustix::net::sockopt::set_tcp_user_timeout(&socket, 1_500)?;
    rustix::net::connect(&socket, &server)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SILENCE))?;
    stream.write_all(b"x")?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn server(scene: &Scene, manifest: &Manifest, host: &str, port: u16, seconds: u64) -> Run {
    let manifest = manifest.clone().exec("/usr/bin");
    let (port, seconds) = (port.to_string(), seconds.to_string());
    Run::new(
        scene,
        &manifest,
        ["python3", "-c", SERVER, host, &port, &seconds],
    )
}

#[test]
fn a_declared_port_is_called_over_ipv4_and_ipv6_and_its_bind_is_on_record() {
    let scene = Scene::new("called");
    for host in ["127.0.0.1", "::1"] {
        let port = free_port();
        let run = server(&scene, &listening(&[port]), host, port, PATIENCE.as_secs());
        let (ran, called) = call(run, host, 0);
        assert_eq!(called.expect("an answer"), b'x', "{}", ran.output());
        let ran = ran.with_code(0);
        assert!(ran.output().ends_with("called\n") && !ran.output().contains("not"));
        let bind = ran.of_kind("bind").next().expect("a bind on record");
        assert_eq!(
            (&bind["verdict"], &bind["rule"]["text"]),
            (
                &json!("allow"),
                &json!(format!("network.listen {port}/tcp"))
            )
        );
        assert_eq!(ran.trace()["counts"]["refused_packets"], 0);
    }
}

#[test]
fn a_port_below_1024_is_had_where_it_is_declared() {
    let scene = Scene::new("low");
    let attempts = attempts!(["bind", "tcp", "127.0.0.1", "81"]);
    let run = |port| Run::probe(&scene, &listening(&[port]), &attempts);
    // Landlock would answer before eBPF is asked.
    let other = run(82).option("--without-layer=landlock").end();
    other.endings(&attempts).all_denied("another declared");
    run(81).end().endings(&attempts).all_ok("declared");
}

#[test]
fn another_port_is_not_bound_nor_the_same_one_of_udp() {
    let scene = Scene::new("other");
    let (port, other) = (free_port(), free_port());
    let attempts = attempts!(
        ["bind", "tcp", "127.0.0.1", other.to_string()],
        ["bind", "tcp", "::", other.to_string()],
        ["bind", "udp", "127.0.0.1", port.to_string()],
    );
    attempts.outside(&scene).all_ok("before, outside");
    let run = Run::probe(&scene, &listening(&[port]), &attempts);
    // Landlock would answer before eBPF is asked.
    let ran = run
        .option("--without-layer=iptables,mounts,landlock,seccomp")
        .end();
    ran.endings(&attempts).all_denied("in the sandbox");
    ran.denied(
        "bind",
        &[
            format!("not_granted: 127.0.0.1 {other}/tcp"),
            format!("not_granted: :: {other}/tcp"),
            format!("not_granted: 127.0.0.1 {port}/udp"),
        ],
    );
    let advice: Vec<_> = ran.of_kind("bind").map(|bind| &bind["permit"]).collect();
    let line = json!(format!(
        "permissions: {{ network: {{ listen: [{other}] }} }}"
    ));
    assert_eq!(advice, [&line, &line, &json!(null)]);
    attempts.outside(&scene).all_ok("after, outside");
}

/// Nobody gets an answer of a server at a port that the kernel chose for it.
fn unanswered(scene: &Scene, option: &str, own: u16) -> String {
    let manifest = match own {
        0 => listening(&[free_port()]),
        // Where a rule leads to the caller.
        own => listening(&[free_port()]).egress("127.0.0.1/32", own, "tcp"),
    };
    let run = server(scene, &manifest, "127.0.0.1", 0, 4).option(option);
    let (ran, called) = call(run, "127.0.0.1", own);
    assert!(called.is_err(), "{option}: answered");
    ran.output()
}

#[test]
fn a_port_that_the_kernel_chose_is_not_called_by_ebpf_and_does_not_answer_by_iptables() {
    let scene = Scene::new("chosen");
    for own in [0, free_port()] {
        let output = unanswered(&scene, "--without-layer=iptables", own);
        assert!(output.ends_with("not called\n"), "{output}");
    }
    // `xt_cgroup` knows no socket of a call before it is answered.
    unanswered(&scene, "--without-layer=ebpf", 0);
}

#[test]
fn what_may_be_called_calls_nobody_with_either_layer_off() {
    let scene = Scene::new("calls");
    let host = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = host.local_addr().expect("its address").port();
    host.set_nonblocking(true).expect("a flag to set");
    let script = r#"
import socket, sys
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
client.settimeout(2)
client.bind(("127.0.0.1", int(sys.argv[1])))
try:
    client.connect(("127.0.0.1", int(sys.argv[2])))
    print("reached")
except OSError as error:
    print("not reached")
"#;
    let port = free_port();
    let reach = |manifest: &Manifest, option: &str| {
        let manifest = manifest.clone().exec("/usr/bin");
        let (port, to) = (port.to_string(), to.to_string());
        let words = ["python3", "-c", script, &port, &to];
        let ran = Run::new(&scene, &manifest, words).option(option).end();
        ran.with_code(0).output()
    };
    let manifest = listening(&[port]);
    for option in ["--without-layer=iptables", "--without-layer=ebpf"] {
        assert_eq!(reach(&manifest, option), "not reached\n", "{option}");
        assert!(host.accept().is_err(), "{option}: a connection");
        let granted = manifest.clone().egress("127.0.0.1/32", to, "tcp");
        assert_eq!(reach(&granted, option), "reached\n", "{option}, granted");
        while host.accept().is_ok() {}
    }
}
