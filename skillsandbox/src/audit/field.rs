//! Fields of a record in JSON, by JSON pointer (RFC 6901).

use serde_json::Value;

/// A field that is a text.
pub(crate) fn text<'r>(record: &'r Value, pointer: &str) -> Option<&'r str> {
    record.pointer(pointer)?.as_str()
}

/// A field that is a number from 0 on.
pub(crate) fn number(record: &Value, pointer: &str) -> Option<u64> {
    record.pointer(pointer)?.as_u64()
}

/// Events that were lost when they were to be recorded, as a `lost` record says.
pub(crate) fn lost(record: &Value) -> u64 {
    const CAUSES: [&str; 4] = [
        "/dropped/allowed",
        "/dropped/denied",
        "/dropped/processes",
        "/undecodable",
    ];
    if text(record, "/kind") != Some("lost") {
        return 0;
    }
    CAUSES
        .iter()
        .filter_map(|cause| number(record, cause))
        .sum()
}
