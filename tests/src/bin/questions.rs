//! What `cargo xtask bench` measures of name servers: `questions SERVER NAMES COUNT CLIENTS` asks for
//! `n0.example.com` and so on, each client one question at a time, first each name once and then all
//! again until there were COUNT questions. Writes one line.

use std::env;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Far longer than an answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [server, names, count, clients] = arguments.as_slice() else {
        anyhow::bail!("usage: questions SERVER NAMES COUNT CLIENTS");
    };
    let server: SocketAddr = server.parse().context("SERVER is no address with a port")?;
    let (names, count): (usize, usize) = (names.parse()?, count.parse()?);
    let clients: usize = clients.parse()?;
    ensure!(names > 0 && count > names && clients > 0, "nothing to ask");
    let first = asked(server, clients, 0..names, names)?;
    let again = asked(server, clients, names..count, names)?;
    println!("{}", serde_json::json!({ "first": first, "again": again }));
    Ok(())
}

/// Asks, and tells how long the answers took.
fn asked(
    server: SocketAddr,
    clients: usize,
    numbers: std::ops::Range<usize>,
    names: usize,
) -> Result<serde_json::Value> {
    let started = Instant::now();
    let times: Result<Vec<Vec<Duration>>> = thread::scope(|scope| {
        let asking: Vec<_> = (0..clients)
            .map(|client| {
                let own = numbers.clone().skip(client).step_by(clients);
                scope.spawn(move || ask(server, own.map(|number| number % names)))
            })
            .collect();
        asking
            .into_iter()
            .map(|client| client.join().expect("a client does not panic"))
            .collect()
    });
    let took = started.elapsed();
    let mut times = times?.concat();
    times.sort();
    let at = |share: usize| -> Result<u64> {
        let place = (times.len() * share / 100).min(times.len() - 1);
        Ok(u64::try_from(
            times.get(place).context("no answer")?.as_nanos(),
        )?)
    };
    Ok(serde_json::json!({
        "count": times.len(),
        "p50_ns": at(50)?,
        "p99_ns": at(99)?,
        "most_ns": at(100)?,
        "total_ns": u64::try_from(took.as_nanos())?,
    }))
}

fn ask(server: SocketAddr, names: impl Iterator<Item = usize>) -> Result<Vec<Duration>> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    let mut times = Vec::new();
    for (id, name) in (1..=u16::MAX).cycle().zip(names) {
        let question = question(id, &format!("n{name}"))?;
        let started = Instant::now();
        socket.send(&question)?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).context("no answer")?;
        times.push(started.elapsed());
        let answer = answer.get(..length).unwrap_or_default();
        ensure!(answer.starts_with(&id.to_be_bytes()), "not what was asked");
        // RFC 1035, 4.1.1: no error, and an answer.
        ensure!(
            matches!(answer, [_, _, _, flags, _, _, 0, count, ..] if flags & 15 == 0 && *count > 0),
            "n{name} has no address: {answer:?}"
        );
    }
    Ok(times)
}

/// A question for addresses of IPv4 (RFC 1035, 4.1).
fn question(id: u16, label: &str) -> Result<Vec<u8>> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in [label, "example", "com"] {
        bytes.push(u8::try_from(label.len())?);
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    Ok(bytes)
}
