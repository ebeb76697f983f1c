//! What the sandbox's own name server has to say.

use std::net::IpAddr;

use serde::Serialize;
use skillsandbox_common::header::{Reason, Verdict};

use crate::{audit::code::Code, policy::Advice};

/// A question, and how it was answered.
#[derive(Clone, Debug, Serialize)]
pub struct Dns {
    /// Allow or deny.
    pub verdict: Code<Verdict>,
    /// Why.
    pub reason: Code<Reason>,
    /// The rule that covers the name, if one does.
    pub rule: Option<StatedRule>,
    /// A part of a manifest that lets this question through; null unless it was denied and one can.
    pub permit: Option<String>,
    /// What helps, in words, where a question was denied that no permission lets through.
    pub remedy: Option<String>,
    /// The name, in lower case; null where the message was not to be read.
    pub name: Option<String>,
    /// The type of the records that were asked for.
    pub record_type: Option<String>,
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// How it was answered: `NOERROR`, `REFUSED`, … .
    pub code: String,
    /// The addresses in the answer.
    pub addresses: Vec<IpAddr>,
    /// Addresses that were left out of it.
    pub refused: Vec<IpAddr>,
    /// Why it could not be answered.
    pub error: Option<String>,
}

/// A rule of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatedRule {
    /// Its number, from 1.
    pub number: u32,
    /// How it reads.
    pub text: String,
    /// Its line in the manifest.
    pub line: Option<usize>,
}

impl Dns {
    /// A question that a rule covers, until something else is found.
    #[must_use]
    pub fn asked(name: &str, record_type: String, transport: &'static str) -> Self {
        Self {
            verdict: Code::Known(Verdict::Allow),
            reason: Code::Known(Reason::Rule),
            rule: None,
            permit: None,
            remedy: None,
            name: Some(name.to_owned()),
            record_type: Some(record_type),
            transport,
            code: "SERVFAIL".to_owned(),
            addresses: Vec::new(),
            refused: Vec::new(),
            error: None,
        }
    }

    /// What was not to be read, and how it was answered.
    #[must_use]
    pub fn unreadable(transport: &'static str, code: String) -> Self {
        let mut unreadable = Self::asked("", String::new(), transport);
        unreadable.deny(Reason::Unreadable);
        unreadable.code = code;
        unreadable.name = None;
        unreadable.record_type = None;
        unreadable
    }

    /// It is refused.
    pub fn deny(&mut self, reason: Reason) {
        self.verdict = Code::Known(Verdict::Deny);
        self.reason = Code::Known(reason);
        "REFUSED".clone_into(&mut self.code);
    }

    /// It would be refused, and is answered: the policy is only audited.
    pub fn would_deny(&mut self, reason: Reason) {
        self.verdict = Code::Known(Verdict::WouldDeny);
        self.reason = Code::Known(reason);
    }

    /// Adds what would have let it through.
    pub fn advise(&mut self, advice: Advice) {
        match advice {
            Advice::Permit(line) => self.permit = Some(line),
            Advice::Remedy(words) => self.remedy = Some(words),
        }
    }

    /// Whether it was refused.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        self.verdict == Code::Known(Verdict::Deny)
    }
}

/// The rules on an address change.
#[derive(Clone, Debug, Serialize)]
pub struct AddressChange {
    /// How.
    pub change: Change,
    /// The name that has the address.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// How long it may be reached, in seconds; null where it may not any more.
    pub seconds: Option<u64>,
}

/// How the rules on an address change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It may be reached at the ports of the name.
    Granted,
    /// Nothing connects to it any more.
    Expired,
}
