//! DNS Activity 4003.

use serde_json::{Value, json};

use super::Event;
use crate::audit::{field::text, store::About};

pub(super) fn activity(about: &About, record: &Value) -> Event {
    let kind = text(record, "/record_type");
    let answers: Vec<Value> = record
        .get("addresses")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|address| json!({ "rdata": address }))
        .collect();
    let mut fields = json!({
        // Of which process it was, the name server does not know.
        "src_endpoint": { "hostname": about.host },
        "answers": answers,
    });
    if let Some(fields) = fields.as_object_mut() {
        if let Some(name) = text(record, "/name") {
            let mut query = json!({ "hostname": name });
            if let (Some(kind), Some(query)) = (kind, query.as_object_mut()) {
                query.insert("type".to_owned(), kind.into());
            }
            fields.insert("query".to_owned(), query);
        }
        let code = text(record, "/code").unwrap_or_default();
        fields.insert("rcode_id".to_owned(), rcode(code).into());
        fields.insert("rcode".to_owned(), code.into());
    }
    // 6 is traffic: question and answer in one.
    let mut event = Event::new(4003, 4, 6, fields);
    event.mapped = &["name", "record_type", "addresses", "code"];
    event
}

/// RFC 6895, section 2.3; 99 is another.
fn rcode(code: &str) -> u8 {
    match code {
        "NOERROR" => 0,
        "FORMERR" => 1,
        "SERVFAIL" => 2,
        "NXDOMAIN" => 3,
        "NOTIMP" => 4,
        "REFUSED" => 5,
        _ => 99,
    }
}
