//! What is answered to one question, and whom it lets the skill reach.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hickory_resolver::proto::op::{Message, ResponseCode};
use skillsandbox_common::header::Reason;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    answer,
    bucket::Bucket,
    grants::Grants,
    question::{self, QUESTION_BYTES_MAX, Question, Unanswerable},
    upstream::{Reply, Upstream, absolute},
};
use crate::{
    audit::record::{Dns, Note},
    policy::advise_name,
};

/// Questions that are answered at a time. Others wait where the kernel keeps them.
const QUESTIONS_MAX: usize = 1024;
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(6);
/// Names below a wildcard that may be asked for at once, and how soon one more: each could carry a
/// message to whoever answers for the domain.
const NAMES_AT_ONCE: u32 = 256;
const NAMES_INTERVAL: Duration = Duration::from_millis(250);
/// Of these, those that are remembered: they may be asked for again.
const NAMES_KNOWN_MAX: usize = 4096;
/// Longest name below a wildcard, in bytes, and the labels that it may add.
const WILDCARD_BYTES_MAX: usize = 128;
const LABELS_MAX: usize = 10;

/// What every question needs.
pub(super) struct Desk {
    grants: Arc<Grants>,
    upstream: Upstream,
    tell: Box<dyn Fn(Note) + Send + Sync>,
    questions: Arc<Semaphore>,
    new_names: Mutex<NewNames>,
    /// Whether every question is passed on, because the policy is only audited.
    passes_all: bool,
}

/// Names below wildcards that were asked for.
struct NewNames {
    known: HashSet<String>,
    bucket: Bucket,
}

impl NewNames {
    fn may_ask(&mut self, name: &str) -> bool {
        if self.known.contains(name) {
            return true;
        }
        let may = self.bucket.take(Instant::now());
        if may && self.known.len() < NAMES_KNOWN_MAX {
            self.known.insert(name.to_owned());
        }
        may
    }
}

impl Desk {
    pub(super) fn new(
        grants: Arc<Grants>,
        upstream: Upstream,
        passes_all: bool,
        tell: impl Fn(Note) + Send + Sync + 'static,
    ) -> Self {
        Self {
            passes_all,
            grants,
            upstream,
            tell: Box::new(tell),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            new_names: Mutex::new(NewNames {
                known: HashSet::new(),
                bucket: Bucket::new(NAMES_AT_ONCE, NAMES_INTERVAL, Instant::now()),
            }),
        }
    }

