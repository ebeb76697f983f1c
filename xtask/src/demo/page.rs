//! The page that the demo shows.

use std::fmt::Write;
use std::path::PathBuf;

use super::evidence::{Arrival, Evidence, Step};
use super::loot::{MARK, loot, printable};
use super::stop::{self, Stop};
use super::table::{Table, wrap};

const WIDTH: usize = 100;
const GOT: &str = "GOT";
const STOPPED: &str = "STOPPED";
const LEGEND: &str = "\
The layers and reasons are those of the run's records (docs/events.md). no_rule: no rule covers it.
not_granted: a rule covers the path or address, but not this use or port. refused: another layer
than eBPF refused. observed: no rule forbids it, seen as it failed. ENOENT: it does not exist in the
sandbox. EACCES: the kernel refused. An ebpf layer is an eBPF program.
";

/// A place in which the demo was played.
pub(super) struct Place {
    /// As it goes on after "tier fallback, ".
    pub(super) name: &'static str,
    pub(super) evidence: Evidence,
    /// Where the evidence is.
    pub(super) folder: PathBuf,
}

/// The whole page, at most [`WIDTH`] wide where the evidence allows it.
pub(super) fn page(places: &[Place], failures: &[String], host_only: bool) -> String {
    let mut page = String::new();
    heading(
        &mut page,
        "A weather skill that steals: each step, and what came of it",
    );
    page.push_str(&steps(places));
    page.push_str(LEGEND);
    heading(&mut page, "What its user saw: the weather, each time");
    for place in places {
        weather(&mut page, place);
    }
    heading(&mut page, "What the attacker received: its own log");
    let mut shown = Vec::new();
    for place in places {
        received(&mut page, place, &mut shown);
    }
    heading(&mut page, "All of it");
    for place in places {
        let _ = writeln!(page, "{}/", place.folder.display());
    }
    page.push_str("  alone.*      the stealer alone: outputs, steps, the attacker's log\n");
    page.push_str("  sandboxed.*  under SkillSandbox: the same, events.jsonl and trace.json\n");
    page.push_str("  honest.*     the honest skill under SkillSandbox\n");
    if host_only {
        page.push_str("No virtual machine was started, as --host-only asks.\n");
    }
    page.push('\n');
    conclusion(&mut page, places, failures);
    page
}

/// The page as a terminal shows it.
pub(super) fn colour(page: &str) -> String {
    let bold = |text: &str, colour| format!("\x1b[1;{colour}m{text}\x1b[0m");
    page.replace(STOPPED, &bold(STOPPED, 32))
        .replace(GOT, &bold(GOT, 31))
        .replace("EMPTY", &bold("EMPTY", 32))
        .replace("FAILED", &bold("FAILED", 31))
}

fn heading(page: &mut String, text: &str) {
    let _ = writeln!(page, "\n{text}\n{}", "=".repeat(text.len()));
}

fn steps(places: &[Place]) -> String {
    let Some(first) = places.first() else {
        return String::new();
    };
    let (what, alone, gaps) = (22, 16, 3 * (places.len() + 1));
    let under = (WIDTH - what - alone - gaps) / places.len();
    let widths: Vec<_> = [what, alone]
        .into_iter()
        .chain(places.iter().map(|_| under))
        .collect();
    let mut table = Table::new(&widths);
    let header = places.iter().map(|place| {
        let Evidence { record, kernel, .. } = &place.evidence;
        let tier = record.tier();
        format!(
            "under SkillSandbox\ntier {tier}, {}\nLinux {kernel}",
            place.name
        )
    });
    let first_cells = ["what it tried", "alone,\non this host"].map(str::to_owned);
    table.row(&first_cells.into_iter().chain(header).collect::<Vec<_>>());
    for step in &first.evidence.alone.steps {
        let under = places.iter().map(|place| sandboxed(step, &place.evidence));
        let cells = [label(step), alone_cell(step)].into_iter().chain(under);
        table.row(&cells.collect::<Vec<_>>());
    }
    table.text()
}

fn label(step: &Step) -> String {
    let address = || {
        let rest = step.target.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default().to_owned()
    };
    match step.aim() {
        ("environment", "own") => "read its own environment".to_owned(),
        ("environment", _) => "read the agent's environment in /proc".to_owned(),
        ("file", name) => format!("read the victim's ~/{name}"),
        ("http", _) => format!("post it to {}", address()),
        ("dns", _) => format!("hide it in a DNS query to {}", address()),
        ("program", "sh") => "have the shell run curl".to_owned(),
        ("program", name) => format!("have {name} post it"),
        (other, target) => format!("{other} {target}"),
    }
}

