//! Which layer stopped a step, as far as SkillSandbox's records say. Nothing is taken from what a
//! layer ought to do: a step without a record of its end has no answer.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::evidence::{Event, Record, Step};
use super::stage::PASSED_ON;

/// The end of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    /// The layer, by its name in the records.
    pub(super) layer: String,
    /// What the record says.
    pub(super) why: String,
}

/// What stopped the step.
pub(super) fn of(step: &Step, record: &Record) -> Option<Stop> {
    if step.kind == "environment" && step.target == "own" {
        return withheld(record);
    }
    let about: Vec<&Event> = record.0.iter().filter(|event| is_of(event, step)).collect();
    // A program is looked for in many folders: what was found and refused says more than what
    // was not found.
    let found = about
        .iter()
        .find(|event| event.denied() && event.error.as_deref() != Some("ENOENT"));
    let (layer, why) = match found {
        Some(event) => (deciding_layer(event, record)?, reason(event)),
        None => missing(&about)?,
    };
    record.had(&layer).then_some(Stop { layer, why })
}

/// Variables that the stealer would have had.
fn withheld(record: &Record) -> Option<Stop> {
    let wanted = |name: &&str| PASSED_ON.iter().any(|(secret, _)| secret == name);
    let names: Vec<_> = record.withheld().filter(wanted).collect();
    (!names.is_empty()).then(|| Stop {
        layer: "environment".to_owned(),
        why: format!("withheld {}", names.join(", ")),
    })
}

/// Whether the record is about what the step aimed at.
fn is_of(event: &Event, step: &Step) -> bool {
    match (event.kind.as_str(), step.kind.as_str()) {
        ("open", "environment" | "file") => event.path.as_ref() == Some(&step.target),
        ("connect" | "sendmsg", "http" | "dns") => {
            event.socket().is_some() && event.socket() == socket(&step.target)
        }
        ("exec", "program") => {
            let path = event.path.as_deref().map(Path::new);
            path.and_then(Path::file_name) == Some(step.target.as_ref())
        }
        _ => false,
    }
}

/// The address in a URL.
fn socket(url: &str) -> Option<SocketAddr> {
    let (_, rest) = url.split_once("://")?;
    rest.split('/').next()?.parse().ok()
}

/// The layer that denied what was there.
fn deciding_layer(event: &Event, record: &Record) -> Option<String> {
    // eBPF programs decide before there is a result; of all other layers only the error is known.
    match &event.error {
        None => ebpf_program(event),
        Some(error) => refusing_layer(event, error, record).map(str::to_owned),
    }
}

/// The program that decides on this kind of access.
fn ebpf_program(event: &Event) -> Option<String> {
    let name = match (event.kind.as_str(), event.address) {
        ("open", _) => "file_open",
        ("exec", _) => "bprm_check",
        ("connect", Some(IpAddr::V4(_))) => "connect4",
        ("connect", Some(IpAddr::V6(_))) => "connect6",
        ("sendmsg", Some(IpAddr::V4(_))) => "sendmsg4",
        ("sendmsg", Some(IpAddr::V6(_))) => "sendmsg6",
        _ => return None,
    };
    Some(format!("ebpf {name}"))
}

/// The layer that refused with this error, where only one can have. File modes are no candidate:
/// without SkillSandbox the same user does the same.
fn refusing_layer(event: &Event, error: &str, record: &Record) -> Option<&'static str> {
    (error == "EACCES" && beside_an_allowed_one(event, record)).then_some("landlock")
}

/// Whether another program of the same folder was executed in the same run. Then it is not the
/// mount that keeps this one from it.
fn beside_an_allowed_one(event: &Event, record: &Record) -> bool {
    let folder = |event: &Event| Some(Path::new(event.path.as_deref()?).parent()?.to_owned());
    let mut others = record.0.iter().filter(|other| !other.denied());
    others.any(|other| other.kind == event.kind && folder(other) == folder(event))
}

/// What was aimed at did not exist.
fn missing(about: &[&Event]) -> Option<(String, String)> {
    let event = about
        .iter()
        .find(|event| event.error.as_deref() == Some("ENOENT"))?;
    if event.path.as_ref()?.starts_with("/proc/") {
        let why = "not in its own /proc".to_owned();
        return Some(("namespaces".to_owned(), why));
    }
    event
        .denied()
        .then(|| ("mounts".to_owned(), format!("not there, {}", reason(event))))
}