    /// Waits for a turn.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.questions).acquire_owned().await.ok()
    }

    /// The answer, and the bytes that it may have over UDP.
    pub(super) async fn answer(
        &self,
        bytes: &[u8],
        transport: &'static str,
        asker: SocketAddr,
    ) -> Option<(Message, usize)> {
        if !asker.ip().is_loopback() {
            return None;
        }
        match question::read(bytes) {
            Ok(question) => {
                let message = self.decide(&question, transport).await;
                Some((message, question.udp_room()))
            }
            Err(unanswerable) => {
                let wrong = match unanswerable {
                    Unanswerable::Silence => None,
                    Unanswerable::Wrong(message) => Some((*message, QUESTION_BYTES_MAX)),
                };
                let code = match &wrong {
                    Some((message, _)) => mnemonic(message.metadata.response_code),
                    None => "none".to_owned(),
                };
                (self.tell)(Note::Dns(Dns::unreadable(transport, code)));
                wrong
            }
        }
    }

    /// Takes addresses back whose time has passed.
    pub(super) async fn expire(&self) {
        let (changes, outcome) = self.grants.expire(Instant::now());
        let addresses: Vec<_> = changes.iter().map(|change| change.address).collect();
        for change in changes {
            (self.tell)(Note::Address(change));
        }
        let settled = self.grants.settle(&addresses).await;
        if let Err(error) = outcome.and(settled) {
            tracing::error!(%error, "an address whose time has passed is still granted");
        }
    }

    async fn decide(&self, question: &Question, transport: &'static str) -> Message {
        let name = question.name();
        let record_type = question.record_type();
        let mut note = Dns::asked(name, record_type.to_string(), transport);
        let message = match self.refusal(question) {
            Err(reason) if self.passes_all => {
                note.would_deny(reason);
                note.advise(advise_name(reason, name));
                self.pass(question, &mut note).await
            }
            Err(reason) => {
                note.deny(reason);
                note.advise(advise_name(reason, name));
                question.answer(ResponseCode::Refused)
            }
            Ok(rule) => {
                note.rule = self.grants.stated(rule);
                self.ask(question, &mut note).await
            }
        };
        (self.tell)(Note::Dns(note));
        message
    }

    /// The rule that lets this question be passed on, or why none does.
    fn refusal(&self, question: &Question) -> Result<u16, Reason> {
        let name = question.name();
        let rule = self.grants.rule_of(name).ok_or(Reason::NoRule)?;
        if !question.is_of_the_internet() || !answer::is_asked_for(question.record_type()) {
            return Err(Reason::RecordType);
        }
        if !self.grants.is_stated(name) {
            if name.len() > WILDCARD_BYTES_MAX || name.split('.').count() > LABELS_MAX {
                return Err(Reason::NameTooLong);
            }
            let names = self.new_names.lock();
            if !names.unwrap_or_else(PoisonError::into_inner).may_ask(name) {
                return Err(Reason::TooManyNames);
            }
        }
        Ok(rule)
    }

    /// What the resolvers say.
    async fn reply(&self, question: &Question, note: &mut Dns) -> Option<Reply> {
        let asked = self.upstream.ask(question.name(), question.record_type());
        match timeout(PATIENCE, asked).await {
            Ok(Ok(reply)) => return Some(reply),
            Ok(Err(error)) => note.error = Some(error.to_string()),
            Err(_elapsed) => note.error = Some(format!("no answer in {} s", PATIENCE.as_secs())),
        }
        None
    }

    /// Passes a question on that no rule lets through, and the whole answer back. No address is granted by it.
    async fn pass(&self, question: &Question, note: &mut Dns) -> Message {
        let Some(reply) = self.reply(question, note).await else {
            return question.answer(ResponseCode::ServFail);
        };
        let addresses = reply
            .records
            .iter()
            .filter_map(|record| record.data.ip_addr());
        note.addresses = addresses.collect();
        note.code = mnemonic(reply.code);
        answer::message(question, reply.code, reply.records, reply.authority)
    }

    /// Passes a question on, and what is answered back.
    async fn ask(&self, question: &Question, note: &mut Dns) -> Message {
        let failed = question.answer(ResponseCode::ServFail);
        let Some(reply) = self.reply(question, note).await else {
            return failed;
        };
        let Ok(name) = absolute(question.name()) else {
            note.error = Some("it is no name".to_owned());
            return failed;
        };
        let trusted = reply.is_the_hosts;
        let whole = self.passes_all.then(|| reply.records.clone());
        let kept = answer::keep(&name, reply.records, |address| {
            trusted || self.grants.may_have(address)
        });
        note.refused.clone_from(&kept.refused);
        if kept.records.is_empty() && !kept.refused.is_empty() {
            note.advise(advise_name(Reason::PrivateAddress, question.name()));
            if whole.is_none() {
                note.deny(Reason::PrivateAddress);
                return question.answer(ResponseCode::Refused);
            }
            note.would_deny(Reason::PrivateAddress);
        }
        let (changes, outcome) =
            self.grants
                .grant(question.name(), &kept.addresses, Instant::now());
        for change in changes {
            (self.tell)(Note::Address(change));
        }
        let addresses: Vec<_> = kept.addresses.iter().map(|(address, _)| *address).collect();
        let settled = self.grants.settle(&addresses).await;
        if let Err(error) = outcome.and(settled) {
            note.error = Some(error.to_string());
            return failed;
        }
        note.addresses = addresses;
        note.code = mnemonic(reply.code);
        let records = whole.unwrap_or(kept.records);
        answer::message(question, reply.code, records, reply.authority)
    }
}

/// A code as resolvers show it (RFC 6895, section 2.3).
fn mnemonic(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => format!("RCODE{}", u16::from(other)),
    }
}
