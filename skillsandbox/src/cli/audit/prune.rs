//! `skillsandbox audit prune`.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::Args;

use crate::audit::{
    store::{Keep, Writer},
    text::Escaped,
};

/// Take logs and segments away that are too old or too many, the oldest first. The ledger says which, and `audit verify`
/// misses nothing else.
#[derive(Args, Debug)]
pub(super) struct PruneArguments {
    /// Files that were last written so long ago: 30d.
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration, required_unless_present = "larger_than")]
    older_than: Option<Duration>,
    /// The oldest files, until all have no more than this: 10G, or a number of bytes.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    larger_than: Option<u64>,
    /// Only say which.
    #[arg(long)]
    dry_run: bool,
}

/// Bytes, or so many of what a letter says.
fn size(text: &str) -> Result<u64, String> {
    let refused = || format!("{text} is no size: write 500M, 10G, or a number of bytes");
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'K')) => (&text.get(..at), 10),
        Some((at, 'M')) => (&text.get(..at), 20),
        Some((at, 'G')) => (&text.get(..at), 30),
        Some((at, 'T')) => (&text.get(..at), 40),
        _ => (&Some(text), 0),
    };
    let number: u64 = digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(refused)?;
    number.checked_mul(1 << shift).ok_or_else(refused)
}

pub(super) fn run(folder: &Path, arguments: &PruneArguments) -> anyhow::Result<ExitCode> {
    let keep = Keep {
        younger_than: arguments.older_than,
        bytes: arguments.larger_than,
    };
    let pruned = Writer::of(folder)?.prune(keep, arguments.dry_run)?;
    let mut out = io::stdout().lock();
    for log in &pruned {
        let file = log.file.to_string();
        writeln!(out, "{}  {} bytes", Escaped(file.as_bytes()), log.bytes)?;
    }
    let bytes: u64 = pruned.iter().map(|log| log.bytes).sum();
    let done = if arguments.dry_run {
        "would be taken away"
    } else {
        "taken away"
    };
    writeln!(out, "{} files with {bytes} bytes {done}", pruned.len())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_letters() {
        assert_eq!(size("10G"), Ok(10 << 30));
        assert_eq!(size("7"), Ok(7));
        for wrong in ["", "G", "1.5G", "-1", "99999999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
