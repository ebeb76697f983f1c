//! Detection Finding 2004.

use serde_json::{Value, json};

use super::{HIGH, MEDIUM, device, file, metadata, milliseconds, process_uid};
use crate::audit::{
    field::{number, text},
    query::{Finding, Severity},
    store::About,
};

/// The version of ATT&CK whose numbers these are.
const ATTACK: &str = "17.1";

pub(super) fn object(about: &About, found: &Finding) -> Value {
    let class = found.class;
    let evidences: Vec<Value> = found
        .evidence
        .iter()
        .filter_map(|record| evidence(about, record))
        .collect();
    let time = |record: Option<&Value>| record.map(milliseconds).unwrap_or_default();
    let (first, last) = (time(found.evidence.first()), time(found.evidence.last()));
    json!({
        "class_uid": 2004,
        "category_uid": 2,
        "activity_id": 1,
        "type_uid": 200_401,
        "severity_id": match class.severity {
            Severity::Medium => MEDIUM,
            Severity::High => HIGH,
        },
        "time": last,
        "start_time": first,
        "end_time": last,
        "count": found.count,
        "message": found.sentence(),
        "metadata": metadata(about, None, &["security_control"]),
        "device": device(about),
        "is_alert": true,
        "finding_info": {
            "uid": format!("{}:{}", about.run, class.name),
            "title": class.title,
            "desc": found.sentence(),
            "types": [class.name],
            "first_seen_time": first,
            "last_seen_time": last,
        },
        "attacks": [{
            "version": ATTACK,
            "technique": { "uid": class.technique, "name": class.technique_name },
            "tactic": { "uid": class.tactic, "name": class.tactic_name },
        }],
        "evidences": evidences,
    })
}

/// One access that a finding is made of.
fn evidence(about: &About, record: &Value) -> Option<Value> {
    let mut evidence = serde_json::Map::new();
    let mut set = |name: &str, value: Value| evidence.insert(name.to_owned(), value);
    if let Some(id) = number(record, "/tgid") {
        let process =
            json!({ "pid": id, "uid": process_uid(about, id), "name": text(record, "/comm") });
        set("process", process);
    }
    if let Some(path) = text(record, "/path") {
        set("file", file::object(path));
    }
    if let Some(address) = text(record, "/address") {
        let mut endpoint = json!({ "ip": address });
        if let (Some(port), Some(endpoint)) = (number(record, "/port"), endpoint.as_object_mut()) {
            endpoint.insert("port".to_owned(), port.into());
        }
        set("dst_endpoint", endpoint);
    } else if let Some(name) = text(record, "/name") {
        set("query", json!({ "hostname": name }));
    }
    (!evidence.is_empty()).then_some(Value::Object(evidence))
}
