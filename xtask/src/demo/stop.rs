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
    let event = about(step, record).find(|event| ended(step, event))?;
    let layers = layers(event, record);
    let found: Vec<_> = layers.into_iter().filter(|name| record.had(name)).collect();
    (!found.is_empty()).then(|| Stop {
        layer: found.join(" or "),
        why: reason(event),
    })
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

/// The records of what the step did.
fn about<'a>(step: &'a Step, record: &'a Record) -> impl Iterator<Item = &'a Event> {
    // A program is looked for in many folders and can have another name behind a link, so all
    // that the process tried to execute counts.
    let named = |event: &Event| {
        let path = event.path.as_deref().map(Path::new);
        path.and_then(Path::file_name) == Some(step.target.as_ref())
    };
    let executions = record.0.iter().filter(|event| event.kind == "exec");
    let processes: Vec<_> = executions
        .filter(|event| named(event))
        .map(|event| event.tgid)
        .collect();
    record.0.iter().filter(
        move |event| match (event.kind.as_str(), step.kind.as_str()) {
            ("open", "environment" | "file") => event.path.as_ref() == Some(&step.target),
            ("connect" | "sendmsg", "http" | "dns") => {
                event.socket().is_some() && event.socket() == socket(&step.target)
            }
            ("exec", "program") => processes.contains(&event.tgid),
            _ => false,
        },
    )
}

/// Whether this was the end of the step: it was denied or found nothing, and the stealer met the
/// error that comes of that.
fn ended(step: &Step, event: &Event) -> bool {
    let number = match event.error.as_deref() {
        // eBPF programs decide before there is a result, and the kernel makes it EPERM.
        None if event.denied() => 1,
        Some("EPERM") => 1,
        Some("ENOENT") => 2,
        Some("EACCES") => 13,
        _ => return false,
    };
    step.detail.contains(&format!("[Errno {number}]"))
}

/// The address in a URL.
fn socket(url: &str) -> Option<SocketAddr> {
    let (_, rest) = url.split_once("://")?;
    rest.split('/').next()?.parse().ok()
}

/// The layers that can have made this end, by their names in the records. Of all but eBPF only an
/// error is known, which has an answer where only one layer can have made it. File modes are no
/// candidate: without SkillSandbox, the same user does the same.
fn layers(event: &Event, record: &Record) -> Vec<&'static str> {
    let path = event.path.as_deref().unwrap_or_default();
    match (event.error.as_deref(), event.kind.as_str(), event.address) {
        (None, "open", _) => vec!["ebpf file_open"],
        // An execution opens the file first, and the record does not tell which of the two
        // denied it.
        (None, "exec", _) => vec!["ebpf file_open", "ebpf bprm_check"],
        (None, "connect", Some(IpAddr::V4(_))) => vec!["ebpf connect4"],
        (None, "connect", Some(IpAddr::V6(_))) => vec!["ebpf connect6"],
        (None, "sendmsg", Some(IpAddr::V4(_))) => vec!["ebpf sendmsg4"],
        (None, "sendmsg", Some(IpAddr::V6(_))) => vec!["ebpf sendmsg6"],
        // Its own /proc has no processes but its own.
        (Some("ENOENT"), ..) if path.starts_with("/proc/") => vec!["namespaces"],
        (Some("ENOENT"), ..) if event.denied() => vec!["mounts"],
        (Some("EACCES"), ..) if beside_an_allowed_one(event, record) => vec!["landlock"],
        _ => Vec::new(),
    }
}

/// Whether another program of the same folder was executed in the same run. Then it is not the
/// mount that keeps this one from it.
fn beside_an_allowed_one(event: &Event, record: &Record) -> bool {
    let folder = |event: &Event| Some(Path::new(event.path.as_deref()?).parent()?.to_owned());
    let mut others = record.0.iter().filter(|other| !other.denied());
    others.any(|other| other.kind == event.kind && folder(other) == folder(event))
}

