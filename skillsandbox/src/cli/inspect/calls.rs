//! `skillsandbox inspect --syscalls`: which system calls a skill may make.

use std::io::{self, Write};

use crate::isolate::SystemCalls;

/// Columns of a line of names, at most.
const WIDTH: usize = 96;

/// Writes the calls in plain words.
pub(super) fn describe(calls: &SystemCalls, output: &mut impl Write) -> io::Result<()> {
    writeln!(
        output,
        "System calls under the profile {}",
        calls.profile.name()
    )?;
    if !calls.allowed.is_empty() {
        writeln!(output, "\nAllowed: {}", calls.allowed.len())?;
        names(calls.allowed.iter().copied(), output)?;
    }
    writeln!(output, "\nAllowed, except for")?;
    for (name, unless) in &calls.conditional {
        for unless in unless {
            writeln!(output, "  {name}: {} ({})", unless.asks_for, unless.answer)?;
        }
    }
    for (answer, denied) in &calls.denied {
        writeln!(output, "\nAnswer {answer}: {}", denied.len())?;
        names(denied.iter().copied(), output)?;
    }
    match calls.others {
        "allowed" => writeln!(output, "\nEvery other call is allowed")?,
        answer => writeln!(output, "\nEvery other call answers {answer}")?,
    }
    writeln!(output, "Calls newer than Linux 6.10 answer {}", calls.newer)
}

fn names<'a>(names: impl Iterator<Item = &'a str>, output: &mut impl Write) -> io::Result<()> {
    let mut line = String::new();
    for name in names {
        if line.len() + name.len() + 3 > WIDTH {
            writeln!(output, " {line}")?;
            line.clear();
        }
        line.push(' ');
        line.push_str(name);
    }
    writeln!(output, " {line}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolate::{Permitted, Profile};

    fn described(profile: Profile) -> String {
        let mut output = Vec::new();
        describe(&SystemCalls::of(profile, Permitted::default()), &mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn a_profile_says_what_it_allows_and_what_others_answer() {
        let default = described(Profile::Default);
        assert!(
            default.contains("  clone: making namespaces (EPERM)\n"),
            "{default}"
        );
        assert!(
            default.contains("\nEvery other call answers EPERM\n"),
            "{default}"
        );
        let permissive = described(Profile::Permissive);
        assert!(
            permissive.contains("\nEvery other call is allowed\n"),
            "{permissive}"
        );
        assert!(default.lines().all(|line| line.len() <= WIDTH), "{default}");
    }
}
