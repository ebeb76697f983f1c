//! File System Activity 1001.

use serde_json::{Value, json};

use super::Event;
use crate::audit::field::text;

pub(super) fn activity(kind: &str, record: &Value) -> Event {
    let path = text(record, "/path");
    let mut file = object(path.unwrap_or("(no path)"));
    let activity = match kind {
        "create" => 1,
        "truncate" => 3,
        "unlink" => 4,
        "rename" | "rename_to" => 5,
        "attributes" => 6,
        "open" => 14,
        _ => 99,
    };
    // 5 is a local socket, 1 a regular file, 0 is not known.
    let type_id = match kind {
        "unix" => 5,
        "map" => 1,
        _ => 0,
    };
    if let Some(file) = file.as_object_mut() {
        file.insert("type_id".to_owned(), type_id.into());
        if path.is_none() {
            file.remove("path");
        }
    }
    let mut event = match activity {
        99 => Event::other(1001, 1, kind, json!({ "file": file })),
        activity => Event::new(1001, 1, activity, json!({ "file": file })),
    };
    event.mapped = &["path"];
    event
}

/// A file of this path.
pub(super) fn object(path: &str) -> Value {
    let name = path.rsplit('/').find(|part| !part.is_empty());
    json!({ "name": name.unwrap_or("/"), "path": path, "type_id": 0 })
}
