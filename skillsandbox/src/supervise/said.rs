//! What the records say of a run as a whole.

use super::{life::Life, sandbox::Tier};
use crate::{
    audit::{
        clock::{Clock, Time},
        describe::RuleText,
        record::{self, Ending, Layer, Start},
        store::{About, FORMAT},
        trace::TraceInfo,
    },
    isolate::report::{Ended, LayerReport, Status},
    manifest::Skill,
    policy::RuleSet,
};

impl Life<'_> {
    pub(super) fn start(&self, layers: Vec<Layer>) -> Start {
        Start {
            skill_name: self.request.manifest.skill.name.clone(),
            skill_version: self.request.manifest.skill.version.clone(),
            program: self.plan.program.path.to_string_lossy().into_owned(),
            tier: self.sandbox.tier.as_str().to_owned(),
            layers,
        }
    }

    pub(super) fn about(&self, clock: Clock, started: Time) -> About {
        about(
            self.sandbox.id(),
            &self.request.manifest.skill,
            &self.sandbox.tier,
            &self.plan.rules,
            (clock, started),
        )
    }

    pub(super) fn environment(&self) -> record::Environment {
        let environment = &self.plan.environment;
        record::Environment {
            passed: environment.passed.clone(),
            set: self.plan.set.clone(),
            withheld: environment.withheld.clone(),
        }
    }

    pub(super) fn trace_info(&self, layers: &[Layer], clock: Clock) -> TraceInfo {
        TraceInfo {
            trace_id: self.sandbox.id().to_owned(),
            sandbox: self.sandbox.id().to_owned(),
            skill_name: self.request.manifest.skill.name.clone(),
            skill_version: self.request.manifest.skill.version.clone(),
            started: clock.time(Clock::boot_ns()),
            tier: self.sandbox.tier.as_str().to_owned(),
            layers: layers.to_vec(),
            environment: self.environment(),
        }
    }
}

pub(super) fn ending_of(ended: Ended) -> Ending {
    match ended {
        Ended::Code(code) => Ending::from_wait_status((code & 0xff) << 8),
        Ended::Signal(number) => Ending::from_wait_status(number & 0x7f),
    }
}

pub(super) fn layer(report: &LayerReport) -> Layer {
    Layer {
        name: format!("{:?}", report.layer).to_lowercase(),
        achieved: report.status == Status::Enforced,
        detail: Some(match report.status {
            Status::Partial => format!("in part: {}", report.detail),
            _ => report.detail.clone(),
        }),
    }
}

/// What the log of a run says of it.
pub(super) fn about(
    sandbox: &str,
    skill: &Skill,
    tier: &Tier,
    rules: &RuleSet,
    (clock, started): (Clock, Time),
) -> About {
    // `2026-11-27T18:00:00.123…` up to the millisecond, without what parts of names elsewhere are
    // told apart by. Names are in the order of beginnings.
    let moment: String = started.to_string().chars().take(23).collect();
    let moment = moment.replace(['-', ':', '.'], "");
    let host = rustix::system::uname();
    About {
        format: FORMAT,
        run: format!("{moment}Z-{sandbox}"),
        sandbox: sandbox.to_owned(),
        skill_name: skill.name.clone(),
        skill_version: skill.version.clone(),
        host: host.nodename().to_string_lossy().into_owned(),
        tier: tier.as_str().to_owned(),
        lasts_for_boot: None,
        booted_unix_ns: clock.offset(),
        rules: rules.rules().iter().map(RuleText::of).collect(),
    }
}
