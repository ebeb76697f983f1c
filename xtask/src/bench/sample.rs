//! Numbers that were measured, and what is made of them.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// One run of the workload, in its own words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Operations that were done.
    pub(super) count: u64,
    /// Time of them all, over their number.
    pub(super) mean_ns: f64,
    /// Processor time of the workload's thread, over the number of operations.
    pub(super) cpu_ns: f64,
    /// Time of the median batch, over the operations in it.
    pub(super) median_ns: f64,
}

impl Sample {
    /// Runs a command that prints the workload's only line on its standard output.
    pub(super) fn take(command: &mut Command) -> Result<Self> {
        let [sample] = Self::take_all(command)?;
        Ok(sample)
    }

    /// Runs a command that prints so many of the workload's lines.
    pub(super) fn take_all<const N: usize>(command: &mut Command) -> Result<[Self; N]> {
        let output = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .with_context(|| format!("could not start {command:?}"))?;
        ensure!(
            output.status.success(),
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let output = String::from_utf8_lossy(&output.stdout);
        let lines = output.lines().filter(|line| line.starts_with("{\"batch\""));
        let samples: Vec<Self> = lines.map(Self::parse).collect::<Result<_>>()?;
        let samples = <[Self; N]>::try_from(samples).ok();
        samples.with_context(|| format!("{command:?} did not report {N} times: {output}"))
    }

    fn parse(line: &str) -> Result<Self> {
        let line: Value = serde_json::from_str(line)?;
        let number = |name: &str| line.get(name).and_then(Value::as_u64).context("no number");
        let (count, batch) = (number("count")?, number("batch")?);
        Ok(Self {
            count,
            mean_ns: over(number("total_ns")?, count),
            cpu_ns: over(number("cpu_ns")?, count),
            median_ns: over(number("median_batch_ns")?, batch),
        })
    }
}

/// A share in percent. Never rounded up to all.
pub(super) fn percent(share: f64) -> String {
    format!("{:.2} %", (share * 10_000.0).floor() / 100.0)
}

/// One number over another.
#[expect(
    clippy::cast_precision_loss,
    reason = "times and counts are far below 2^52"
)]
pub(super) fn over(number: u64, by: u64) -> f64 {
    number as f64 / by as f64
}

/// The middle one, or the upper one of the two in the middle.
pub(super) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The smallest and the largest.
pub(super) fn range(numbers: &[f64]) -> (f64, f64) {
    let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workloads_line_becomes_times_of_one_operation() {
        let line = r#"{"batch":5,"count":10,"cpu_ns":90,"median_batch_ns":40,"total_ns":120}"#;
        let sample = Sample::parse(line).expect("a sample");
        assert_eq!(sample.count, 10);
        assert!((sample.mean_ns - 12.0).abs() < 1e-9);
        assert!((sample.median_ns - 8.0).abs() < 1e-9);
        assert!(Sample::parse("hello").is_err());
    }

    #[test]
    fn the_median_is_a_number_that_was_measured() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 3.0).abs() < 1e-9);
    }
}