/// The reason on record, and the error that the stealer met.
fn reason(event: &Event) -> String {
    let reason = event.reason.as_deref().unwrap_or("unknown");
    match &event.error {
        Some(error) => format!("{reason} ({error})"),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::evidence::lines;

    const LAYERS: &str = r#"{"kind": "start", "tier": "fallback", "layers": [
        {"name": "ebpf connect4", "achieved": true}, {"name": "ebpf file_open", "achieved": false},
        {"name": "mounts", "achieved": true}, {"name": "namespaces", "achieved": true},
        {"name": "landlock", "achieved": true}]}"#;

    fn record(events: &str) -> Record {
        Record(lines(&format!("{}\n{events}", LAYERS.replace('\n', ""))).unwrap())
    }

    fn stop(step: &str, target: &str, events: &str) -> Option<(String, String)> {
        let step = Step {
            kind: step.to_owned(),
            target: target.to_owned(),
            outcome: "failed".to_owned(),
            detail: String::new(),
        };
        of(&step, &record(events)).map(|Stop { layer, why }| (layer, why))
    }

    fn by(layer: &str, why: &str) -> (String, String) {
        (layer.to_owned(), why.to_owned())
    }

    #[test]
    fn ebpf_stopped_a_connection_that_it_denied() {
        let events = r#"{"kind": "connect", "verdict": "deny", "reason": "not_granted", "address": "127.0.0.1", "port": 18666}"#;
        let target = "http://127.0.0.1:18666/collect";
        assert_eq!(
            stop("http", target, events),
            Some(by("ebpf connect4", "not_granted"))
        );
        assert_eq!(stop("http", "http://127.0.0.1:18667/", events), None);
    }

    #[test]
    fn a_layer_that_was_not_there_stopped_nothing() {
        let events =
            r#"{"kind": "open", "verdict": "deny", "reason": "no_rule", "path": "/secret"}"#;
        assert_eq!(stop("file", "/secret", events), None);
    }

    #[test]
    fn an_allowed_access_is_no_stop() {
        let events =
            r#"{"kind": "open", "verdict": "allow", "reason": "observed", "path": "/secret"}"#;
        assert_eq!(stop("file", "/secret", events), None);
        assert_eq!(stop("file", "/secret", ""), None);
    }

    #[test]
    fn mounts_stopped_what_was_not_there() {
        let events = r#"{"kind": "open", "verdict": "deny", "reason": "no_rule", "path": "/home/v/.netrc", "error": "ENOENT"}"#;
        assert_eq!(
            stop("file", "/home/v/.netrc", events),
            Some(by("mounts", "not there, no_rule (ENOENT)"))
        );
    }

    #[test]
    fn another_process_is_not_in_the_sandboxs_proc() {
        let events = r#"{"kind": "open", "verdict": "allow", "reason": "observed", "path": "/proc/1/environ", "error": "ENOENT"}"#;
        assert_eq!(
            stop("environment", "/proc/1/environ", events),
            Some(by("namespaces", "not in its own /proc"))
        );
    }

    #[test]
    fn landlock_refused_a_program_beside_one_that_ran() {
        let ran = r#"{"kind": "exec", "verdict": "allow", "reason": "observed", "path": "/usr/bin/python3"}"#;
        let missing = r#"{"kind": "exec", "verdict": "deny", "reason": "not_granted", "path": "/sbin/curl", "error": "ENOENT"}"#;
        let refused = r#"{"kind": "exec", "verdict": "deny", "reason": "refused", "path": "/usr/bin/curl", "error": "EACCES"}"#;
        assert_eq!(
            stop("program", "curl", &[ran, missing, refused].join("\n")),
            Some(by("landlock", "refused (EACCES)"))
        );
        // It could have been the mount.
        assert_eq!(stop("program", "curl", refused), None);
    }

    #[test]
    fn the_environment_withheld_the_variables_on_record() {
        let events = r#"{"kind": "environment", "withheld": ["HOME", "GITHUB_TOKEN"]}"#;
        assert_eq!(
            stop("environment", "own", events),
            Some(by("environment", "withheld GITHUB_TOKEN"))
        );
        let nothing = r#"{"kind": "environment", "withheld": []}"#;
        assert_eq!(stop("environment", "own", nothing), None);
    }
}
