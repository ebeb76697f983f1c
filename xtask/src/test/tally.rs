//! Counts what test programs report.

use std::fmt;
use std::ops::AddAssign;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Test programs that came to their end.
    pub(crate) programs: usize,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Marked by their authors.
    pub(crate) ignored: usize,
    /// Left to another place.
    pub(crate) left: usize,
}

impl Tally {
    /// Adds up the last lines of the programs that wrote this.
    pub(crate) fn of(output: &str) -> Self {
        let mut tally = Self::default();
        for line in output.lines() {
            let Some(result) = line.strip_prefix("test result: ") else {
                continue;
            };
            tally.programs += 1;
            let words: Vec<_> = result
                .split([' ', ';'])
                .filter(|word| !word.is_empty())
                .collect();
            for pair in words.windows(2) {
                let [number, label] = pair else { continue };
                let Ok(number) = number.parse::<usize>() else {
                    continue;
                };
                match *label {
                    "passed" => tally.passed += number,
                    "failed" => tally.failed += number,
                    "ignored" => tally.ignored += number,
                    "filtered" => tally.left += number,
                    _ => {}
                }
            }
        }
        tally
    }

    /// Counts a failure for each of `programs` that did not come to its end.
    pub(crate) fn expect(mut self, programs: usize) -> Self {
        self.failed += programs.saturating_sub(self.programs);
        self
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.programs += other.programs;
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.left += other.left;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_programs_add_up() {
        let output = "running 3 tests\ntest a ... ok\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s\n\
            test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.07s\n";
        let expected = Tally {
            programs: 2,
            passed: 7,
            failed: 2,
            ignored: 1,
            left: 2,
        };
        assert_eq!(Tally::of(output), expected);
        assert_eq!(expected.to_string(), "7 passed, 2 failed");
    }

    #[test]
    fn a_program_without_a_result_has_failed() {
        let output = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(Tally::of(output).expect(1).failed, 0);
        assert_eq!(Tally::of(output).expect(3).failed, 2);
    }
}
