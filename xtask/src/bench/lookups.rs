//! What looking names up costs through a sandbox's own name server.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::host::Programs;
use super::sample::{median, over};
use super::scene::Scene;
use super::table::Table;

const ROUNDS: usize = 7;
/// Names, each with an address of its own; questions, each name's several times; and those who ask,
/// each one question at a time.
const NAMES: usize = 1_000;
const COUNT: usize = 10_000;
const CLIENTS: usize = 16;
/// Any name server that a skill asks is its own; nobody has this address (RFC 5737).
const ANY: &str = "192.0.2.53:53";

/// A way to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Directly,
    Forwarder,
    Ours,
    WithoutIptables,
}

const WAYS: [(Way, &str); 4] = [
    (Way::Directly, "the name server itself, dnsmasq"),
    (
        Way::Forwarder,
        "another dnsmasq before it, which keeps nothing",
    ),
    (
        Way::Ours,
        "in a sandbox: its own name server before it, every layer and every access on record",
    ),
    (Way::WithoutIptables, "the same where iptables is not"),
];

/// One round of one way, in nanoseconds, bytes and questions.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    first: [f64; 2],
    again: [f64; 2],
    per_second: f64,
    mebibytes: f64,
}

/// The costs of lookups, as a table.
pub(super) fn lookups(scene: &Scene, programs: &Programs) -> Result<Table> {
    eprintln!("measuring: lookups…");
    let client = programs.workload.with_file_name("questions");
    fs::copy(&client, scene.skill().join("questions"))?;
    let manifest = scene.output("names.yaml");
    fs::write(&manifest, names())?;
    let server = Server::answering(scene)?;
    let forwarder = Server::forwarding(server.port)?;
    let mut measured: [Vec<Measured>; WAYS.len()] = WAYS.map(|_| Vec::new());
    for round in 0..ROUNDS {
        let mut order: Vec<_> = WAYS.iter().zip(&mut measured).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for ((way, _), measured) in order {
            let direct = |port: u16| {
                let mut words = vec![scene.skill().join("questions").display().to_string()];
                words.extend(asking(&format!("127.0.0.1:{port}")));
                words
            };
            let sandboxed = |program: &Path, options: &[&str]| {
                let mut words = vec![program.display().to_string(), "run".to_owned()];
                words.extend(options.iter().map(|&option| option.to_owned()));
                words.extend([
                    "--resolver".to_owned(),
                    format!("127.0.0.1:{}", server.port),
                ]);
                words.extend([
                    "--events".to_owned(),
                    scene.output("events").display().to_string(),
                ]);
                words.extend(["--manifest".to_owned(), manifest.display().to_string()]);
                words.push(scene.skill().display().to_string());
                words.extend(asking(ANY));
                words
            };
            let words = match way {
                Way::Directly => direct(server.port),
                Way::Forwarder => direct(forwarder.port),
                Way::Ours => sandboxed(&programs.plain, &[]),
                Way::WithoutIptables => {
                    sandboxed(&programs.layered, &["--without-layer", "iptables"])
                }
            };
            measured.push(measure(scene, &words)?);
        }
    }
    Ok(table(&measured))
}

fn asking(server: &str) -> [String; 4] {
    [
        server.to_owned(),
        NAMES.to_string(),
        COUNT.to_string(),
        CLIENTS.to_string(),
    ]
}

/// A manifest that declares every name by itself.
fn names() -> String {
    let entries: Vec<_> = (0..NAMES)
        .map(|number| format!("{{ domain: n{number}.example.com }}"))
        .collect();
    let entries = entries.join(", ");
    format!(
        "skill: {{ name: lookups, version: \"1\" }}\n\
         permissions:\n  network: {{ egress: [{entries}] }}\n\
         resources: {{ max_runtime_seconds: 600, cpu_shares: 1024 }}\n\
         entrypoint: {{ command: /skill/questions, workdir: /skill }}\n"
    )
}

