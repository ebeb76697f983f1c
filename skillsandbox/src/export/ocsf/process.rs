//! Process Activity 1007.

use serde_json::{Value, json};

use super::{Event, file, process_uid};
use crate::audit::{
    field::{number, text},
    store::About,
};

pub(super) fn activity(kind: &str, about: &About, record: &Value) -> Event {
    let own = number(record, "/tgid").unwrap_or_default();
    let process = |id: u64| json!({ "pid": id, "uid": process_uid(about, id) });
    let mut event = match kind {
        "exec" => {
            let mut process = process(own);
            if let (Some(path), Some(process)) = (text(record, "/path"), process.as_object_mut()) {
                process.insert("file".to_owned(), file::object(path));
                process.insert("name".to_owned(), path.into());
            }
            // 3 is exec.
            Event::new(
                1007,
                1,
                1,
                json!({ "process": process, "launch_type_id": 3 }),
            )
        }
        "fork" => {
            let child = number(record, "/child").unwrap_or_default();
            // 2 is fork.
            Event::new(
                1007,
                1,
                1,
                json!({ "process": process(child), "launch_type_id": 2 }),
            )
        }
        // It was there, and the class has no number for that.
        "running" => {
            let mut process = process(own);
            if let (Some(path), Some(process)) =
                (text(record, "/executable"), process.as_object_mut())
            {
                process.insert("file".to_owned(), file::object(path));
            }
            Event::other(1007, 1, "Running", json!({ "process": process }))
        }
        "exit" => {
            let mut fields = json!({ "process": process(own) });
            let code = record.pointer("/exit_code").and_then(Value::as_i64);
            if let (Some(code), Some(fields)) = (code, fields.as_object_mut()) {
                fields.insert("exit_code".to_owned(), code.into());
            }
            Event::new(1007, 1, 2, fields)
        }
        _ => {
            let target = number(record, "/target").unwrap_or_default();
            Event::new(1007, 1, 3, json!({ "process": process(target) }))
        }
    };
    event.mapped = match kind {
        "exec" => &["path"],
        "fork" => &["child"],
        "running" => &["executable"],
        "exit" => &["exit_code"],
        _ => &["target"],
    };
    event
}
