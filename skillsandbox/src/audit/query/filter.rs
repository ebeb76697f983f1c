//! Which records are asked for.

use std::{
    net::IpAddr,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use globset::GlobMatcher;
use serde_json::Value;

use crate::audit::field::{number, text};
use crate::audit::record::{Record, What};
use crate::manifest::Cidr;

/// The kind of records that stand for others.
pub(crate) const REPEAT: &str = "repeat";

/// Every one that is set must hold; of a list, one.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// At this time or later.
    pub since: Option<Moment>,
    /// Before this time.
    pub until: Option<Moment>,
    /// `allow` or `deny`.
    pub verdict: Option<String>,
    /// The field `kind`, and of what was done once more, `of`.
    pub kinds: Vec<String>,
    /// The path of a file or of a unix socket.
    pub paths: Vec<GlobMatcher>,
    /// The address of a connection or datagram, or one in an answer of the name server.
    pub addresses: Vec<Cidr>,
    /// The name of a host, asked for or connected to.
    pub names: Vec<GlobMatcher>,
    /// Who did it.
    pub process: Option<Process>,
    /// The rule that decided.
    pub rule: Option<RuleIs>,
}

/// A point in time, as people say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub SystemTime);

/// A process by its id, or by its program or name.
#[derive(Clone, Debug)]
pub enum Process {
    /// Process or thread id.
    Id(u64),
    /// Path of the program, or name of the thread.
    Program(GlobMatcher),
}

/// A rule by its number or its text.
#[derive(Clone, Debug)]
pub enum RuleIs {
    /// Its number, from 1.
    Number(u64),
    /// How it reads.
    Text(GlobMatcher),
}

impl FromStr for Moment {
    type Err = String;

    /// `2h` (ago), `2026-11-27`, `2026-11-27 18:00`, or RFC 3339; without a zone it is UTC.
    fn from_str(text: &str) -> Result<Self, String> {
        let now = SystemTime::now();
        let ago = |length: Duration| now.checked_sub(length).ok_or("it is before 1970");
        if let Ok(length) = humantime::parse_duration(text.trim_end_matches(" ago")) {
            return Ok(Self(ago(length)?));
        }
        match text {
            "now" => return Ok(Self(now)),
            "yesterday" => return Ok(Self(ago(Duration::from_hours(24))?)),
            _ => {}
        }
        let whole = match text.len() {
            10 => format!("{text} 00:00:00"),
            16 => format!("{text}:00"),
            _ => text.to_owned(),
        };
        let parsed = humantime::parse_rfc3339_weak(&whole);
        parsed.map(Self).map_err(|_ignored| {
            format!("{text} is no time: write 2h, 2026-11-27, \"2026-11-27 18:00\", or 2026-11-27T18:00:00Z")
        })
    }
}

impl FromStr for Process {
    type Err = globset::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .map(Self::Id)
            .or_else(|_no_number| path_glob(text).map(Self::Program))
    }
}

impl FromStr for RuleIs {
    type Err = globset::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .map(Self::Number)
            .or_else(|_no_number| glob(text).map(Self::Text))
    }
}

/// A pattern of paths, in which `*` does not pass a slash and `**`, for whole components, does.
pub(crate) fn path_glob(text: &str) -> Result<GlobMatcher, globset::Error> {
    let mut glob = globset::GlobBuilder::new(text);
    Ok(glob.literal_separator(true).build()?.compile_matcher())
}

/// A pattern of anything else, in which `*` is anything.
pub(crate) fn glob(text: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(globset::Glob::new(text)?.compile_matcher())
}

impl Filter {
    /// Whether a record is asked for.
    #[must_use]
    pub fn matches(&self, record: &Value) -> bool {
        let (text, number) = (
            |pointer: &str| text(record, pointer),
            |pointer: &str| number(record, pointer),
        );
        let one_of = |globs: &[GlobMatcher], text: Option<&str>| {
            globs.is_empty()
                || text.is_some_and(|text| globs.iter().any(|glob| glob.is_match(text)))
        };
        let process = || match &self.process {
            None => true,
            Some(Process::Id(id)) => number("/pid") == Some(*id) || number("/tgid") == Some(*id),
            Some(Process::Program(glob)) => ["/executable", "/comm"]
                .iter()
                .any(|field| text(field).is_some_and(|text| glob.is_match(text))),
        };
        let rule = || match &self.rule {
            None => true,
            Some(RuleIs::Number(wanted)) => number("/rule/number") == Some(*wanted),
            Some(RuleIs::Text(glob)) => text("/rule/text").is_some_and(|text| glob.is_match(text)),
        };
        let is = |wanted: &Option<String>, field: &str| {
            wanted
                .as_deref()
                .is_none_or(|wanted| text(field) == Some(wanted))
        };
        let is_kind = |kind: &str| self.kinds.iter().any(|wanted| wanted == kind);
        // What was done once more is of the kind that it was.
        let kind = || match text("/kind") {
            Some(REPEAT) => is_kind(REPEAT) || text("/of").is_some_and(is_kind),
            kind => kind.is_some_and(is_kind),
        };
        is(&self.verdict, "/verdict")
            && (self.kinds.is_empty() || kind())
            && one_of(&self.paths, text("/path"))
            && one_of(&self.names, text("/name"))
            && self.address(record)
            && process()
            && rule()
            && self.time(text("/time"))
    }

