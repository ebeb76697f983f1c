//! The page that the demo shows.

use std::fmt::Write;
use std::path::PathBuf;

use super::evidence::{Arrival, Evidence, Step};
use super::stop::{self, Stop};
use super::table::{Table, wrap};

const WIDTH: usize = 100;
/// The mark of every secret of the made-up victim.
const MARK: &str = "DEMO-FAKE";
const GOT: &str = "GOT";
const STOPPED: &str = "STOPPED";

/// A place in which the demo was played.
pub(super) struct Place {
    /// As it goes on after "tier fallback".
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
    heading(&mut page, "What its user saw: the weather, each time");
    for place in places {
        weather(&mut page, place);
    }
    heading(&mut page, "What the attacker received: its own log");
    for place in places {
        received(&mut page, place);
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
    let first_cells = ["what it tried", "alone"].map(str::to_owned);
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
    let stop = same
        .iter()
        .find_map(|step| stop::of(step, &evidence.record));
    let ending = stop.map(|Stop { layer, why }| format!("by {layer}: {why}"));
    match same.iter().find(|step| step.got()) {
        Some(step) => {
            let names = step.detail.lines().filter_map(|line| line.split_once('='));
            let names: Vec<_> = names.map(|(name, _)| name).collect();
            let rest = ending.map(|ending| format!("\nthe rest {STOPPED} {ending}"));
            let names = names.join(", ");
            format!("{GOT} {} {names}{}", gain(step), rest.unwrap_or_default())
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

fn received(page: &mut String, place: &Place) {
    let evidence = &place.evidence;
    let _ = writeln!(page, "from the stealer alone, {}", place.name);
    let mut shown: Vec<String> = Vec::new();
    for arrival in evidence.stolen.iter().filter(|got| !got.data.is_empty()) {
        let Arrival {
            protocol,
            from,
            data,
        } = arrival;
        let size = data.chars().count();
        let loot = loot(data);
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

/// What is worth seeing of what arrived: the secrets, else the beginning.
fn loot(data: &str) -> String {
    let secrets: Vec<_> = data.lines().filter(|line| line.contains(MARK)).collect();
    if secrets.is_empty() {
        let beginning: String = printable(data).chars().take(70).collect();
        format!("{beginning}…")
    } else {
        let lines: Vec<_> = secrets.into_iter().map(printable).collect();
        lines.join("\n")
    }
}

/// The text without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '\n' | ' '..='~' => letter,
            _ => '.',
        })
        .collect()
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
