//! Ways to reach an address. eBPF decides on all of them: on both tiers, with other layers off
//! where that is possible.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use skillsandbox_tests::{
    attempts,
    attempts::Attempts,
    manifest::Manifest,
    sandbox::{Ran, Run},
    scene::Scene,
};

/// Servers on loopback, on ports of their own.
struct Servers {
    tcp4: TcpListener,
    tcp6: TcpListener,
    udp4: UdpSocket,
    udp6: UdpSocket,
}

impl Servers {
    fn start() -> Self {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        Self {
            tcp4: TcpListener::bind(v4).expect("a port on 127.0.0.1"),
            tcp6: TcpListener::bind(v6).expect("a port on ::1: IPv6 on loopback"),
            udp4: UdpSocket::bind(v4).expect("a port on 127.0.0.1"),
            udp6: UdpSocket::bind(v6).expect("a port on ::1: IPv6 on loopback"),
        }
    }

    fn ports(&self) -> [u16; 4] {
        let port = |address: std::io::Result<SocketAddr>| address.expect("an address").port();
        [
            port(self.tcp4.local_addr()),
            port(self.tcp6.local_addr()),
            port(self.udp4.local_addr()),
            port(self.udp6.local_addr()),
        ]
    }

    /// Nothing has arrived.
    fn are_untouched(&self) {
        self.tcp4.set_nonblocking(true).expect("a flag to set");
        self.tcp6.set_nonblocking(true).expect("a flag to set");
        assert!(self.tcp4.accept().is_err(), "a connection over IPv4");
        assert!(self.tcp6.accept().is_err(), "a connection over IPv6");
        for socket in [&self.udp4, &self.udp6] {
            socket.set_nonblocking(true).expect("a flag to set");
            assert!(socket.recv(&mut [0; 8]).is_err(), "a datagram");
        }
    }

    /// Takes what has arrived.
    fn drain(&self) {
        self.tcp4.set_nonblocking(true).expect("a flag to set");
        self.tcp6.set_nonblocking(true).expect("a flag to set");
        while self.tcp4.accept().is_ok() || self.tcp6.accept().is_ok() {}
        for socket in [&self.udp4, &self.udp6] {
            socket.set_nonblocking(true).expect("a flag to set");
            while socket.recv(&mut [0; 8]).is_ok() {}
        }
    }
}

/// Without other layers in the kernel tier; the fallback tier always has them.
fn run(scene: &Scene, manifest: &Manifest, attempts: &Attempts) -> Ran {
    let run = Run::probe(scene, manifest, attempts);
    if skillsandbox_tests::host::has_bpf_lsm() {
        run.by_ebpf_alone().end()
    } else {
        // io_uring, TCP Fast Open and the like are for eBPF to refuse here.
        run.option("--without-layer=seccomp").end()
    }
}

/// Everything granted that the servers have.
fn granting(ports: [u16; 4]) -> Manifest {
    let [tcp4, tcp6, udp4, udp6] = ports;
    Manifest::default()
        .egress("127.0.0.1/32", tcp4, "any")
        .egress("::1/128", tcp6, "any")
        .egress("127.0.0.1/32", udp4, "any")
        .egress("::1/128", udp6, "any")
}

fn denied_and_recorded(attempts: &Attempts, kind: &str, expected: &[String], servers: &Servers) {
    let scene = Scene::new("addresses");
    attempts.outside(&scene).all_ok("before, outside");
    servers.drain();
    // Right addresses, another port: a rule covers the address and grants nothing of this.
    let other = Manifest::default()
        .egress("127.0.0.1/32", 9, "any")
        .egress("::1/128", 9, "any");
    let ran = run(&scene, &other, attempts);
    ran.endings(attempts).all_denied("in the sandbox");
    ran.denied(kind, expected);
    servers.are_untouched();
    let after = run(&scene, &granting(servers.ports()), attempts);
    after.endings(attempts).all_ok("after, granted");
    assert_eq!(after.denials(kind), Vec::<String>::new());
}

#[test]
fn an_undeclared_port_is_not_connected_to_over_ipv4_ipv6_or_mapped_addresses() {
    let servers = Servers::start();
    let [tcp4, tcp6, udp4, udp6] = servers.ports().map(|port| port.to_string());
    let attempts = attempts!(
        ["connect", "tcp", "127.0.0.1", tcp4],
        ["connect", "tcp", "::ffff:127.0.0.1", tcp4],
        ["connect", "tcp", "::1", tcp6],
        ["connect", "udp", "127.0.0.1", udp4],
        ["connect", "udp", "::ffff:127.0.0.1", udp4],
        ["connect", "udp", "::1", udp6],
    );
    let told = |address: &str| format!("not_granted: {address}");
    let expected = [
        told(&format!("127.0.0.1 {tcp4}/tcp")),
        told(&format!("127.0.0.1 {tcp4}/tcp")),
        told(&format!("::1 {tcp6}/tcp")),
        told(&format!("127.0.0.1 {udp4}/udp")),
        told(&format!("127.0.0.1 {udp4}/udp")),
        told(&format!("::1 {udp6}/udp")),
    ];
    denied_and_recorded(&attempts, "connect", &expected, &servers);
}

