//! Network Activity 4001.

use serde_json::{Map, Value, json};

use super::Event;
use crate::audit::{
    field::{number, text},
    store::About,
};

pub(super) fn activity(kind: &str, about: &About, record: &Value) -> Event {
    let endpoint = endpoint(record);
    let mut event = match kind {
        // A denied one too: 5, Refuse, is what the other side does.
        "connect" => Event::new(4001, 4, 1, json!({ "dst_endpoint": endpoint })),
        "sendmsg" => Event::new(4001, 4, 6, json!({ "dst_endpoint": endpoint })),
        "bind" => Event::new(4001, 4, 7, json!({ "src_endpoint": endpoint })),
        _ => {
            let host = json!({ "hostname": about.host });
            Event::other(4001, 4, kind, json!({ "src_endpoint": host }))
        }
    };
    if kind != "socket" {
        // 1 is inbound, 2 outbound.
        let direction = if kind == "bind" { 1 } else { 2 };
        let mut connection = json!({ "direction_id": direction });
        if let (Some(number), Some(connection)) = (protocol(record), connection.as_object_mut()) {
            connection.insert("protocol_num".to_owned(), number.into());
        }
        event
            .fields
            .insert("connection_info".to_owned(), connection);
        event.mapped = &["address", "port", "name"];
    }
    event
}

fn endpoint(record: &Value) -> Value {
    let mut endpoint = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            endpoint.insert(name.to_owned(), value);
        }
    };
    set("ip", text(record, "/address").map(Value::from));
    set("port", number(record, "/port").map(Value::from));
    set("hostname", text(record, "/name").map(Value::from));
    Value::Object(endpoint)
}

/// The number of a protocol that has a name.
fn protocol(record: &Value) -> Option<u8> {
    Some(match text(record, "/protocol")? {
        "icmp" => 1,
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "icmpv6" => 58,
        "sctp" => 132,
        "udplite" => 136,
        _ => return None,
    })
}
