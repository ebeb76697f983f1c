//! What one run did that another did not.

use std::collections::BTreeMap;

use serde_json::Value;

use super::REPEAT;
use crate::audit::field::{number, text};
use crate::audit::text::Quoted;

/// What somebody did to something, however often: as a line says it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Deed {
    verdict: String,
    kind: String,
    object: String,
    program: String,
}

/// Different deeds that are kept: a skill may have named any number of files.
const DEEDS_MAX: usize = 1_000_000;

/// What the first run did and the second did not, and the other way round.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    deeds: BTreeMap<Deed, [u64; 2]>,
    left_out: u64,
}

/// A deed that is one run's alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Whether it is the second run's.
    pub is_new: bool,
    /// What was done, how it was decided on, and by which program.
    pub line: String,
    /// How often.
    pub count: u64,
}

impl Diff {
    /// Takes a record of the first run, or of the second.
    pub fn add(&mut self, second: bool, record: &Value) {
        if let Some(deed) = deed(record) {
            if self.deeds.len() == DEEDS_MAX && !self.deeds.contains_key(&deed) {
                self.left_out += 1;
                return;
            }
            let [first, other] = self.deeds.entry(deed).or_default();
            *(if second { other } else { first }) += 1;
        }
    }

    /// Records that are in no difference, as there were too many different ones before.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// What is of one run alone: denials first, then by kind and object.
    #[must_use]
    pub fn differences(&self) -> Vec<Difference> {
        let alone = self.deeds.iter().filter_map(|(deed, counts)| {
            let (is_new, count) = match counts {
                [0, count] => (true, *count),
                [count, 0] => (false, *count),
                _ => return None,
            };
            Some((deed, is_new, count))
        });
        let mut alone: Vec<_> = alone.collect();
        alone.sort_by_key(|(deed, is_new, _)| (!is_new, deed.verdict != "deny", *deed));
        alone
            .into_iter()
            .map(|(deed, is_new, count)| Difference {
                is_new,
                line: format!(
                    "{} {} {} by {}",
                    deed.verdict, deed.kind, deed.object, deed.program
                ),
                count,
            })
            .collect()
    }
}

/// What is the same in two runs: not the process, nor when.
fn deed(record: &Value) -> Option<Deed> {
    let of = |pointer: &str| text(record, pointer);
    let shown = |text: &str| Quoted(text.as_bytes()).to_string();
    // What is done once more is no other deed.
    let kind = of("/kind").filter(|kind| *kind != REPEAT)?;
    let object = match (of("/path"), of("/name"), of("/address")) {
        (Some(path), ..) => shown(&without_ids(path)),
        (_, name, Some(address)) if kind != "address" => {
            // Names stay, and their addresses change.
            format!(
                "{}:{}",
                shown(name.unwrap_or(address)),
                number(record, "/port")?
            )
        }
        (_, Some(name), _) if kind == "dns" => {
            format!("{} {}", shown(name), of("/record_type").unwrap_or("-"))
        }
        _ => match kind {
            "socket" => format!("{} {}", of("/family")?, of("/socket_type")?),
            "ptrace" => "a process".to_owned(),
            _ => return None,
        },
    };
    let program = of("/executable").or(of("/comm"));
    Some(Deed {
        verdict: of("/verdict")?.to_owned(),
        kind: kind.to_owned(),
        object,
        program: program.map_or_else(|| "the name server".to_owned(), shown),
    })
}

/// A path in which numbers of processes are not told apart.
fn without_ids(path: &str) -> String {
    let Some(rest) = path.strip_prefix("/proc/") else {
        return path.to_owned();
    };
    match rest.trim_start_matches(|c: char| c.is_ascii_digit()) {
        same if same.len() == rest.len() => path.to_owned(),
        rest => format!("/proc/PID{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn connect(address: &str, name: Option<&str>, pid: u32) -> Value {
        json!({"kind": "connect", "verdict": "deny", "address": address, "port": 443, "name": name,
            "executable": "/usr/bin/curl", "tgid": pid})
    }

    #[test]
    fn only_what_is_of_one_run_alone_differs() {
        let open = |path: &str| json!({"kind": "open", "verdict": "allow", "path": path, "comm": "cat", "executable": null});
        let mut diff = Diff::default();
        diff.add(false, &connect("203.0.113.1", Some("api.example"), 7));
        diff.add(true, &connect("203.0.113.2", Some("api.example"), 8));
        diff.add(false, &open("/proc/12/stat"));
        diff.add(true, &open("/proc/99/stat"));
        diff.add(false, &open("/old file"));
        for _ in 0..3 {
            diff.add(true, &open("/new"));
            diff.add(true, &connect("198.51.100.1", None, 9));
        }
        diff.add(true, &json!({"kind": "exit", "exit_code": 0, "tgid": 3}));
        let lines: Vec<_> = diff
            .differences()
            .into_iter()
            .map(|one| (one.is_new, one.count, one.line))
            .collect();
        let expected = [
            (true, 3, "deny connect 198.51.100.1:443 by /usr/bin/curl"),
            (true, 3, "allow open /new by cat"),
            (false, 1, "allow open \"/old file\" by cat"),
        ];
        assert_eq!(
            lines,
            expected.map(|(new, count, line)| (new, count, line.to_owned()))
        );
    }

    #[test]
    fn a_name_that_was_asked_for_is_a_deed_of_the_name_servers() {
        let mut diff = Diff::default();
        diff.add(
            true,
            &json!({"kind": "dns", "verdict": "deny", "name": "x.example", "record_type": "TXT"}),
        );
        let line = &diff.differences()[0].line;
        assert_eq!(line, "deny dns x.example TXT by the name server");
    }
}
