use super::*;
use crate::audit::testing::about;

fn of(record: &Value) -> Value {
    super::record(&about("run-1"), record)
}

#[test]
fn a_denied_open_is_an_alert_with_its_rule_and_its_process() {
    let object = of(&json!({
        "v": 1, "time": "2026-01-01T00:00:05.123456789Z", "boot_ns": 5_123_456_789_u64, "sandbox": "s",
        "sequence": 3, "kind": "open", "verdict": "deny", "reason": "denied_by_rule",
        "rule": {"number": 7, "text": "filesystem.deny **/.ssh", "line": 9}, "permit": null, "remedy": "none",
        "pid": 12, "tgid": 11, "ppid": 10, "uid": 65534, "gid": 65534, "comm": "cat",
        "executable": "/usr/bin/cat", "path": "/home/u/.ssh/id_ed25519", "access": ["read"],
    }));
    let is = |pointer: &str, value: Value| {
        assert_eq!(object.pointer(pointer), Some(&value), "{pointer}");
    };
    is("/class_uid", 1001.into());
    is("/activity_id", 14.into());
    is("/type_uid", 100_114.into());
    is("/time", 1_767_225_605_123_i64.into());
    is("/action_id", 2.into());
    is("/disposition_id", 2.into());
    is("/status_id", 2.into());
    is("/is_alert", true.into());
    is(
        "/policy",
        json!({"uid": "7", "name": "filesystem.deny **/.ssh"}),
    );
    is(
        "/file",
        json!({"name": "id_ed25519", "path": "/home/u/.ssh/id_ed25519", "type_id": 0}),
    );
    is("/actor/process/pid", 11.into());
    is("/actor/process/tid", 12.into());
    is("/actor/process/file/name", "cat".into());
    is("/metadata/uid", "run-1:3".into());
    is("/unmapped/boot_ns", 5_123_456_789_u64.into());
    is("/unmapped/remedy", "none".into());
}

#[test]
fn what_was_lost_has_a_count_and_the_time_between() {
    let object = of(&json!({
        "v": 1, "time": "2026-01-01T00:00:05Z", "boot_ns": 5_000_000_000_u64, "sandbox": "s", "sequence": null,
        "kind": "lost", "from_boot_ns": 4_000_000_000_u64,
        "dropped": {"allowed": 3, "denied": 1, "processes": 0}, "undecodable": 0, "skipped": 0,
    }));
    assert_eq!(object["type_uid"], 99);
    assert_eq!(object["activity_name"], "lost");
    assert_eq!(object["count"], 4);
    assert_eq!(object["start_time"], 1_767_225_604_000_i64);
    assert_eq!(object["end_time"], 1_767_225_605_000_i64);
}

#[test]
fn a_refused_question_has_its_name_and_its_answer() {
    let object = of(&json!({
        "v": 1, "time": "2026-01-01T00:00:05Z", "boot_ns": 5_000_000_000_u64, "sandbox": "s", "sequence": null,
        "kind": "dns", "verdict": "deny", "reason": "no_rule", "rule": null, "name": "evil.example",
        "record_type": "A", "transport": "udp", "code": "REFUSED", "addresses": [], "refused": [], "error": null,
    }));
    assert_eq!(object["type_uid"], 400_306);
    assert_eq!(
        object["query"],
        json!({"hostname": "evil.example", "type": "A"})
    );
    assert_eq!(
        (&object["rcode_id"], &object["rcode"]),
        (&json!(5), &json!("REFUSED"))
    );
    assert_eq!(object["status_detail"], "no_rule");
}
