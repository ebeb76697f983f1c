//! Accesses that the kernel side counted with an earlier one, which has the record.

use std::collections::HashMap;

use skillsandbox_common::{
    header::{EventPrefix, Kind},
    slot::FOLD_KEY_LEN,
};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    clock::Clock,
    decode::decode,
    describe::Knowledge,
    process::Processes,
    record::{Event, FileAccess, Repeat, StatedRule, What},
    sequence::Sequences,
    text::Escaped,
};

/// The event that others are like: without its time and sequence number, and with zeros after it.
pub type Like = [u8; FOLD_KEY_LEN];

/// What was counted, and what of it was told.
#[derive(Debug)]
pub struct Repeats {
    told: HashMap<Like, u64>,
    /// When it was last looked, in nanoseconds since boot.
    looked: u64,
    /// Everything that was told.
    sum: u64,
}

impl Default for Repeats {
    fn default() -> Self {
        Self {
            told: HashMap::new(),
            looked: Clock::boot_ns(),
            sum: 0,
        }
    }
}

impl Repeats {
    /// All accesses that were told of.
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    /// What is new in these counts, each with what it is called and how it was decided on, and how often. What cannot be read is left
    /// out, and missing from the sum.
    pub(super) fn new_ones(
        &mut self,
        counted: &[(Like, u64)],
        knowledge: &Knowledge<'_>,
        mut take: impl FnMut(Kind, u64, Repeat),
    ) {
        let from = std::mem::replace(&mut self.looked, Clock::boot_ns());
        for (like, sum) in counted {
            let told = self.told.entry(*like).or_default();
            let count = sum.saturating_sub(*told);
            if count == 0 {
                continue;
            }
            *told = *sum;
            let mut event = *like;
            let Some(event) = numbered(&mut event) else {
                continue;
            };
            let Ok(event) = decode(event) else { continue };
            let (processes, sequences) = (Processes::default(), Sequences::default());
            let said = knowledge.say(&event);
            let record = knowledge.describe(&event, &said, &processes, &sequences);
            if let What::Event(described) = &record.what
                && let Some(repeat) = repeat(described, count, from)
            {
                self.sum += count;
                take(event.kind, count, repeat);
            }
        }
    }

    /// Those like this are not counted any more.
    pub(super) fn forget(&mut self, like: &Like) {
        self.told.remove(like);
    }
}

/// The bytes of the event, with a number, as every event has one.
fn numbered(like: &mut Like) -> Option<&[u8]> {
    // A copy: nobody says that it lies as its numbers must.
    let (mut prefix, _) = EventPrefix::read_from_prefix(like).ok()?;
    prefix.actor.sequence = 1;
    prefix.write_to_prefix(like).ok()?;
    let length = usize::try_from(prefix.header.length).ok()?;
    like.get(..length)
}

fn repeat(event: &Event<'_>, count: u64, from_boot_ns: u64) -> Option<Repeat> {
    let (of, file) = event.file()?;
    let FileAccess {
        decided,
        actor,
        access,
        path,
        path_bytes,
        ..
    } = file;
    let text = |bytes: &[u8]| match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => Escaped(bytes).to_string(),
    };
    Some(Repeat {
        of,
        count,
        from_boot_ns,
        verdict: decided.verdict,
        reason: decided.reason,
        rule: decided.rule.as_ref().map(|rule| StatedRule {
            number: rule.number,
            text: rule.text.unwrap_or_default().to_owned(),
            line: rule.line.and_then(|line| line.try_into().ok()),
        }),
        pid: actor.pid,
        tgid: actor.tgid,
        comm: text(actor.comm.0),
        access: *access,
        path: path.map(|path| text(path.0)),
        path_bytes: serde_json::to_value(path_bytes)
            .ok()
            .and_then(|hex| hex.as_str().map(str::to_owned)),
    })
}
