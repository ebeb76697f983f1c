//! Records as the Open Cybersecurity Schema Framework has them (<https://schema.ocsf.io/1.8.0>), one object a
//! record: File System Activity 1001, Process Activity 1007, Network Activity 4001, DNS Activity 4003, Base
//! Event 0 for what userspace itself has to say, and Detection Finding 2004.
//!
//! What a class has no place for is in `unmapped`, under the names of `docs/events.md`.

mod dns;
mod file;
mod finding;
mod network;
mod process;

use std::time::UNIX_EPOCH;

use serde_json::{Map, Value, json};

use crate::audit::{
    field::{lost, number, text},
    query::{Finding, REPEAT},
    store::About,
};

/// The schema's version.
pub const VERSION: &str = "1.8.0";

/// Severities (`severity_id`).
const INFORMATIONAL: u8 = 1;
const MEDIUM: u8 = 3;
const HIGH: u8 = 4;

/// The record as an object of OCSF.
#[must_use]
pub fn record(about: &About, record: &Value) -> Value {
    let kind = text(record, "/kind").unwrap_or_default();
    let event = match kind {
        "open" | "map" | "unlink" | "rename" | "rename_to" | "link" | "link_to" | "truncate"
        | "create" | "attributes" | "unix" => file::activity(kind, record),
        "exec" | "fork" | "exit" | "ptrace" | "running" => process::activity(kind, about, record),
        "connect" | "sendmsg" | "bind" | "socket" => network::activity(kind, about, record),
        "dns" => dns::activity(about, record),
        // What was done once more is what it was.
        REPEAT => {
            let of = text(record, "/of").unwrap_or_default();
            let count = number(record, "/count").unwrap_or_default();
            file::activity(of, record).counted(count, about, record)
        }
        _ => base(kind, about, record),
    };
    event.object(about, record)
}

/// A finding as an object of OCSF.
#[must_use]
pub fn finding(about: &About, found: &Finding) -> Value {
    finding::object(about, found)
}

/// What differs from class to class.
struct Event {
    class: u32,
    category: u32,
    activity: u32,
    /// Its name, where the class has no number for it.
    activity_name: Option<String>,
    fields: Map<String, Value>,
    /// Fields of the record that have a place of their own.
    mapped: &'static [&'static str],
}

impl Event {
    fn new(class: u32, category: u32, activity: u32, fields: Value) -> Self {
        let fields = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        Self {
            class,
            category,
            activity,
            activity_name: None,
            fields,
            mapped: &[],
        }
    }

    /// An activity that the class has no number for.
    fn other(class: u32, category: u32, name: &str, fields: Value) -> Self {
        let mut event = Self::new(class, category, 99, fields);
        event.activity_name = Some(name.to_owned());
        event
    }

    /// So many of them, in the time that the record says.
    fn counted(mut self, count: u64, about: &About, record: &Value) -> Self {
        let end = milliseconds(record);
        let since = number(record, "/from_boot_ns");
        let start = since.and_then(|since| at_boot(about, since)).unwrap_or(end);
        let times: [(&str, Value); 3] = [
            ("count", count.into()),
            ("start_time", start.into()),
            ("end_time", end.into()),
        ];
        let times = times.map(|(name, value)| (name.to_owned(), value));
        self.fields.extend(times);
        self
    }

    fn object(self, about: &About, record: &Value) -> Value {
        let denied = text(record, "/verdict") == Some("deny");
        let mut object = self.fields;
        let mut set = |name: &str, value: Value| object.insert(name.to_owned(), value);
        set("class_uid", self.class.into());
        set("category_uid", self.category.into());
        set("activity_id", self.activity.into());
        set("type_uid", (self.class * 100 + self.activity).into());
        if let Some(name) = self.activity_name {
            set("activity_name", name.into());
        }
        set(
            "severity_id",
            if denied { MEDIUM } else { INFORMATIONAL }.into(),
        );
        set("time", milliseconds(record).into());
        // The base event has no place for the host.
        let of_the_host = self.class != 0;
        let profiles: &[&str] = if of_the_host {
            &["host", "security_control"]
        } else {
            &["security_control"]
        };
        let sequence = number(record, "/sequence");
        set("metadata", metadata(about, sequence, profiles));
        if of_the_host {
            set("device", device(about));
        }
        if number(record, "/tgid").is_some() {
            set("actor", json!({ "process": actor(about, record) }));
        }
        if let Some(verdict) = text(record, "/verdict") {
            decided(&mut set, verdict, record);
        }
        let mut unmapped = unmapped(record, self.mapped);
        if !of_the_host {
            unmapped.insert("host".to_owned(), about.host.clone().into());
        }
        if !unmapped.is_empty() {
            set("unmapped", unmapped.into());
        }
        Value::Object(object)
    }
}

