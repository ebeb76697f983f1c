//! Any bytes as an event of the kernel: understood and written as one line that is JSON and one that
//! a terminal obeys nothing in, or refused.

#![no_main]

use std::{
    io,
    sync::{Arc, Mutex},
};

use libfuzzer_sys::fuzz_target;
use skillsandbox::audit::{
    clock::Clock,
    collect::Collector,
    decode::decode,
    describe::Knowledge,
    json_lines::JsonLines,
    watch::{Colour, Watch},
};

/// Memory that a sink can own and we can read.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("one thread").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        let bytes = self.0.lock().expect("one thread").clone();
        String::from_utf8(bytes).expect("UTF-8, whatever the event holds")
    }
}

/// Where the version, the length and the sequence number are, which random bytes hardly ever get
/// right: they are set, so that what comes behind them is reached.
const VERSION: usize = 0;
const LENGTH: std::ops::Range<usize> = 4..8;
const SEQUENCE: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    write_out(bytes);
    if bytes.len() > SEQUENCE {
        let mut bytes = bytes.to_vec();
        let length = u32::try_from(bytes.len()).expect("inputs are small");
        bytes[VERSION] = 1;
        bytes[LENGTH].copy_from_slice(&length.to_ne_bytes());
        bytes[SEQUENCE] |= 1;
        write_out(&bytes);
    }
});

fn write_out(bytes: &[u8]) {
    let understood = match decode(bytes) {
        Ok(event) => {
            assert_eq!(event.prefix.header.length as usize, bytes.len());
            assert_ne!(event.prefix.actor.sequence, 0);
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    };
    let (log, terminal) = (Shared::default(), Shared::default());
    let mut collector = Collector::new(Knowledge {
        sandbox: "fuzzed".to_owned(),
        clock: Clock::with_offset(0),
        rules: &[],
        names: None,
        judge: None,
    });
    collector.add("log", Box::new(JsonLines::new(log.clone())));
    collector.add("terminal", Box::new(Watch::new(terminal.clone(), Colour::None)));
    collector.push(bytes).expect("memory takes everything");
    collector.end_batch().expect("memory takes everything");

    let (log, terminal) = (log.text(), terminal.text());
    assert_eq!(log.lines().count(), usize::from(understood), "{log}");
    assert_eq!(terminal.lines().count(), usize::from(understood), "{terminal}");
    for line in log.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(record["kind"].is_string() && record["sequence"].is_u64(), "{line}");
        assert!(!line.chars().any(char::is_control), "{line}");
    }
    for line in terminal.lines() {
        assert!(!line.chars().any(char::is_control), "{line}");
    }
}