#[test]
fn io_uring_and_tcp_fast_open_connect_nowhere_else() {
    let servers = Servers::start();
    let [tcp4, tcp6, ..] = servers.ports().map(|port| port.to_string());
    let attempts = attempts!(
        ["uring-connect", "127.0.0.1", tcp4],
        ["uring-connect", "::1", tcp6],
        ["fast-open", "127.0.0.1", tcp4],
        ["fast-open", "::1", tcp6],
    );
    let told = |address: &str| format!("not_granted: {address}/tcp");
    let expected = [
        told(&format!("127.0.0.1 {tcp4}")),
        told(&format!("::1 {tcp6}")),
        told(&format!("127.0.0.1 {tcp4}")),
        told(&format!("::1 {tcp6}")),
    ];
    denied_and_recorded(&attempts, "connect", &expected, &servers);
}

#[test]
fn multipath_tcp_is_decided_as_tcp() {
    let servers = Servers::start();
    let [tcp4, tcp6, ..] = servers.ports().map(|port| port.to_string());
    // Needs CONFIG_MPTCP; without it these fail before, outside.
    let attempts = attempts!(
        ["connect", "mptcp", "127.0.0.1", tcp4],
        ["connect", "mptcp", "::1", tcp6],
    );
    let told = |address: &str| format!("not_granted: {address}/tcp");
    let expected = [
        told(&format!("127.0.0.1 {tcp4}")),
        told(&format!("::1 {tcp6}")),
    ];
    denied_and_recorded(&attempts, "connect", &expected, &servers);
}

#[test]
fn a_datagram_without_a_connection_goes_nowhere_else_by_any_call() {
    let servers = Servers::start();
    let [_, _, udp4, udp6] = servers.ports().map(|port| port.to_string());
    let mut attempts = Attempts::default();
    let mut expected = Vec::new();
    for way in ["sendto", "sendmsg", "sendmmsg", "uring"] {
        for (address, port, told) in [
            ("127.0.0.1", &udp4, "127.0.0.1"),
            ("::1", &udp6, "::1"),
            ("::ffff:127.0.0.1", &udp4, "127.0.0.1"),
        ] {
            let words = ["send", way, address, port];
            attempts.push(&words.map(AsRef::as_ref));
            expected.push(format!("not_granted: {told} {port}/udp"));
        }
    }
    denied_and_recorded(&attempts, "sendmsg", &expected, &servers);
}

#[test]
fn a_socket_is_not_turned_from_a_granted_address_to_another() {
    let scene = Scene::new("turned");
    let servers = Servers::start();
    let [_, _, udp4, _] = servers.ports();
    let port = udp4.to_string();
    let attempts = attempts!(["reconnect", "127.0.0.1", port, "127.0.0.2", port]);
    attempts.outside(&scene).all_ok("before, outside");
    let first = Manifest::default().egress("127.0.0.1/32", udp4, "udp");
    let ran = run(&scene, &first, &attempts);
    ran.endings(&attempts).all_denied("in the sandbox");
    ran.denied("connect", &[format!("no_rule: 127.0.0.2 {port}/udp")]);
    let both = first.egress("127.0.0.2/32", udp4, "udp");
    run(&scene, &both, &attempts)
        .endings(&attempts)
        .all_ok("after, granted");
}

fn options_do_not_leave(address: &str, servers: &Servers, port: u16) {
    let scene = Scene::new("options");
    let attempts = attempts!(["send-with-options", address, port.to_string()]);
    attempts.outside(&scene).all_ok("before, outside");
    servers.drain();
    let granted = granting(servers.ports());
    let ran = run(&scene, &granted, &attempts);
    ran.endings(&attempts).all_denied("in the sandbox");
    servers.are_untouched();
    assert_eq!(ran.trace()["counts"]["refused_packets"], 1);
    let plain = attempts!(["send", "sendmsg", address, port.to_string()]);
    let ran = run(&scene, &granted, &plain);
    ran.endings(&plain).all_ok("after, without options");
    assert_eq!(ran.trace()["counts"]["refused_packets"], 0);
}

#[test]
fn a_datagram_with_options_does_not_leave_even_where_its_address_is_granted() {
    let servers = Servers::start();
    let [_, _, udp4, _] = servers.ports();
    options_do_not_leave("127.0.0.1", &servers, udp4);
}

