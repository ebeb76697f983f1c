//! A row of a record that was written out.

use std::borrow::Cow;

use serde_json::Value;

use super::columns::Row;
use crate::audit::{
    bits::OpenFlags,
    field::{number, text},
    store::About,
};

impl<'a> Row<'a> {
    /// The row of a record in JSON, which is this line.
    pub(super) fn of_json(about: &'a About, record: &'a Value, line: &'a [u8]) -> Option<Self> {
        if record.get("sequence")?.is_null() {
            return Self::of_note(about, line);
        }
        let of = |name: &str| text(record, name).map(Cow::Borrowed);
        let whole = |name: &str| number(record, name);
        let unsigned = |name: &str| whole(name)?.try_into().ok();
        let signed = |name: &str| record.pointer(name)?.as_i64()?.try_into().ok();
        let names = |name: &str| {
            let list = record.pointer(name)?.as_array()?;
            Some(list.iter().filter_map(Value::as_str))
        };
        let booted = about.booted_unix_ns;
        let since_boot = i128::from(whole("/boot_ns")?);
        // Of one kind it is a number.
        let protocol = || Some(Cow::Owned(whole("/protocol")?.to_string()));
        Some(Self {
            time: i64::try_from(booted + since_boot).ok(),
            sequence: whole("/sequence"),
            kind: of("/kind"),
            verdict: of("/verdict"),
            reason: of("/reason"),
            rule: unsigned("/rule/number"),
            rule_text: of("/rule/text"),
            rule_line: unsigned("/rule/line"),
            permit: of("/permit"),
            remedy: of("/remedy"),
            pid: unsigned("/pid"),
            tgid: unsigned("/tgid"),
            ppid: unsigned("/ppid"),
            uid: unsigned("/uid"),
            gid: unsigned("/gid"),
            comm: of("/comm"),
            executable: of("/executable"),
            executable_source: of("/executable_source"),
            access: names("/access").map(|names| Cow::Owned(names.collect::<Vec<_>>().join("+"))),
            path: of("/path"),
            path_bytes: text(record, "/path_bytes").and_then(bytes).map(Cow::Owned),
            path_source: of("/path_source"),
            directory: signed("/directory"),
            open_flags: names("/open_flags")
                .and_then(OpenFlags::parse)
                .map(|flags| flags.0),
            result: signed("/result"),
            error: of("/error"),
            address: of("/address"),
            port: whole("/port").and_then(|port| port.try_into().ok()),
            family: of("/family"),
            protocol: of("/protocol").or_else(protocol),
            socket_type: of("/socket_type"),
            name: of("/name"),
            is_abstract: record.get("abstract").and_then(Value::as_bool),
            target: unsigned("/target"),
            mode: unsigned("/mode"),
            child: unsigned("/child"),
            exit_code: signed("/exit_code"),
            signal: signed("/signal"),
            signal_name: of("/signal_name"),
            ..Self::of_run(about)
        })
    }
}

/// What two hexadecimal digits a byte stand for.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect()
}