fn alone_cell(step: &Step) -> String {
    if step.got() {
        format!("{GOT} {}", gain(step))
    } else {
        format!("failed: {}", step.detail)
    }
}

/// What a successful step brought.
fn gain(step: &Step) -> String {
    match (step.kind.as_str(), step.detail.matches(MARK).count()) {
        ("environment" | "file", 1) => "1 secret".to_owned(),
        ("environment" | "file", count) => format!("{count} secrets"),
        _ => format!("through: {}", step.detail),
    }
}

/// What became of a step in the sandbox. The stealer can aim at one thing in two places, its own
/// home and the victim's.
fn sandboxed(tried: &Step, evidence: &Evidence) -> String {
    let steps = evidence.sandboxed.steps.iter();
    let same: Vec<_> = steps.filter(|step| step.aim() == tried.aim()).collect();
    let end = same
        .iter()
        .find_map(|step| stop::of(step, &evidence.record));
    let ending = end.map(|Stop { layer, why }| format!("by {layer}: {why}"));
    match same.iter().find(|step| step.got()) {
        Some(step) => {
            let names = step.detail.lines().filter_map(|line| line.split_once('='));
            let names: Vec<_> = names.map(|(name, _)| name).collect();
            let rest = ending.map(|ending| format!("\nthe rest {STOPPED} {ending}"));
            let names = names.join(", ");
            format!(
                "{GOT} {}, declared: {names}{}",
                gain(step),
                rest.unwrap_or_default()
            )
        }
        None if same.is_empty() => "not tried".to_owned(),
        None => match ending {
            Some(ending) => format!("{STOPPED} {ending}"),
            None => "failed, but no record says why".to_owned(),
        },
    }
}

fn weather(page: &mut String, place: &Place) {
    let Evidence {
        alone,
        sandboxed,
        honest,
        record,
        ..
    } = &place.evidence;
    let _ = writeln!(page, "tier {}, {}", record.tier(), place.name);
    for (name, act) in [
        ("the stealer alone", alone),
        ("the stealer under SkillSandbox", sandboxed),
        ("the honest skill under SkillSandbox", honest),
    ] {
        let _ = writeln!(page, "  {name:<36} {}", printable(act.stdout.trim_end()));
    }
}

fn received(page: &mut String, place: &Place, shown: &mut Vec<String>) {
    let evidence = &place.evidence;
    let _ = writeln!(page, "from the stealer alone, {}", place.name);
    for arrival in evidence.stolen.iter().filter(|got| !got.data.is_empty()) {
        let Arrival {
            protocol,
            from,
            data,
        } = arrival;
        let size = data.chars().count();
        let loot = loot(arrival);
        let again = if shown.contains(&loot) {
            ", the same again"
        } else {
            ""
        };
        let _ = writeln!(page, "  {protocol} from {from}, {size} bytes{again}");
        if again.is_empty() {
            for line in wrap(&loot, WIDTH - 4) {
                let _ = writeln!(page, "    {line}");
            }
            shown.push(loot);
        }
    }
    let size = evidence.leaked.len();
    let tier = evidence.record.tier();
    let empty = if size == 0 { "EMPTY, " } else { "" };
    let _ = writeln!(
        page,
        "from the stealer under SkillSandbox, tier {tier}, {}\n  {empty}{size} bytes",
        place.name
    );
    for line in wrap(&printable(&evidence.leaked), WIDTH - 4) {
        let _ = writeln!(page, "    {line}");
    }
    if evidence.late().next().is_none() {
        page.push_str(
            "  (it did listen: test messages that the demo sent afterwards are logged)\n",
        );
    }
}

