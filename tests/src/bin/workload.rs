//! What `cargo xtask bench` measures: one operation in a tight loop, timed and counted from inside.
//!
//! `workload open FILE | udp ADDRESS | tcp ADDRESS | exec PROGRAM`, then the number of operations and
//! how many are timed together, and so on for the next operation. Each writes one line.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, ffi::CString};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use rustix::time::{ClockId, clock_gettime};

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let (groups, rest) = arguments.as_chunks();
    ensure!(
        !groups.is_empty() && rest.is_empty(),
        "usage: workload {{open|udp|tcp|exec OBJECT COUNT BATCH}}…"
    );
    groups.iter().try_for_each(measure)
}

fn measure([operation, object, count, batch]: &[String; 4]) -> Result<()> {
    let count: u64 = count.parse().context("COUNT is not a number")?;
    let batch: u64 = batch.parse().context("BATCH is not a number")?;
    ensure!(batch > 0 && count >= batch, "COUNT must be at least BATCH");
    let before = cpu_time()?;
    let times = match operation.as_str() {
        "open" => opens(object, count, batch)?,
        "udp" => connects(SocketType::DGRAM, object, count, batch)?,
        "tcp" => connects(SocketType::STREAM, object, count, batch)?,
        "exec" => execs(object, count, batch)?,
        _ => bail!("{operation} is no operation"),
    };
    report(times, batch, cpu_time()?.saturating_sub(before))
}

/// Processor time of this thread so far: what it took without the time that others were given.
fn cpu_time() -> Result<Duration> {
    Ok(Duration::try_from(clock_gettime(ClockId::ThreadCPUTime))?)
}

/// Opens and closes a file.
fn opens(path: &str, count: u64, batch: u64) -> Result<Vec<Duration>> {
    let path = CString::new(path)?;
    time(count, batch, || {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        drop(rustix::fs::openat(
            CWD,
            path.as_c_str(),
            flags,
            Mode::empty(),
        )?);
        Ok(())
    })
}

/// Connects one socket again and again. TCP goes to a port where nothing listens: the attempt is
/// decided on and recorded like any other, and no port is used up.
fn connects(kind: SocketType, address: &str, count: u64, batch: u64) -> Result<Vec<Duration>> {
    let address: SocketAddr = address.parse()?;
    let socket = rustix::net::socket(AddressFamily::INET, kind, None)?;
    time(count, batch, || {
        match rustix::net::connect(&socket, &address) {
            Err(Errno::CONNREFUSED) if kind == SocketType::STREAM => Ok(()),
            result => Ok(result?),
        }
    })
}

/// Starts a program and waits for its end.
fn execs(program: &str, count: u64, batch: u64) -> Result<Vec<Duration>> {
    time(count, batch, || {
        ensure!(
            Command::new(program).status()?.success(),
            "{program} failed"
        );
        Ok(())
    })
}

fn time(
    count: u64,
    batch: u64,
    mut operation: impl FnMut() -> Result<()>,
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..count / batch {
        let started = Instant::now();
        for _ in 0..batch {
            operation()?;
        }
        times.push(started.elapsed());
    }
    Ok(times)
}

/// One line of JSON. The median batch tells one operation from what interrupts it now and then.
fn report(mut times: Vec<Duration>, batch: u64, cpu: Duration) -> Result<()> {
    let batches = u64::try_from(times.len())?;
    let total: Duration = times.iter().sum();
    times.sort();
    let median = times.get(times.len() / 2).context("nothing was timed")?;
    let line = serde_json::json!({
        "count": batches * batch,
        "total_ns": u64::try_from(total.as_nanos())?,
        "cpu_ns": u64::try_from(cpu.as_nanos())?,
        "median_batch_ns": u64::try_from(median.as_nanos())?,
        "batch": batch,
    });
    println!("{line}");
    Ok(())
}
