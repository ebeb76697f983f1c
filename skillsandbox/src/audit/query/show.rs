//! Records as lines for people, as JSON, and as tables for other programs.

use std::io::{self, Write};

use serde_json::Value;

use crate::audit::field::{number, text};
use crate::audit::text::{Escaped, Quoted};

/// How records are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line for a person
    Lines,
    /// A JSON object a line, as docs/events.md has it
    Jsonl,
    /// A row of comma-separated values
    Csv,
}

/// Fields that are a column each, in order.
const COLUMNS: [&str; 17] = [
    "run",
    "time",
    "sequence",
    "kind",
    "verdict",
    "reason",
    "pid",
    "tgid",
    "uid",
    "comm",
    "executable",
    "path",
    "address",
    "port",
    "name",
    "rule",
    "rule_text",
];

/// Writes records.
#[derive(Debug)]
pub struct Output<W> {
    out: W,
    format: Format,
    rows: u64,
}

impl<W: Write> Output<W> {
    /// Writes to `out`.
    pub fn new(out: W, format: Format) -> Self {
        Self {
            out,
            format,
            rows: 0,
        }
    }

    /// Records written.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes one: `line` is it in JSON.
    pub fn record(&mut self, run: &str, record: &Value, line: &[u8]) -> io::Result<()> {
        match self.format {
            Format::Jsonl => {
                self.out.write_all(line)?;
                self.out.write_all(b"\n")?;
            }
            Format::Lines => writeln!(self.out, "{}", sentence(record))?,
            Format::Csv => {
                if self.rows == 0 {
                    writeln!(self.out, "{}", COLUMNS.join(","))?;
                }
                let cells = COLUMNS.map(|column| match column {
                    "run" => cell(Some(&Value::from(run))),
                    "rule" => cell(record.pointer("/rule/number")),
                    "rule_text" => cell(record.pointer("/rule/text")),
                    column => cell(record.get(column)),
                });
                writeln!(self.out, "{}", cells.join(","))?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Nothing more comes.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A cell: on one line, and nothing that a spreadsheet would compute.
fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => return String::new(),
        Some(Value::String(text)) => {
            let computed = text.starts_with(['=', '+', '-', '@']);
            let mark = if computed { "'" } else { "" };
            format!("{mark}{}", Escaped(text.as_bytes()))
        }
        Some(other) => other.to_string(),
    };
    if text.contains([',', '"', '\'']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

/// When, whether, what, who, to what, and why.
#[must_use]
pub fn sentence(record: &Value) -> String {
    let time = text(record, "/time").unwrap_or("-");
    format!("{} {}", Escaped(time.as_bytes()), deed(record))
}

/// The same without when.
#[must_use]
pub fn deed(record: &Value) -> String {
    let of = |pointer: &str| text(record, pointer);
    let said = |pointer: &str| of(pointer).unwrap_or("-");
    let shown = |text: &str| Quoted(text.as_bytes()).to_string();
    let mut words = vec![
        number(record, "/sequence").map_or_else(String::new, |number| format!("#{number}")),
        format!("{:<5}", of("/verdict").unwrap_or("")),
        format!("{:<10}", said("/kind")),
    ];
    if let Some(pid) = number(record, "/tgid") {
        let program = of("/executable").or(of("/comm"));
        words.push(format!("{}[{pid}]", shown(program.unwrap_or("-"))));
    }
    words.push(object(record));
    if let Some(error) = of("/error").filter(|_| of("/kind") != Some("dns")) {
        words.push(format!("= {}", Escaped(error.as_bytes())));
    }
    if let Some(number) = number(record, "/rule/number") {
        let rule = said("/rule/text");
        words.push(format!("(rule {number}: {})", Escaped(rule.as_bytes())));
    } else if of("/verdict") == Some("deny") {
        words.push(format!("({})", said("/reason")));
    }
    words.retain(|word| !word.is_empty());
    words.join(" ").trim_end().to_owned()
}

/// What it was done to, or what is said.
pub(super) fn object(record: &Value) -> String {
    let shown = |value: &Value| match value {
        Value::String(text) => Quoted(text.as_bytes()).to_string(),
        other => other.to_string(),
    };
    if let Some(path) = text(record, "/path") {
        return Quoted(path.as_bytes()).to_string();
    }
    if let (Some(address), Some(port)) = (text(record, "/address"), number(record, "/port")) {
        let host = if address.contains(':') {
            format!("[{address}]:{port}")
        } else {
            format!("{address}:{port}")
        };
        return match text(record, "/name") {
            Some(name) => format!("{host} {}", Quoted(name.as_bytes())),
            None => host,
        };
    }
    let fields: &[&str] = match text(record, "/kind").unwrap_or_default() {
        "dns" => &[
            "name",
            "record_type",
            "code",
            "addresses",
            "refused",
            "error",
        ],
        "address" => &["change", "name", "address", "seconds"],
        "start" => &["skill_name", "skill_version", "program", "tier"],
        "end" => &["exit_code", "signal_name", "balanced"],
        "repeat" => &["of", "count"],
        "lost" => &["dropped", "undecodable", "skipped"],
        "limit" => &["resource", "limit", "count", "effect"],
        "running" => &["tgid", "executable"],
        "deadline" => &["seconds"],
        "fork" => &["child"],
        "exit" => &["exit_code", "signal_name"],
        "socket" => &["family", "socket_type", "protocol"],
        "ptrace" => &["target"],
        _ => &[],
    };
    let said = fields.iter().filter_map(|field| match record.get(field)? {
        Value::Null => None,
        Value::Array(list) if list.is_empty() => None,
        value => Some(format!("{field}={}", shown(value))),
    });
    said.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(format: Format, record: &Value) -> String {
        let mut out = Output::new(Vec::new(), format);
        out.record("run-1", record, b"{}").unwrap();
        String::from_utf8(out.out).unwrap()
    }

    #[test]
    fn a_line_says_what_happened_and_a_terminal_obeys_nothing_in_it() {
        let record = json!({
            "time": "T", "kind": "open", "verdict": "deny", "reason": "no_rule", "tgid": 7,
            "comm": "c", "path": "/tmp/\u{1b}[2J a", "rule": null, "sequence": 3, "error": "ENOENT",
        });
        let line = written(Format::Lines, &record);
        assert_eq!(
            line,
            "T #3 deny  open       c[7] \"/tmp/\\u{1b}[2J a\" = ENOENT (no_rule)\n"
        );
        let record = json!({
            "time": "T", "kind": "connect", "verdict": "allow", "tgid": 7, "executable": "/bin/x",
            "address": "2001:db8::1", "port": 443, "name": "a.example", "rule": {"number": 2, "text": "network.egress a.example"},
        });
        let line = written(Format::Lines, &record);
        assert_eq!(
            line,
            "T allow connect    /bin/x[7] [2001:db8::1]:443 a.example (rule 2: network.egress a.example)\n"
        );
    }

    #[test]
    fn a_cell_is_on_its_line_and_is_not_computed() {
        let record =
            json!({"time": "T", "kind": "open", "comm": "=1+1,\"a\"\n", "pid": 3, "path": "-x"});
        let text = written(Format::Csv, &record);
        let row = text.lines().nth(1).unwrap();
        assert_eq!(
            row,
            "run-1,T,,open,,,3,,,\"'=1+1,\"\"a\"\"\\u{a}\",,\"'-x\",,,,,"
        );
        assert_eq!(text.lines().count(), 2);
    }
}
