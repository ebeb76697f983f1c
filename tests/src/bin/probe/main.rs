//! Tries accesses one after the other and writes how each ended, a line each: `ok`, or the name
//! of the error. The arguments are words; `;` ends an attempt.

#![expect(
    unsafe_code,
    reason = "attempts are made by raw system calls, in the ways that libraries do not offer"
)]

mod attempt;
mod change;
mod network;
mod route;
mod system;

use std::{ffi::OsString, io::Write, os::unix::ffi::OsStringExt, process::ExitCode};

use attempt::Probe;

fn main() -> ExitCode {
    let words: Vec<Vec<u8>> = std::env::args_os()
        .skip(1)
        .map(OsString::into_vec)
        .collect();
    let mut probe = Probe::default();
    for attempt in words.split(|word| word == b";") {
        let Some((verb, words)) = attempt.split_first() else {
            continue;
        };
        let verb = String::from_utf8_lossy(verb);
        let line = match probe.attempt(&verb, words) {
            Ok(()) => "ok".to_owned(),
            Err(error) => system::name_of(&error),
        };
        // Not `println!`: nothing is to be lost when an attempt ends this process.
        if writeln!(std::io::stdout(), "{line}").is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
