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