fn conclusion(page: &mut String, places: &[Place], failures: &[String]) {
    if failures.is_empty() {
        let tiers: Vec<_> = places
            .iter()
            .map(|place| place.evidence.record.tier())
            .collect();
        let tiers = tiers.join(" and ");
        let _ = writeln!(
            page,
            "The weather was the same each time. Alone, the stealer sent every secret to the \
             attacker;\nunder SkillSandbox (tier {tiers}), nothing."
        );
        return;
    }
    for failure in failures {
        let _ = writeln!(page, "FAILED {failure}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::evidence::{Act, Record, lines};
    use crate::demo::verdict;

    const ALONE: &str = r#"{"step": "environment", "target": "own", "outcome": "got", "detail": "GITHUB_TOKEN=DEMO-FAKE-github-token"}
{"step": "http", "target": "http://127.0.0.1:18666/collect", "outcome": "got", "detail": "answer 200"}"#;
    const SANDBOXED: &str = r#"{"step": "environment", "target": "own", "outcome": "failed", "detail": "nothing"}
{"step": "http", "target": "http://127.0.0.1:18666/collect", "outcome": "failed", "detail": "PermissionError: [Errno 1] …"}"#;
    const EVENTS: &str = r#"{"kind": "start", "tier": "fallback", "layers": [{"name": "ebpf connect4", "achieved": true}]}
{"kind": "environment", "withheld": ["GITHUB_TOKEN"]}
{"kind": "connect", "verdict": "deny", "reason": "no_rule", "address": "127.0.0.1", "port": 18666, "uid": 7}
{"kind": "end", "balanced": true}"#;
    const PROBED: &str = r#"{"protocol": "tcp", "from": "127.0.0.1:9", "data": ""}
{"protocol": "tcp", "from": "127.0.0.1:9", "data": "a test message of the demo itself\r\n\r\n"}"#;

    fn place(change: impl FnOnce(&mut Evidence)) -> Place {
        let act = |stderr| Act::of("exit status: 0".into(), "18 degrees\n".into(), stderr);
        let stolen: Vec<_> = super::super::stage::secrets().collect();
        let stolen = serde_json::json!({"protocol": "udp", "from": "x", "data": stolen.join("\n")});
        let mut evidence = Evidence {
            kernel: "6.12".to_owned(),
            uid: 7,
            alone: act(ALONE),
            sandboxed: act(SANDBOXED),
            honest: act(""),
            stolen: lines(&stolen.to_string()).unwrap(),
            leaked: String::new(),
            probed: lines(PROBED).unwrap(),
            record: Record(lines(EVENTS).unwrap()),
        };
        change(&mut evidence);
        Place {
            name: "here",
            evidence,
            folder: "/evidence".into(),
        }
    }

    fn failures(change: impl FnOnce(&mut Evidence)) -> String {
        verdict::failures(&[place(change)]).join("\n")
    }

    #[test]
    fn a_row_says_what_was_got_alone_and_what_stopped_it() {
        let page = page(&[place(|_| {})], &[], true);
        let row = page.lines().find(|line| line.starts_with("post it"));
        let cells: Vec<_> = row.unwrap().split('|').map(str::trim).collect();
        assert_eq!(
            cells,
            [
                "post it to",
                "GOT through:",
                "STOPPED by ebpf connect4: no_rule"
            ]
        );
        assert!(page.contains("EMPTY, 0 bytes"));
        assert!(
            page.lines().all(|line| line.chars().count() <= WIDTH),
            "{page}"
        );
    }

    #[test]
    fn all_is_well_when_the_theft_works_alone_and_leaves_no_trace_in_the_sandbox() {
        assert_eq!(failures(|_| {}), "");
    }

    #[test]
    fn an_attack_that_does_not_work_fails_the_demo() {
        assert!(failures(|evidence| evidence.stolen.clear()).contains("did not reach"));
        let broken = failures(|evidence| evidence.alone.steps.clear());
        assert!(broken.contains("reported no step"), "{broken}");
    }

    #[test]
    fn a_byte_at_the_attacker_fails_the_demo() {
        assert!(failures(|evidence| evidence.leaked.push('x')).contains("1 bytes of log"));
        let late = r#"{"protocol": "tcp", "from": "127.0.0.1:8", "data": ""}"#;
        let late = failures(|evidence| evidence.probed.extend(lines(late).unwrap()));
        assert!(late.contains("127.0.0.1:8 reached"), "{late}");
    }

    #[test]
    fn a_step_that_was_not_tried_or_not_recorded_fails_the_demo() {
        let untried = failures(|evidence| evidence.sandboxed.steps.clear());
        assert!(untried.contains("never tried"), "{untried}");
        let unrecorded = failures(|evidence| {
            evidence.record.0.retain(|event| event.kind != "connect");
        });
        assert!(unrecorded.contains("no record says"), "{unrecorded}");
    }

    #[test]
    fn another_weather_fails_the_demo() {
        let other = failures(|evidence| evidence.honest.stdout = "19 degrees\n".to_owned());
        assert!(
            other.contains("the honest skill told another weather"),
            "{other}"
        );
    }

    #[test]
    fn a_secret_in_the_sandbox_fails_the_demo() {
        let got = failures(|evidence| {
            evidence.sandboxed.steps[0].outcome = "got".to_owned();
            evidence.sandboxed.steps[0].detail = "DEMO-FAKE-github-token".to_owned();
        });
        assert!(got.contains("got DEMO-FAKE-github-token"), "{got}");
    }
}