    /// Whether an event may be asked for, as far as that is seen before it is written out: never `false` of one for
    /// which [`matches`](Self::matches) is true.
    pub(crate) fn may_match(&self, record: &Record<'_>) -> bool {
        let What::Event(event) = &record.what else {
            return true;
        };
        let is_verdict = |wanted: &str| {
            let decision = record.decision();
            decision.is_some_and(|decided| decided.verdict.text() == wanted)
        };
        let is_in_time = || {
            let (first, last) = self.window();
            let time = i64::try_from(record.time.unix_ns()).ok();
            time.is_none_or(|time| first <= time && (time < last || last == i64::MAX))
        };
        let is_like = || {
            let Some((kind, file)) = event.file() else {
                return true;
            };
            let is_path = || match file.path.as_ref().map(|path| str::from_utf8(path.0)) {
                None => false,
                Some(Ok(path)) => self.paths.iter().any(|glob| glob.is_match(path)),
                // It is written out otherwise.
                Some(Err(_)) => true,
            };
            (self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind))
                && (self.paths.is_empty() || is_path())
        };
        self.verdict.as_deref().is_none_or(is_verdict) && is_in_time() && is_like()
    }

    fn address(&self, record: &Value) -> bool {
        if self.addresses.is_empty() {
            return true;
        }
        let answered = ["/addresses", "/refused"].map(|field| record.pointer(field)?.as_array());
        let all = std::iter::once(record.pointer("/address").unwrap_or(&Value::Null))
            .chain(answered.into_iter().flatten().flatten());
        all.filter_map(|address| address.as_str()?.parse::<IpAddr>().ok())
            .any(|address| self.addresses.iter().any(|cidr| cidr.contains(address)))
    }

    /// Times that may be asked for, in nanoseconds since 1970: the first, and the one after the last.
    pub(crate) fn window(&self) -> (i64, i64) {
        let nanoseconds = |moment: Moment| {
            let since_1970 = moment.0.duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX)
        };
        (
            self.since.map_or(i64::MIN, nanoseconds),
            self.until.map_or(i64::MAX, nanoseconds),
        )
    }

    fn time(&self, time: Option<&str>) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let Some(Ok(time)) = time.map(humantime::parse_rfc3339) else {
            return false;
        };
        self.since.is_none_or(|since| time >= since.0)
            && self.until.is_none_or(|until| time < until.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn open() -> Value {
        json!({
            "time": "2026-11-27T18:00:00.5Z", "kind": "open", "verdict": "deny", "path": "/etc/ssh/key",
            "pid": 7, "tgid": 6, "comm": "cat", "executable": "/usr/bin/cat",
            "rule": {"number": 3, "text": "filesystem.deny /etc/ssh", "line": 9},
        })
    }

    fn globs(text: &str) -> Vec<GlobMatcher> {
        vec![path_glob(text).unwrap()]
    }

    #[test]
    fn everything_that_is_asked_for_must_hold() {
        let yes = |filter: Filter| assert!(filter.matches(&open()), "{filter:?}");
        let no = |filter: Filter| assert!(!filter.matches(&open()), "{filter:?}");
        let any = Filter::default;
        yes(any());
        yes(Filter {
            verdict: Some("deny".into()),
            kinds: vec!["exec".into(), "open".into()],
            ..any()
        });
        no(Filter {
            verdict: Some("allow".into()),
            ..any()
        });
        no(Filter {
            kinds: vec!["exec".into()],
            ..any()
        });
        yes(Filter {
            paths: globs("/etc/**"),
            ..any()
        });
        no(Filter {
            paths: globs("/etc/*"),
            ..any()
        });
        no(Filter {
            names: globs("*"),
            ..any()
        });
        no(Filter {
            addresses: vec!["0.0.0.0/0".parse().unwrap()],
            ..any()
        });
        for (text, holds) in [
            ("7", true),
            ("6", true),
            ("8", false),
            ("cat", true),
            ("/usr/*/cat", true),
            ("dog", false),
        ] {
            let filter = Filter {
                process: Some(text.parse().unwrap()),
                ..any()
            };
            assert_eq!(filter.matches(&open()), holds, "{text}");
        }
        for (text, holds) in [("3", true), ("4", false), ("filesystem.deny **", true)] {
            let filter = Filter {
                rule: Some(text.parse().unwrap()),
                ..any()
            };
            assert_eq!(filter.matches(&open()), holds, "{text}");
        }
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        let at = |text: &str| Some(text.parse::<Moment>().unwrap());
        let between = |since: &str, until: &str| Filter {
            since: at(since),
            until: at(until),
            ..Filter::default()
        };
        assert!(between("2026-11-27", "2026-11-28").matches(&open()));
        assert!(between("2026-11-27 18:00", "2026-11-27T18:00:01Z").matches(&open()));
        assert!(!between("2026-11-27 18:01", "2026-11-28").matches(&open()));
        assert!(!between("2026-11-27", "2026-11-27 18:00").matches(&open()));
        let ago = at("2h ago").unwrap().0.elapsed().unwrap();
        assert!(ago >= Duration::from_hours(2) && ago < Duration::from_hours(3));
        assert!("soon".parse::<Moment>().is_err());
    }

    #[test]
    fn an_address_is_that_of_a_connection_or_one_that_was_answered() {
        let filter = Filter {
            addresses: vec!["203.0.113.0/24".parse().unwrap()],
            ..Filter::default()
        };
        assert!(filter.matches(&json!({"address": "203.0.113.9"})));
        assert!(filter.matches(&json!({"addresses": ["198.51.100.1", "203.0.113.9"]})));
        assert!(!filter.matches(&json!({"address": "2001:db8::1"})));
    }
}
