//! What the accesses of a run amount to, in the terms of MITRE ATT&CK (<https://attack.mitre.org/>, v17.1).
//!
//! Decided from accesses that happened, and after the skill was executed: nothing that its set-up does is
//! one of the skill's.

mod class;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use serde_json::Value;

pub use class::{CLASSES, Class, Severity};

use super::show::object;
use crate::audit::field::text;

/// Records of a finding that are kept; the others are counted.
const EVIDENCE_MAX: usize = 20;
/// Different credential files that are a search for them, and not one use.
const SEARCH: usize = 3;
/// How long after credentials were touched a refused way out is one for them.
const SOON: Duration = Duration::from_mins(10);
/// Different names below one domain that were refused: more than programs ask for.
const TUNNEL: usize = 20;

/// What was found in one run.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What it is.
    pub class: &'static Class,
    /// Accesses that it is made of.
    pub count: u64,
    /// The first of them about different things, as records.
    pub evidence: Vec<Value>,
}

impl Finding {
    /// What was found, in words.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut words = format!("{}: ", self.class.title);
        let objects: Vec<String> = self.evidence.iter().map(object).collect();
        let (shown, more) = objects.split_at(objects.len().min(5));
        words.push_str(&shown.join(", "));
        if !more.is_empty() {
            let _infallible = write!(words, ", and {} others", more.len());
        }
        words
    }
}

/// Looks at the records of one run.
#[derive(Debug, Default)]
pub struct Findings {
    /// The skill was executed.
    started: bool,
    found: BTreeMap<&'static str, (u64, Vec<Value>)>,
    /// Credential files that were touched, each with its first record, and when the last was.
    touched: BTreeMap<String, Value>,
    last_touched: Option<SystemTime>,
    /// Refused names below each domain.
    refused: BTreeMap<String, (u64, BTreeMap<String, Value>)>,
}

impl Findings {
    /// Takes a record, in the order of the run.
    pub fn add(&mut self, record: &Value) {
        let of = |pointer: &str| text(record, pointer);
        let Some(kind) = of("/kind") else { return };
        let denied = of("/verdict") == Some("deny");
        if !self.started {
            self.started = kind == "exec" && !denied;
            return;
        }
        match kind {
            "open" | "map" | "link" | "rename" => self.file(record, denied),
            "exec" if denied => self.note("undeclared_program", record),
            "ptrace" if denied => self.note("process_injection", record),
            "connect" | "sendmsg" if denied => self.way_out(record),
            "dns" if denied => {
                self.way_out(record);
                self.name(record);
            }
            _ => {}
        }
        match of("/reason") {
            Some("persistence") if denied => self.note("persistence", record),
            Some("foreign_namespace") if denied => self.note("escape", record),
            _ => {}
        }
    }

    fn note(&mut self, name: &'static str, record: &Value) {
        let (count, evidence) = self.found.entry(name).or_default();
        *count += 1;
        let is_new = || {
            let object = object(record);
            evidence.iter().all(|known| self::object(known) != object)
        };
        if evidence.len() < EVIDENCE_MAX && is_new() {
            evidence.push(record.clone());
        }
    }

    fn file(&mut self, record: &Value, denied: bool) {
        let Some(path) = text(record, "/path").filter(|path| is_credential(path)) else {
            return;
        };
        self.last_touched = time(record);
        if self.touched.len() < EVIDENCE_MAX {
            self.touched
                .entry(path.to_owned())
                .or_insert_with(|| record.clone());
        }
        if denied {
            self.note("credential_search", record);
        }
    }

    fn way_out(&mut self, record: &Value) {
        let soon = match (self.last_touched, time(record)) {
            (Some(touched), Some(now)) => now.duration_since(touched).unwrap_or_default() <= SOON,
            _ => false,
        };
        if !soon {
            return;
        }
        if !self.found.contains_key("credential_exfiltration") {
            for record in self.touched.clone().into_values() {
                self.note("credential_exfiltration", &record);
            }
        }
        self.note("credential_exfiltration", record);
    }

    fn name(&mut self, record: &Value) {
        let Some(name) = text(record, "/name") else {
            return;
        };
        let mut labels = name.rsplitn(3, '.');
        let (Some(top), Some(domain), Some(rest)) = (labels.next(), labels.next(), labels.next())
        else {
            return;
        };
        let (count, names) = self.refused.entry(format!("{domain}.{top}")).or_default();
        *count += 1;
        if names.len() < EVIDENCE_MAX {
            names
                .entry(rest.to_owned())
                .or_insert_with(|| record.clone());
        }
    }

    /// What was found, the worst first.
    #[must_use]
    pub fn findings(mut self) -> Vec<Finding> {
        for (count, names) in std::mem::take(&mut self.refused).into_values() {
            if names.len() >= TUNNEL {
                let found = self.found.entry("dns_tunnel").or_default();
                found.0 += count;
                found.1.extend(names.into_values());
                found.1.truncate(EVIDENCE_MAX);
            }
        }
        let mut found = Vec::new();
        for class in &CLASSES {
            let Some((count, evidence)) = self.found.remove(class.name) else {
                continue;
            };
            if class.name == "credential_search" && evidence.len() < SEARCH {
                continue;
            }
            found.push(Finding {
                class,
                count,
                evidence,
            });
        }
        found
    }
}

fn time(record: &Value) -> Option<SystemTime> {
    humantime::parse_rfc3339(text(record, "/time")?).ok()
}

