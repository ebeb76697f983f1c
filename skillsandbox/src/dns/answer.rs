//! What of an answer is passed on.

use std::{collections::BTreeSet, net::IpAddr};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{SVCB, svcb::SvcParamValue},
    },
};

use super::question::Question;

/// Most records of an answer that are looked at.
const RECORDS_MAX: usize = 256;
/// Longest time that an answer is worth, in seconds: as long as its addresses are granted.
const TTL_MAX: u32 = 3600;

/// Types of records that a host's name is asked for.
pub(super) fn is_asked_for(kind: RecordType) -> bool {
    matches!(
        kind,
        RecordType::A | RecordType::AAAA | RecordType::CNAME | RecordType::HTTPS | RecordType::SVCB
    )
}

/// The part of an answer that is passed on.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The records.
    pub(super) records: Vec<Record>,
    /// Every address in them, with the seconds that it is worth.
    pub(super) addresses: Vec<(IpAddr, u32)>,
    /// Addresses of records that are left out.
    pub(super) refused: Vec<IpAddr>,
}

/// Keeps the records that answer for `name`, or for what it is an alias of, and have only addresses
/// that `may_have` lets a name have.
pub(super) fn keep(
    name: &Name,
    records: impl IntoIterator<Item = Record>,
    may_have: impl Fn(IpAddr) -> bool,
) -> Kept {
    let records: Vec<Record> = records.into_iter().take(RECORDS_MAX).collect();
    let owners = aliases(name, &records);
    let mut kept = Kept::default();
    for mut record in records {
        if !owners.contains(&record.name) || !is_asked_for(record.record_type()) {
            continue;
        }
        record.ttl = record.ttl.min(TTL_MAX);
        let addresses = addresses_of(&record.data);
        let refused: Vec<IpAddr> = addresses
            .iter()
            .copied()
            .filter(|address| !may_have(*address))
            .collect();
        if refused.is_empty() {
            let granted = addresses.into_iter().map(|address| (address, record.ttl));
            kept.addresses.extend(granted);
            kept.records.push(record);
        } else {
            kept.refused.extend(refused);
        }
    }
    kept
}

/// The name, and those that it is an alias of. Names compare without regard to case.
fn aliases(name: &Name, records: &[Record]) -> BTreeSet<Name> {
    let mut owners = BTreeSet::from([name.clone()]);
    // Each round finds one name more, or is the last.
    while let Some(target) = records.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if owners.contains(&record.name) && !owners.contains(&target.0) => {
            Some(target.0.clone())
        }
        _ => None,
    }) {
        owners.insert(target);
    }
    owners
}

fn addresses_of(data: &RData) -> Vec<IpAddr> {
    match data {
        RData::A(address) => vec![IpAddr::V4(address.0)],
        RData::AAAA(address) => vec![IpAddr::V6(address.0).to_canonical()],
        RData::HTTPS(service) => hints(&service.0),
        RData::SVCB(service) => hints(service),
        _ => Vec::new(),
    }
}

/// The addresses that a service says it may be reached at (RFC 9460, section 7.3).
fn hints(service: &SVCB) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (_, value) in &service.svc_params {
        match value {
            SvcParamValue::Ipv4Hint(hint) => {
                addresses.extend(hint.0.iter().map(|address| IpAddr::V4(address.0)));
            }
            SvcParamValue::Ipv6Hint(hint) => {
                let canonical = |address: std::net::Ipv6Addr| IpAddr::V6(address).to_canonical();
                addresses.extend(hint.0.iter().map(|address| canonical(address.0)));
            }
            _ => {}
        }
    }
    addresses
}

/// The message, which says that it was cut where the records are too many for `room` bytes.
pub(super) fn message(
    question: &Question,
    code: ResponseCode,
    records: Vec<Record>,
    authority: Option<Record>,
) -> Message {
    let mut message = question.answer(code);
    message.add_answers(records);
    message.add_authorities(authority);
    message
}

/// The bytes of a message, cut to none of its records where they are more than `room`.
pub(super) fn bytes(message: &Message, room: usize) -> Option<Vec<u8>> {
    let bytes = message.to_vec().ok()?;
    if bytes.len() <= room {
        return Some(bytes);
    }
    message.truncate().to_vec().ok()
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, str::FromStr};

    use hickory_resolver::proto::{
        op::Query,
        rr::rdata::{A, CNAME, TXT},
    };

    use super::*;
    use crate::dns::question;

    fn name(text: &str) -> Name {
        Name::from_str(text).unwrap()
    }

    fn address(owner: &str, last: u8) -> Record {
        let data = RData::A(A(Ipv4Addr::new(192, 0, 2, last)));
        Record::from_rdata(name(owner), 7200, data)
    }

    fn alias(owner: &str, target: &str) -> Record {
        Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
    }

    fn last(kept: &Kept) -> Vec<u8> {
        let octets = |address: &IpAddr| match address {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(_) => 0,
        };
        kept.addresses
            .iter()
            .map(|(address, _)| octets(address))
            .collect()
    }

    #[test]
    fn what_the_name_is_an_alias_of_is_kept_and_what_others_have_is_not() {
        let records = [
            address("c.", 1),
            alias("B.", "c."),
            alias("a.", "b."),
            address("d.", 2),
            Record::from_rdata(name("a."), 1, RData::TXT(TXT::new(vec!["x".to_owned()]))),
        ];
        let kept = keep(&name("A."), records, |_| true);
        assert_eq!(kept.records.len(), 3);
        assert_eq!(last(&kept), [1]);
        assert_eq!(kept.addresses[0].1, 3600, "no longer than it is granted");
    }

    #[test]
    fn aliases_in_a_circle_end() {
        let records = [alias("a.", "b."), alias("b.", "a."), address("b.", 1)];
        assert_eq!(last(&keep(&name("a."), records, |_| true)), [1]);
    }

    #[test]
    fn a_record_with_an_address_that_a_name_may_not_have_is_left_out() {
        let records = [address("a.", 1), address("a.", 2)];
        let first = IpAddr::from([192, 0, 2, 1]);
        let kept = keep(&name("a."), records, |address| address != first);
        assert_eq!(last(&kept), [2]);
        assert_eq!(kept.refused, [first]);
        assert_eq!(kept.records.len(), 1);
    }

    #[test]
    fn an_answer_without_room_says_that_it_was_cut() {
        let mut asked = Message::query();
        asked.add_query(Query::query(name("a."), RecordType::A));
        let question = question::read(&asked.to_vec().unwrap()).unwrap();
        let records: Vec<Record> = (0..100).map(|last| address("a.", last)).collect();
        let whole = message(&question, ResponseCode::NoError, records, None);
        let cut = bytes(&whole, 512).unwrap();
        assert!(cut.len() <= 512);
        let cut = Message::from_vec(&cut).unwrap();
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        assert_eq!(cut.queries.len(), 1);
        let all = Message::from_vec(&bytes(&whole, 65_535).unwrap()).unwrap();
        assert_eq!(all.answers.len(), 100);
    }
}
