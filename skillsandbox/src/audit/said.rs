//! [`Said`]: what userspace says of an event at the time that it is recorded.

use std::borrow::Cow;

use skillsandbox_common::header::{EventPrefix, Reason, Verdict};

use super::code::Code;
use crate::policy::Advice;

/// What cannot be said again later, or not without the host as it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said<'a> {
    /// Allow or deny.
    pub verdict: Code<Verdict>,
    /// Why.
    pub reason: Code<Reason>,
    /// Number of the rule that decided; 0 is none.
    pub rule: u32,
    /// The declared name that the address had.
    pub host: Option<Cow<'a, str>>,
    /// A part of a manifest that lets this access through.
    pub permit: Option<Cow<'a, str>>,
    /// What helps, in words.
    pub remedy: Option<Cow<'a, str>>,
}

impl Default for Said<'_> {
    /// Of what nothing is decided on: a fork, an exit.
    fn default() -> Self {
        Self {
            verdict: Code::Known(Verdict::Allow),
            reason: Code::Known(Reason::Rule),
            rule: 0,
            host: None,
            permit: None,
            remedy: None,
        }
    }
}

impl Said<'_> {
    /// What the kernel side decided.
    pub(super) fn of(prefix: &EventPrefix) -> Self {
        Self {
            verdict: Code::verdict(prefix.header.verdict),
            reason: Code::reason(prefix.header.reason),
            rule: prefix.actor.rule,
            ..Self::default()
        }
    }

    /// Whether nothing was denied.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.verdict == Code::Known(Verdict::Allow)
    }

    /// Whether an access was denied.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        self.verdict == Code::Known(Verdict::Deny)
    }

    /// The reason of a denial, or of what would be one, where this version knows it.
    pub(super) fn denial(&self) -> Option<Reason> {
        match (self.verdict, self.reason) {
            (Code::Known(Verdict::Deny | Verdict::WouldDeny), Code::Known(reason)) => Some(reason),
            _ => None,
        }
    }

    /// Adds what would have let the access through.
    pub(super) fn advise(&mut self, advice: Advice) {
        match advice {
            Advice::Permit(line) => self.permit = Some(line.into()),
            Advice::Remedy(words) => self.remedy = Some(words.into()),
        }
    }
}