/// Whether a file of this path holds credentials, where programs keep it as they usually do.
fn is_credential(path: &str) -> bool {
    const ENDS: [&str; 18] = [
        "/.aws/credentials",
        "/.azure/accessTokens.json",
        "/.azure/msal_token_cache.json",
        "/.config/gcloud/application_default_credentials.json",
        "/.config/gcloud/credentials.db",
        "/.config/gh/hosts.yml",
        "/.docker/config.json",
        "/.git-credentials",
        "/.kube/config",
        "/.netrc",
        "/.npmrc",
        "/.pypirc",
        "/.cargo/credentials.toml",
        "/.env",
        "/.bash_history",
        "/.claude/.credentials.json",
        "/.codex/auth.json",
        "/etc/shadow",
    ];
    const FOLDERS: [&str; 4] = [
        "/.ssh/",
        "/.gnupg/private-keys-v1.d/",
        "/.password-store/",
        "/.local/share/keyrings/",
    ];
    // What is public of a folder of keys.
    let public = [".pub", "/known_hosts", "/config", "/authorized_keys"];
    let is_environment = || {
        let process = path
            .strip_prefix("/proc/")
            .and_then(|rest| rest.strip_suffix("/environ"));
        process.is_some_and(|process| !process.contains('/'))
    };
    ENDS.iter().any(|end| path.ends_with(end))
        || FOLDERS.iter().any(|folder| path.contains(folder))
            && !public.iter().any(|end| path.ends_with(end))
        || is_environment()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn exec() -> Value {
        json!({"kind": "exec", "verdict": "allow", "time": "2026-11-27T18:00:00Z", "path": "/bin/sh"})
    }

    fn open(path: &str, verdict: &str, second: u64) -> Value {
        json!({"kind": "open", "verdict": verdict, "reason": "no_rule", "path": path,
            "time": format!("2026-11-27T18:00:{second:02}Z")})
    }

    fn dns(name: &str, time: &str) -> Value {
        json!({"kind": "dns", "verdict": "deny", "reason": "no_rule", "name": name, "time": time})
    }

    fn found(records: &[Value]) -> Vec<(&'static str, u64)> {
        let mut findings = Findings::default();
        for record in records {
            findings.add(record);
        }
        let found = findings.findings().into_iter();
        found.map(|one| (one.class.name, one.count)).collect()
    }

    #[test]
    fn a_credential_and_then_a_refused_way_out_is_exfiltration() {
        let key = open("/home/u/.ssh/id_ed25519", "allow", 1);
        let soon = dns("hook.example", "2026-11-27T18:00:09Z");
        assert_eq!(
            found(&[exec(), key.clone(), soon.clone()]),
            [("credential_exfiltration", 2)]
        );
        assert_eq!(
            found(&[exec(), soon.clone(), key.clone()]),
            [],
            "in this order alone"
        );
        let late = dns("hook.example", "2026-11-27T19:00:00Z");
        assert_eq!(found(&[exec(), key, late]), []);
        let harmless = open("/home/u/.ssh/known_hosts", "allow", 1);
        assert_eq!(found(&[exec(), harmless, soon]), []);
    }

    #[test]
    fn one_credential_file_is_no_search_and_three_are() {
        let paths = ["/root/.netrc", "/root/.aws/credentials", "/proc/1/environ"];
        let refused = |count: usize| {
            let opens = paths.iter().cycle().take(count);
            let opens = opens.map(|path| open(path, "deny", 1));
            [exec()].into_iter().chain(opens).collect::<Vec<_>>()
        };
        assert_eq!(found(&refused(2)), []);
        assert_eq!(found(&refused(30)), [("credential_search", 30)]);
        let same: Vec<_> = [exec()]
            .into_iter()
            .chain((0..9).map(|_| open(paths[0], "deny", 1)))
            .collect();
        assert_eq!(found(&same), []);
    }

    #[test]
    fn what_set_up_does_is_not_the_skills() {
        let paths = ["/root/.netrc", "/root/.aws/credentials", "/etc/shadow"];
        let mut records: Vec<_> = paths.iter().map(|path| open(path, "deny", 1)).collect();
        records.push(exec());
        assert_eq!(found(&records), []);
    }

    #[test]
    fn many_names_below_one_domain_are_a_tunnel() {
        let ask = |below: usize| dns(&format!("x{below}.evil.example"), "2026-11-27T18:00:00Z");
        let asked = |count| {
            let names = (0..count).map(ask);
            found(&[exec()].into_iter().chain(names).collect::<Vec<_>>())
        };
        assert_eq!(asked(TUNNEL - 1), []);
        assert_eq!(asked(TUNNEL + 9), [("dns_tunnel", TUNNEL as u64 + 9)]);
    }

    #[test]
    fn reasons_and_kinds_have_their_classes() {
        let of = |kind: &str, reason: &str, verdict: &str| {
            let record = json!({"kind": kind, "verdict": verdict, "reason": reason, "path": "/x", "time": "2026-11-27T18:00:00Z"});
            found(&[exec(), record])
        };
        assert_eq!(of("open", "persistence", "deny"), [("persistence", 1)]);
        assert_eq!(of("rename_to", "persistence", "deny"), [("persistence", 1)]);
        assert_eq!(of("open", "foreign_namespace", "deny"), [("escape", 1)]);
        assert_eq!(of("ptrace", "no_rule", "deny"), [("process_injection", 1)]);
        assert_eq!(of("exec", "no_rule", "deny"), [("undeclared_program", 1)]);
        assert_eq!(of("exec", "rule", "allow"), []);
        assert_eq!(of("open", "no_rule", "deny"), []);
    }
}