fn measure(scene: &Scene, words: &[String]) -> Result<Measured> {
    let _ = fs::remove_file(scene.output("events"));
    let peak = scene.output("peak");
    let output = Command::new("time")
        .args(["--format=%M", "--output"])
        .arg(&peak)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .context("could not start time")?;
    ensure!(
        output.status.success(),
        "{words:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let line: Value = serde_json::from_slice(&output.stdout)?;
    let number = |pass: &str, name: &str| {
        let number = line.get(pass).and_then(|pass| pass.get(name));
        number.and_then(Value::as_u64).context("no number")
    };
    let times = |pass: &str| -> Result<[f64; 2]> {
        Ok([number(pass, "p50_ns")?, number(pass, "p99_ns")?].map(|time| over(time, 1)))
    };
    let answered = number("first", "count")? + number("again", "count")?;
    ensure!(answered == COUNT as u64, "{answered} of {COUNT} answers");
    let again = over(number("again", "count")?, 1);
    let kibibytes: u64 = fs::read_to_string(&peak)?.trim().parse()?;
    Ok(Measured {
        first: times("first")?,
        again: times("again")?,
        per_second: again * 1e9 / over(number("again", "total_ns")?, 1),
        mebibytes: over(kibibytes, 1024),
    })
}

fn table(measured: &[Vec<Measured>; WAYS.len()]) -> Table {
    let mut table = Table::new(&[
        "asked",
        "a name's first question, median, ms",
        "99 of 100 within, ms",
        "again, median, ms",
        "99 of 100 within, ms",
        "added to that by what is between, ms",
        "again, questions/s",
        "peak, MiB",
    ]);
    let of = |rounds: &[Measured], number: fn(&Measured) -> f64| {
        median(&rounds.iter().map(number).collect::<Vec<_>>())
    };
    let direct = measured.first().map_or(&[][..], Vec::as_slice);
    let base = of(direct, |one| one.again[1]);
    for ((way, name), rounds) in WAYS.iter().zip(measured) {
        let time = |number| format!("{:.2}", of(rounds, number) / 1e6);
        let added = match way {
            Way::Directly => "–".to_owned(),
            _ => format!("{:.2}", (of(rounds, |one| one.again[1]) - base) / 1e6),
        };
        table.row(vec![
            (*name).to_owned(),
            time(|one| one.first[0]),
            time(|one| one.first[1]),
            time(|one| one.again[0]),
            time(|one| one.again[1]),
            added,
            format!("{:.0}", of(rounds, |one| one.per_second)),
            format!("{:.1}", of(rounds, |one| one.mebibytes)),
        ]);
    }
    table.note(format!(
        "{ROUNDS} rounds, the ways in turn within each; medians of the rounds. {CLIENTS} ask at the same time, each one question \
         after the other over UDP: {NAMES} names once, and again until there were {COUNT} questions. Every one was answered. \
         Each name has an address of its own. The peak is that of the largest process, the one who asks included."
    ));
    table
}

/// A name server on loopback, ended when this is dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Has an address for every name.
    fn answering(scene: &Scene) -> Result<Self> {
        let hosts = scene.output("hosts");
        // Addresses that a name may have, scattered. Nothing is sent to any.
        let lines: Vec<_> = (0..NAMES)
            .zip(0_u32..)
            .map(|(number, bits)| {
                let [_, two, three, four] = bits.wrapping_mul(0x9e37_79b1).to_be_bytes();
                format!("45.{two}.{three}.{four} n{number}.example.com\n")
            })
            .collect();
        fs::write(&hosts, lines.concat())?;
        Self::start(&[
            "--local=/#/".to_owned(),
            format!("--addn-hosts={}", hosts.display()),
        ])
    }

    /// Passes every question on.
    fn forwarding(to: u16) -> Result<Self> {
        Self::start(&[
            format!("--server=127.0.0.1#{to}"),
            "--cache-size=0".to_owned(),
            "--dns-forward-max=1024".to_owned(),
        ])
    }

    fn start(options: &[String]) -> Result<Self> {
        let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new("dnsmasq")
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--user=root",
            ])
            .args([
                "--no-resolv",
                "--no-hosts",
                "--pid-file",
                "--bind-interfaces",
            ])
            .args(["--listen-address=127.0.0.1", "--log-facility=/dev/null"])
            .arg(format!("--port={port}"))
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("could not start dnsmasq")?;
        let mut server = Self { child, port };
        server.waits()?;
        Ok(server)
    }

    /// Until it has its port.
    fn waits(&mut self) -> Result<()> {
        for _ in 0..500 {
            if UdpSocket::bind(("127.0.0.1", self.port)).is_err() {
                return Ok(());
            }
            ensure!(self.child.try_wait()?.is_none(), "dnsmasq ended");
            thread::sleep(Duration::from_millis(10));
        }
        bail!("dnsmasq did not start");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
