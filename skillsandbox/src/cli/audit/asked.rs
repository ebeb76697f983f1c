//! The options by which records are asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use clap::{Args, ValueEnum};
use globset::GlobMatcher;
use serde_json::Value;

use super::read::{Records, Which};
use crate::{
    audit::{
        query::{Filter, List, Moment, Process, RuleIs, Stats, glob, path_glob},
        store::{About, Store},
    },
    manifest::Cidr,
};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Verdict {
    Allow,
    Deny,
    /// Where a policy is only audited: what it would have denied.
    #[value(name = "would_deny", alias = "would-deny")]
    WouldDeny,
}

/// Which records.
#[derive(Args, Debug)]
pub(super) struct Asked {
    /// Of this run: its name, that of its sandbox, `last`, or `last-1` for the one before.
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Of runs of this skill.
    #[arg(long, value_name = "PATTERN", value_parser = glob)]
    skill: Option<GlobMatcher>,
    /// Of runs of the sandbox whose id, or of the attached cgroup whose name is like this.
    #[arg(long, value_name = "PATTERN", value_parser = glob)]
    sandbox: Option<GlobMatcher>,
    /// At this time or later.
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Of what was allowed, or denied.
    #[arg(long, value_enum)]
    verdict: Option<Verdict>,
    /// Of these kinds: open, exec, connect, dns, … as docs/events.md has them.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<String>,
    /// About a file or unix socket whose path is like this. Can be given more than once, as those below.
    #[arg(long, value_name = "PATTERN", value_parser = path_glob)]
    path: Vec<GlobMatcher>,
    /// About an address of this network: 203.0.113.0/24.
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    addr: Vec<Cidr>,
    /// About a host whose name is like this.
    #[arg(long, value_name = "PATTERN", value_parser = glob)]
    name: Vec<GlobMatcher>,
    /// Of the process of this id, or whose program's path or name is like this.
    #[arg(long, value_name = "ID|PATTERN")]
    process: Option<Process>,
    /// Decided by the rule of this number, or whose text is like this.
    #[arg(long, value_name = "NUMBER|PATTERN")]
    rule: Option<RuleIs>,
}

fn cidr(text: &str) -> Result<Cidr, String> {
    text.parse().map_err(|refusal| format!("{refusal:?}"))
}

impl Asked {
    fn filter(&self) -> Filter {
        Filter {
            since: self.since,
            until: self.until,
            verdict: self.verdict.map(|verdict| match verdict {
                Verdict::Allow => "allow".to_owned(),
                Verdict::Deny => "deny".to_owned(),
                Verdict::WouldDeny => "would_deny".to_owned(),
            }),
            kinds: self.kind.clone(),
            paths: self.path.clone(),
            addresses: self.addr.clone(),
            names: self.name.clone(),
            process: self.process.clone(),
            rule: self.rule.clone(),
        }
    }

    /// Hands out the records that are asked for, with what is known of their run and as they were written
    /// out.
    /// Tells what was lost when they were recorded; an exit code is one for what could not be read.
    pub(super) fn each(
        &self,
        store: &Store,
        mut take: impl FnMut(&About, &Value, &[u8]) -> io::Result<()>,
    ) -> anyhow::Result<Option<u8>> {
        let ((), unread) =
            self.ask(store, None, |records, which| records.each(which, &mut take))?;
        Ok(unread)
    }

    /// The same, and of logs no more than these bytes. Says which runs were taken from logs: the others were sealed, and taken
    /// whole.
    pub(super) fn each_within(
        &self,
        store: &Store,
        lengths: &BTreeMap<String, u64>,
        mut take: impl FnMut(&About, &Value, &[u8]) -> io::Result<()>,
    ) -> anyhow::Result<(BTreeSet<String>, Option<u8>)> {
        self.ask(store, Some(lengths), |records, which| {
            records.each(which, &mut take)?;
            Ok(records.not_sealed().clone())
        })
    }

    /// Counts the records that are asked for.
    pub(super) fn tally(
        &self,
        store: &Store,
        lists: &[List],
    ) -> anyhow::Result<(Stats, Option<u8>)> {
        self.ask(store, None, |records, which| records.tally(which, lists))
    }

    fn ask<T>(
        &self,
        store: &Store,
        lengths: Option<&BTreeMap<String, u64>>,
        question: impl FnOnce(&mut Records<'_>, &Which<'_>) -> io::Result<T>,
    ) -> anyhow::Result<(T, Option<u8>)> {
        let mut records = Records::of(store)?;
        let one = self.one(&records)?;
        let which = Which {
            filter: &self.filter(),
            run: one.as_deref(),
            wanted: &self.wanted(),
            lengths,
        };
        let answer = question(&mut records, &which)?;
        records.warn_of_losses();
        Ok((answer, records.code()))
    }

    /// Whether a record is asked for, of whichever run.
    pub(super) fn is(&self, about: &About, record: &Value) -> bool {
        (self.wanted())(about) && self.filter().matches(record)
    }

    /// The one run that is asked for.
    fn one(&self, records: &Records<'_>) -> anyhow::Result<Option<String>> {
        self.run
            .as_deref()
            .map(|meant| records.find(meant))
            .transpose()
    }

    /// Which runs are asked for.
    fn wanted(&self) -> impl Fn(&About) -> bool + Sync {
        |about| {
            let is = |wanted: &Option<GlobMatcher>, text: &str| {
                wanted.as_ref().is_none_or(|wanted| wanted.is_match(text))
            };
            is(&self.skill, &about.skill_name) && is(&self.sandbox, &about.sandbox)
        }
    }
}
