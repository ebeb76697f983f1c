//! What must hold for the demo to have shown anything.

use super::evidence::{Evidence, Step};
use super::page::Place;
use super::stage::{DECLARED, PASSED_ON, secrets};
use super::stop;

/// What does not hold, in each place.
pub(super) fn failures(places: &[Place]) -> Vec<String> {
    let failures = places.iter().flat_map(|place| {
        let failures = of_the_attack(&place.evidence)
            .into_iter()
            .chain(of_the_sandbox(&place.evidence))
            .chain(of_the_service(&place.evidence));
        failures.map(|failure| format!("{}: {failure}", place.name))
    });
    let mut failures: Vec<_> = failures.collect();
    // The machine is there for the kernel tier.
    for place in places.iter().skip(1) {
        let tier = place.evidence.record.tier();
        if tier != "kernel" {
            failures.push(format!("{}: the tier is {tier}", place.name));
        }
    }
    failures
}

/// An attack that does not work proves nothing.
fn of_the_attack(evidence: &Evidence) -> Vec<String> {
    let mut failures = Vec::new();
    for step in evidence.alone.steps.iter().filter(|step| !step.got()) {
        failures.push(format!(
            "alone, the stealer's step \"{} {}\" failed: {}",
            step.kind, step.target, step.detail
        ));
    }
    if evidence.alone.steps.is_empty() {
        failures.push("alone, the stealer reported no step".to_owned());
    }
    for secret in secrets() {
        let mut arrivals = evidence.stolen.iter();
        if !arrivals.any(|arrival| arrival.data.contains(secret)) {
            failures.push(format!("alone, {secret} did not reach the attacker"));
        }
    }
    if !evidence.stolen.iter().any(|got| got.protocol == "udp") {
        failures.push("alone, nothing reached the attacker's DNS port".to_owned());
    }
    failures
}

fn of_the_sandbox(evidence: &Evidence) -> Vec<String> {
    let mut failures = Vec::new();
    if !evidence.leaked.is_empty() {
        let bytes = evidence.leaked.len();
        failures.push(format!(
            "{bytes} bytes of log: something reached the attacker"
        ));
    }
    if let Some(late) = evidence.late().next() {
        failures.push(format!("{} reached the attacker late", late.from));
    }
    let steps = &evidence.sandboxed.steps;
    for tried in &evidence.alone.steps {
        let same = |step: &&Step| step.aim() == tried.aim();
        if !steps.iter().any(|step| same(&step)) {
            failures.push(format!(
                "under SkillSandbox, the stealer never tried \"{} {}\"",
                tried.kind, tried.target
            ));
        }
    }
    let declared = PASSED_ON.iter().find(|(name, _)| *name == DECLARED);
    let forbidden = || secrets().filter(|secret| declared.is_none_or(|(_, own)| own != secret));
    for step in steps.iter().filter(|step| step.got()) {
        for secret in forbidden().filter(|secret| step.detail.contains(secret)) {
            failures.push(format!("under SkillSandbox, the stealer got {secret}"));
        }
        if !["environment", "file"].contains(&step.kind.as_str()) {
            failures.push(format!(
                "under SkillSandbox, \"{} {}\" got through: {}",
                step.kind, step.target, step.detail
            ));
        }
    }
    for step in evidence
        .alone
        .steps
        .iter()
        .filter(|step| is_unexplained(step, evidence))
    {
        failures.push(format!(
            "no record says what stopped \"{} {}\"",
            step.kind, step.target
        ));
    }
    let of_skill = evidence.record.0.iter().filter_map(|event| event.uid);
    if let Some(uid) = of_skill.into_iter().find(|uid| *uid != evidence.uid) {
        failures.push(format!("the skill ran as user {uid}, not {}", evidence.uid));
    }
    let end = evidence.record.0.iter().find_map(|event| event.balanced);
    if end != Some(true) {
        failures.push("the record of the run is not complete".to_owned());
    }
    failures
}

fn is_unexplained(tried: &Step, evidence: &Evidence) -> bool {
    let aim = tried.aim();
    let steps = evidence.sandboxed.steps.iter();
    let mut same = steps.filter(|step| step.aim() == aim);
    !same.any(|step| stop::of(step, &evidence.record).is_some())
}

/// A sandbox in which nothing works stops every attack.
fn of_the_service(evidence: &Evidence) -> Vec<String> {
    let mut failures = Vec::new();
    let weather = &evidence.alone.stdout;
    if weather.is_empty() {
        failures.push("alone, the stealer told no weather".to_owned());
    }
    for (name, act) in [
        ("the stealer alone", &evidence.alone),
        ("the stealer under SkillSandbox", &evidence.sandboxed),
        ("the honest skill", &evidence.honest),
    ] {
        if act.stdout != *weather {
            failures.push(format!("{name} told another weather: {:?}", act.stdout));
        }
        if act.status != "exit status: 0" {
            let messages = act.messages.join("; ");
            failures.push(format!("{name} ended with {}: {messages}", act.status));
        }
    }
    failures
}