/// What the profile `security_control` says of a decision.
fn decided(set: &mut impl FnMut(&str, Value) -> Option<Value>, verdict: &str, record: &Value) {
    let (action, disposition, status) = match verdict {
        "allow" => (1, 1, 1),
        "deny" => (2, 2, 2),
        // Observed, logged, and it went on.
        "would_deny" => (3, 17, 1),
        _ => (0, 0, 0),
    };
    set("action_id", action.into());
    set("disposition_id", disposition.into());
    set("status_id", status.into());
    if verdict == "deny" {
        set("status_code", "EACCES".into());
        set("is_alert", true.into());
    }
    if let Some(reason) = text(record, "/reason") {
        set("status_detail", reason.into());
    }
    if let Some(rule) = number(record, "/rule/number") {
        let name = text(record, "/rule/text").unwrap_or_default();
        set("policy", json!({ "uid": rule.to_string(), "name": name }));
    }
}

/// What userspace itself has to say.
fn base(kind: &str, about: &About, record: &Value) -> Event {
    let event = Event::other(0, 0, kind, json!({}));
    match kind {
        "lost" => event.counted(lost(record), about, record),
        _ => event,
    }
}

fn at_boot(about: &About, since_boot: u64) -> Option<i64> {
    let unix = about.booted_unix_ns.checked_add(since_boot.into())?;
    i64::try_from(unix / 1_000_000).ok()
}

/// When, in milliseconds since 1970.
fn milliseconds(record: &Value) -> i64 {
    let time = text(record, "/time").and_then(|time| humantime::parse_rfc3339(time).ok());
    let since_1970 = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    i64::try_from(since_1970.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

fn metadata(about: &About, sequence: Option<u64>, profiles: &[&str]) -> Value {
    let mut metadata = json!({
        "version": VERSION,
        "product": {
            "name": "SkillSandbox",
            "vendor_name": "SkillSandbox",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "profiles": profiles,
        "log_name": about.run,
        "correlation_uid": about.run,
    });
    if let (Some(sequence), Some(metadata)) = (sequence, metadata.as_object_mut()) {
        metadata.insert("sequence".to_owned(), sequence.into());
        metadata.insert("uid".to_owned(), format!("{}:{sequence}", about.run).into());
    }
    metadata
}

/// The host.
fn device(about: &About) -> Value {
    // 1 is a server.
    json!({ "type_id": 1, "hostname": about.host })
}

/// The process that did it.
fn actor(about: &About, record: &Value) -> Value {
    let mut process = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            process.insert(name.to_owned(), value);
        }
    };
    let id = number(record, "/tgid");
    set("pid", id.map(Value::from));
    set("tid", number(record, "/pid").map(Value::from));
    set("uid", id.map(|id| process_uid(about, id).into()));
    set("name", text(record, "/comm").map(Value::from));
    set("file", text(record, "/executable").map(file::object));
    let user = number(record, "/uid");
    set("user", user.map(|uid| json!({ "uid": uid.to_string() })));
    let parent = number(record, "/ppid");
    set(
        "parent_process",
        parent.map(|parent| json!({ "pid": parent })),
    );
    Value::Object(process)
}

/// A process of a run. Its number alone would be that of others, later.
fn process_uid(about: &About, id: u64) -> String {
    format!("{}:{id}", about.run)
}

/// Fields that every class has a place for.
const MAPPED: [&str; 12] = [
    "kind",
    "pid",
    "tgid",
    "ppid",
    "uid",
    "comm",
    "executable",
    "verdict",
    "reason",
    "rule",
    "sequence",
    "v",
];

/// Everything else that is known, with the nanoseconds that milliseconds have no room for.
fn unmapped(record: &Value, mapped: &[&str]) -> Map<String, Value> {
    let fields = record.as_object().into_iter().flatten();
    fields
        .filter(|(name, value)| {
            !value.is_null() && !MAPPED.contains(&name.as_str()) && !mapped.contains(&name.as_str())
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