/// What the record says, and of a program which file it was.
fn reason(event: &Event) -> String {
    let reason = event.reason.as_deref().unwrap_or("unknown");
    let error = event.error.as_ref().map(|error| format!(" ({error})"));
    let path = event.path.as_ref().filter(|_| event.kind == "exec");
    let path = path.map(|path| format!(" {path}"));
    [
        reason,
        &error.unwrap_or_default(),
        &path.unwrap_or_default(),
    ]
    .concat()
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

    fn stop(step: &str, target: &str, error: u8, events: &str) -> Option<(String, String)> {
        let step = Step {
            kind: step.to_owned(),
            target: target.to_owned(),
            outcome: "failed".to_owned(),
            detail: format!("OSError: [Errno {error}] …"),
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
        let ebpf = by("ebpf connect4", "not_granted");
        assert_eq!(stop("http", target, 1, events), Some(ebpf));
        let elsewhere = "http://127.0.0.1:18667/";
        assert_eq!(stop("http", elsewhere, 1, events), None);
        assert_eq!(
            stop("http", target, 111, events),
            None,
            "it met another error"
        );
    }

    #[test]
    fn a_layer_that_was_not_there_stopped_nothing() {
        let events =
            r#"{"kind": "open", "verdict": "deny", "reason": "no_rule", "path": "/secret"}"#;
        assert_eq!(stop("file", "/secret", 1, events), None);
    }

    #[test]
    fn an_allowed_access_is_no_stop() {
        let events =
            r#"{"kind": "open", "verdict": "allow", "reason": "observed", "path": "/secret"}"#;
        assert_eq!(stop("file", "/secret", 1, events), None);
        assert_eq!(stop("file", "/secret", 1, ""), None);
    }

    #[test]
    fn mounts_stopped_what_was_not_there() {
        let events = r#"{"kind": "open", "verdict": "deny", "reason": "no_rule", "path": "/home/v/.netrc", "error": "ENOENT"}"#;
        assert_eq!(
            stop("file", "/home/v/.netrc", 2, events),
            Some(by("mounts", "no_rule (ENOENT)"))
        );
    }

    #[test]
    fn another_process_is_not_in_the_sandboxs_proc() {
        let events = r#"{"kind": "open", "verdict": "allow", "reason": "observed", "path": "/proc/1/environ", "error": "ENOENT"}"#;
        assert_eq!(
            stop("environment", "/proc/1/environ", 2, events),
            Some(by("namespaces", "observed (ENOENT)"))
        );
    }

    #[test]
    fn landlock_refused_a_program_beside_one_that_ran() {
        let ran = r#"{"kind": "exec", "verdict": "allow", "reason": "observed", "path": "/usr/bin/python3", "tgid": 6}"#;
        let missing = r#"{"kind": "exec", "verdict": "deny", "reason": "not_granted", "path": "/sbin/curl", "error": "ENOENT", "tgid": 7}"#;
        let refused = r#"{"kind": "exec", "verdict": "deny", "reason": "refused", "path": "/usr/bin/curl", "error": "EACCES", "tgid": 7}"#;
        assert_eq!(
            stop("program", "curl", 13, &[ran, missing, refused].join("\n")),
            Some(by("landlock", "refused (EACCES) /usr/bin/curl"))
        );
        // It could have been the mount.
        assert_eq!(stop("program", "curl", 13, refused), None);
    }

    #[test]
    fn a_program_behind_a_link_has_another_name() {
        let start = r#"{"kind": "start", "layers": [{"name": "ebpf file_open", "achieved": true}, {"name": "ebpf bprm_check", "achieved": true}]}"#;
        let missing = r#"{"kind": "exec", "verdict": "deny", "reason": "not_granted", "path": "/usr/local/bin/sh", "error": "ENOENT", "tgid": 8}"#;
        let other = r#"{"kind": "exec", "verdict": "deny", "reason": "not_granted", "path": "/usr/bin/curl", "tgid": 7}"#;
        let denied = r#"{"kind": "exec", "verdict": "deny", "reason": "not_granted", "path": "/usr/bin/dash", "tgid": 8}"#;
        assert_eq!(
            stop(
                "program",
                "sh",
                1,
                &[start, other, missing, denied].join("\n")
            ),
            Some(by(
                "ebpf file_open or ebpf bprm_check",
                "not_granted /usr/bin/dash"
            ))
        );
    }

    #[test]
    fn the_environment_withheld_the_variables_on_record() {
        let events = r#"{"kind": "environment", "withheld": ["HOME", "GITHUB_TOKEN"]}"#;
        assert_eq!(
            stop("environment", "own", 0, events),
            Some(by("environment", "withheld GITHUB_TOKEN"))
        );
        let nothing = r#"{"kind": "environment", "withheld": []}"#;
        assert_eq!(stop("environment", "own", 0, nothing), None);
    }
}
