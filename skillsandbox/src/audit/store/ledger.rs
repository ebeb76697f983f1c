//! Which runs there were: a line when one begins, before anything runs, and one when it ends. Each is
//! bound to all lines before it and signed, so that no log can go, or be another, unseen.
//!
//! A line is the hash, the signature of the hash, and the JSON that is hashed, with a blank between. The
//! hash is BLAKE3 of the last line's hash and of the JSON; that of the first line, of the key's.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

use serde::{Deserialize, Serialize};

use super::{
    frame::{Chain, HASH_LEN, Hash},
    hex::{self, Hex},
    key::{Key, PublicKey},
    refusals::Refusal,
};

/// Longest line. Who appends reads no more of what is there.
pub(super) const LINE_MAX: usize = 1 << 20;
const CONTEXT: &str = "SkillSandbox 2026-11-27 ledger of runs";

/// One line's JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Statement {
    /// From 1.
    pub(super) number: u64,
    /// When, RFC 3339.
    pub(super) time: String,
    /// The run that it is about, where it is about one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) run: String,
    #[serde(flatten)]
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum What {
    /// Its log is there.
    Begin,
    /// Its log is complete.
    End {
        /// Frames of the log.
        frames: u64,
        /// Hash of the last.
        root: String,
        /// Whether every record was accounted for.
        balanced: bool,
    },
    /// Whoever wrote its log was killed, and this is what was whole of it when that was found.
    Killed {
        /// Frames of the log.
        frames: u64,
        /// Hash of the last.
        root: String,
    },
    /// Its log was taken away on purpose.
    Removed,
    /// Everything that the logs of these runs held is in these segments: one line, so that it is true of all
    /// or of none.
    Sealed {
        runs: Vec<SealedRun>,
        segments: Vec<SealedSegment>,
    },
    /// A segment is in another place as well.
    Shipped {
        /// From the folder of segments on.
        file: String,
        /// The place.
        to: String,
    },
    /// A segment was taken away on purpose.
    SegmentRemoved {
        /// From the folder of segments on.
        file: String,
    },
    /// Somebody asked the daemon for a run, and was refused.
    Refused(Refusal),
}

/// A run whose records are in segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SealedRun {
    pub(super) run: String,
    /// Records of it, in all segments.
    pub(super) rows: u64,
}

/// A segment, when it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SealedSegment {
    /// From the folder of segments on.
    pub(super) file: String,
    pub(super) rows: u64,
    /// BLAKE3 of the file, in hexadecimal.
    pub(super) hash: String,
}

impl What {
    pub(super) fn killed(chain: &Chain) -> Self {
        Self::Killed {
            frames: chain.frames(),
            root: Hex(&chain.root()).to_string(),
        }
    }

    pub(super) fn end(chain: &Chain, balanced: bool) -> Self {
        Self::End {
            frames: chain.frames(),
            root: Hex(&chain.root()).to_string(),
            balanced,
        }
    }
}

/// Appends a line. The file is locked, and open for reading and appending.
pub(super) fn append(
    file: &mut File,
    key: &Key,
    time: String,
    run: &str,
    what: What,
) -> io::Result<()> {
    let (number, last) = last(file, &key.public())?;
    let statement = Statement {
        number: number + 1,
        time,
        run: run.to_owned(),
        what,
    };
    let json = serde_json::to_string(&statement)?;
    let hash = bind(&last, json.as_bytes());
    let line = format!("{} {} {json}\n", Hex(&hash), Hex(&key.sign(&hash)));
    if line.len() > LINE_MAX {
        return Err(io::Error::other("a line is too long for the ledger"));
    }
    file.write_all(line.as_bytes())?;
    file.sync_data()
}

/// Number and hash of the last line. What was not written to its end was never acknowledged, and goes.
fn last(file: &mut File, key: &PublicKey) -> io::Result<(u64, Hash)> {
    let length = file.seek(SeekFrom::End(0))?;
    let start = length.saturating_sub(2 * LINE_MAX as u64);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(2 * LINE_MAX as u64).read_to_end(&mut tail)?;
    let whole = tail
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    if whole == 0 && start > 0 {
        return Err(io::Error::other(
            "the ledger does not end with a line: see `audit verify`",
        ));
    }
    if whole < tail.len() {
        file.set_len(start + whole as u64)?;
    }
    file.seek(SeekFrom::End(0))?;
    let lines = tail.get(..whole).unwrap_or_default();
    match lines.split_inclusive(|byte| *byte == b'\n').next_back() {
        None => Ok((0, first(key))),
        Some(line) => {
            let line = Line::parse(line).ok_or_else(|| {
                io::Error::other("the ledger's last line is not one of ours: see `audit verify`")
            })?;
            Ok((line.statement.number, line.hash))
        }
    }
}

fn first(key: &PublicKey) -> Hash {
    blake3::derive_key(CONTEXT, &key.bytes())
}

fn bind(last: &Hash, json: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(last).update(json);
    *hasher.finalize().as_bytes()
}

/// A line, taken apart.
struct Line<'a> {
    hash: Hash,
    signature: [u8; 64],
    json: &'a [u8],
    statement: Statement,
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n")?;
        let (hash, rest) = line.split_at_checked(2 * HASH_LEN)?;
        let (signature, json) = rest.strip_prefix(b" ")?.split_at_checked(128)?;
        let json = json.strip_prefix(b" ")?;
        Some(Self {
            hash: hex::parse(str::from_utf8(hash).ok()?)?,
            signature: hex::parse(str::from_utf8(signature).ok()?)?,
            json,
            statement: serde_json::from_slice(json).ok()?,
        })
    }
}

/// What the ledger says, and what is wrong with it, each with the number of its line.
pub(super) fn read(bytes: &[u8], key: &PublicKey) -> (Vec<Statement>, Vec<(usize, String)>) {
    let (mut statements, mut wrong) = (Vec::new(), Vec::new());
    let mut last = first(key);
    for (at, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
        let Some(line) = Line::parse(line) else {
            wrong.push((at, "is not a whole line of a ledger".to_owned()));
            continue;
        };
        if !key.proves(&line.hash, &line.signature) {
            wrong.push((at, "was not signed by this host's key".to_owned()));
        } else if bind(&last, line.json) != line.hash {
            wrong.push((
                at,
                "is not what was written, or not after the line that is before it".to_owned(),
            ));
        } else if line.statement.number != at as u64 {
            wrong.push((
                at,
                format!("says that it is line {}", line.statement.number),
            ));
        }
        // Those that come after are each looked at by themselves.
        last = line.hash;
        statements.push(line.statement);
    }
    (statements, wrong)
}
