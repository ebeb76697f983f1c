//! Several processes that open, connect and execute as fast as they can, and count it themselves.
//!
//! `flood FILE ADDRESS PROGRAM PROCESSES SECONDS` writes one line of JSON: how often each was done by all, and what
//! an open took.

use std::{
    env,
    ffi::CString,
    net::SocketAddr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    fs::{CWD, Mode, OFlags},
    net::{AddressFamily, SocketType},
    time::{ClockId, clock_gettime},
};
use serde_json::{Value, json};

/// Of each, before the others are done.
const OPENS: u64 = 1_000;
const CONNECTS: u64 = 100;
/// What the children count.
const COUNTED: [&str; 5] = ["opens", "connects", "execs", "open_ns", "open_cpu_ns"];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [file, address, program, processes, seconds] => {
            let processes: usize = processes.parse().context("PROCESSES is a number")?;
            let line = match processes {
                1 => one(file, address, program, seconds)?,
                _ => all(file, address, program, processes, seconds)?,
            };
            println!("{line}");
            Ok(())
        }
        _ => bail!("usage: flood FILE ADDRESS PROGRAM PROCESSES SECONDS"),
    }
}

/// Adds up what so many processes did.
fn all(file: &str, address: &str, program: &str, processes: usize, seconds: &str) -> Result<Value> {
    let own = env::current_exe()?;
    let children: Vec<_> = (0..processes)
        .map(|_| {
            Command::new(&own)
                .args([file, address, program, "1", seconds])
                .stdout(Stdio::piped())
                .spawn()
        })
        .collect();
    let mut sums = [0_u64; COUNTED.len()];
    for child in children {
        let output = child?.wait_with_output()?;
        ensure!(
            output.status.success(),
            "a process ended with {}",
            output.status
        );
        let line: Value = serde_json::from_slice(&output.stdout)?;
        for (sum, name) in sums.iter_mut().zip(COUNTED) {
            *sum += line[name].as_u64().context("no number")?;
        }
    }
    // Each of them was an execution, and so was this.
    sums[2] += processes as u64 + 1;
    Ok(line(sums))
}

fn one(file: &str, address: &str, program: &str, seconds: &str) -> Result<Value> {
    let path = CString::new(file)?;
    let address: SocketAddr = address.parse()?;
    let end = Instant::now() + Duration::from_secs(seconds.parse().context("SECONDS is a number")?);
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let cpu = || clock_gettime(ClockId::ThreadCPUTime);
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos());
    let [
        mut opens,
        mut connects,
        mut execs,
        mut open_ns,
        mut open_cpu_ns,
    ] = [0; COUNTED.len()];
    while Instant::now() < end {
        let (started, cpu_before) = (Instant::now(), Duration::try_from(cpu())?);
        for _ in 0..OPENS {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            drop(rustix::fs::openat(
                CWD,
                path.as_c_str(),
                flags,
                Mode::empty(),
            )?);
        }
        open_ns += nanoseconds(started.elapsed())?;
        open_cpu_ns += nanoseconds(Duration::try_from(cpu())?.saturating_sub(cpu_before))?;
        opens += OPENS;
        for _ in 0..CONNECTS {
            rustix::net::connect(&socket, &address)?;
        }
        connects += CONNECTS;
        ensure!(
            Command::new(program).status()?.success(),
            "{program} failed"
        );
        execs += 1;
    }
    Ok(line([opens, connects, execs, open_ns, open_cpu_ns]))
}

fn line(numbers: [u64; COUNTED.len()]) -> Value {
    let [opens, connects, execs, open_ns, open_cpu_ns] = numbers;
    json!({
        "opens": opens, "connects": connects, "execs": execs,
        "open_ns": open_ns, "open_cpu_ns": open_cpu_ns,
    })
}