mod kernel_tier {
    use super::{Servers, options_do_not_leave};

    // Not every kernel knows a routing header that users may send; those of the machines do.
    #[test]
    fn a_datagram_with_a_routing_header_does_not_leave_even_where_its_address_is_granted() {
        let servers = Servers::start();
        let [.., udp6] = servers.ports();
        options_do_not_leave("::1", &servers, udp6);
    }
}

#[test]
fn the_unspecified_address_and_other_protocols_are_not_what_was_granted() {
    let scene = Scene::new("unspecified");
    let servers = Servers::start();
    let [tcp4, tcp6, udp4, _] = servers.ports();
    let (tcp_port, six_port, udp_port) = (tcp4.to_string(), tcp6.to_string(), udp4.to_string());
    // 0.0.0.0 and :: are loopback to connect(2).
    let attempts = attempts!(
        ["connect", "tcp", "0.0.0.0", tcp_port],
        ["connect", "tcp", "::", six_port],
        ["send", "sendto", "0.0.0.0", udp_port],
        ["connect", "udp", "127.0.0.1", tcp_port],
    );
    attempts.outside(&scene).all_ok("before, outside");
    servers.drain();
    let manifest = Manifest::default()
        .egress("127.0.0.1/32", tcp4, "tcp")
        .egress("::1/128", tcp6, "tcp")
        .egress("127.0.0.1/32", udp4, "udp");
    let ran = run(&scene, &manifest, &attempts);
    ran.endings(&attempts).all_denied("in the sandbox");
    servers.are_untouched();
    let granted = attempts!(
        ["connect", "tcp", "127.0.0.1", tcp_port],
        ["connect", "tcp", "::1", six_port],
        ["send", "sendto", "127.0.0.1", udp_port],
    );
    run(&scene, &manifest, &granted)
        .endings(&granted)
        .all_ok("after, what was granted");
}

#[test]
fn port_53_leads_to_the_sandboxs_own_name_server_whatever_is_declared() {
    let scene = Scene::new("dns");
    let attempts = attempts!(
        ["send", "sendto", "127.0.0.1", "53"],
        ["send", "sendto", "192.0.2.53", "53"],
        ["send", "sendto", "::1", "53"],
        ["connect", "udp", "127.0.0.53", "53"],
        ["connect", "tcp", "192.0.2.53", "53"],
    );
    let everything = Manifest::default().egress("0.0.0.0/0", 53, "any");
    for manifest in [Manifest::default(), everything] {
        let ran = run(&scene, &manifest, &attempts);
        ran.endings(&attempts).all_ok("in the sandbox");
        let led = |kind| {
            let led = ran.of_kind(kind);
            led.filter(|event| event["reason"] == "name_server").count()
        };
        assert_eq!((led("sendmsg"), led("connect")), (3, 2));
    }
}

#[test]
fn only_a_port_that_the_kernel_chooses_can_be_bound() {
    let scene = Scene::new("bound");
    let servers = Servers::start();
    let ports = servers.ports();
    drop(servers);
    let [tcp4, tcp6, udp4, udp6] = ports.map(|port| port.to_string());
    let attempts = attempts!(
        ["bind", "tcp", "127.0.0.1", tcp4],
        ["bind", "tcp", "::1", tcp6],
        ["bind", "udp", "0.0.0.0", udp4],
        ["bind", "udp", "::", udp6],
    );
    attempts.outside(&scene).all_ok("before, outside");
    // Landlock would answer before eBPF is asked.
    let run = |attempts: &Attempts| {
        let run = Run::probe(&scene, &granting(ports), attempts);
        run.option("--without-layer=iptables,mounts,landlock,seccomp")
            .end()
    };
    let ran = run(&attempts);
    ran.endings(&attempts).all_denied("in the sandbox");
    let expected = [
        format!("not_granted: 127.0.0.1 {tcp4}/tcp"),
        format!("not_granted: ::1 {tcp6}/tcp"),
        format!("not_granted: 0.0.0.0 {udp4}/udp"),
        format!("not_granted: :: {udp6}/udp"),
    ];
    ran.denied("bind", &expected);
    let any = attempts!(
        ["bind", "tcp", "127.0.0.1", "0"],
        ["bind", "tcp", "::1", "0"],
        ["bind", "udp", "0.0.0.0", "0"],
        ["bind", "udp", "::", "0"],
    );
    let ran = run(&any);
    ran.endings(&any).all_ok("any port, in the sandbox");
    assert_eq!(ran.of_kind("bind").count(), 4);
    let all_layers = Run::probe(&scene, &granting(ports), &any).end();
    all_layers
        .endings(&any)
        .all_ok("any port, with every layer");
    assert_eq!(all_layers.of_kind("bind").count(), 4);
    attempts.outside(&scene).all_ok("after, outside");
}
