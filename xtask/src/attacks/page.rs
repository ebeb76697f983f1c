//! `docs/attacks.md`, from what was run and nothing else.

use std::fmt::Write;
use std::process::Command;

use anyhow::{Context, Result};

use super::place::{Attack, Place};
use crate::process;

/// The choices of layers, by the names that the tests give them, and what the page calls them.
const COLUMNS: [(&str, &str); 9] = [
    ("outside", "outside"),
    ("all", "all layers"),
    ("ebpf", "eBPF"),
    ("iptables", "iptables"),
    ("mounts", "mounts"),
    ("landlock", "Landlock"),
    ("seccomp", "seccomp"),
    ("namespaces", "namespaces"),
    ("none", "none"),
];

pub(super) fn write(places: &[Place]) -> Result<String> {
    let first = places.iter().find_map(|place| place.tried.as_ref());
    let attacks = &first.context("nothing was run to its end")?.attacks;
    let mut page = String::new();
    head(&mut page, places)?;
    let mut family = "";
    for attack in attacks {
        if attack.family != family {
            family = &attack.family;
            table_head(&mut page, family)?;
        }
        row(&mut page, &attack.name, places)?;
    }
    through(&mut page, places)?;
    alone(&mut page, attacks)?;
    not_tried(&mut page, places)?;
    elsewhere(&mut page);
    Ok(page)
}

fn head(page: &mut String, places: &[Place]) -> Result<()> {
    let date = process::stdout(Command::new("date").arg("--utc").arg("+%Y-%m-%d"))?;
    writeln!(
        page,
        "# Attacks\n\n\
         What a hostile skill tries, and how it ended. Written by `cargo xtask attacks` on {}, from what\n\
         it ran; run it again, and this page is written again. The attacks are in `tests/attacks/`, and\n\
         `cargo xtask test` runs them as well.\n\n\
         Each is tried for real, by a program of ours: outside a sandbox, as the user that skills run as\n\
         (as root where it takes root), it must get what it wants: read the secret, change the file, reach\n\
         the server. Then it is tried in a sandbox with all layers, with each layer alone, and with none.\n\
         What cannot be left out is the loss of privileges: never root, no capabilities, `no_new_privs`; so\n\
         `none` is what that stops. What the attacker says of itself with all layers is checked against what\n\
         is on the stage: files, servers, and a process that must not have been touched.\n\n\
         A cell has a sign for each place, in this order:\n",
        date.trim()
    )?;
    page.push_str(
        "| place | kernel | tier | Landlock | attacks | possible there | got through |\n",
    );
    page.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
    for place in places {
        match &place.tried {
            None => writeln!(page, "| {} | not run | | | | | |", place.name)?,
            Some(tried) => {
                let possible = tried.attacks.iter().filter(|attack| attack.is_possible());
                let through = possible.clone().filter(|attack| attack.got("all")).count();
                writeln!(
                    page,
                    "| {} | {} | {} | version {} | {} | {} | {} |",
                    place.name,
                    tried.kernel,
                    tried.tier,
                    tried.landlock,
                    tried.attacks.len(),
                    possible.count(),
                    through
                )?;
            }
        }
    }
    page.push_str(
        "\n`·` stopped, `G` got what it wanted, `-` cannot be tried there (see the end), `?` not run.\n",
    );
    Ok(())
}

fn table_head(page: &mut String, family: &str) -> Result<()> {
    writeln!(page, "\n## {family}\n")?;
    page.push_str("| attack |");
    for (_, title) in COLUMNS {
        write!(page, " {title} |")?;
    }
    page.push_str("\n| --- |");
    page.push_str(&" --- |".repeat(COLUMNS.len()));
    page.push('\n');
    Ok(())
}

fn row(page: &mut String, name: &str, places: &[Place]) -> Result<()> {
    write!(page, "| {} |", name.replace('-', " "))?;
    for (layers, _) in COLUMNS {
        let signs: String = places
            .iter()
            .map(|place| sign(place, name, layers))
            .collect();
        write!(page, " `{signs}` |")?;
    }
    page.push('\n');
    Ok(())
}

fn sign(place: &Place, name: &str, layers: &str) -> char {
    let attack = place.tried.as_ref().and_then(|tried| tried.attack(name));
    match attack {
        None => '?',
        Some(attack) if !attack.is_possible() => '-',
        Some(attack) if attack.got(layers) => 'G',
        Some(_) => '·',
    }
}

/// What got through all layers anywhere.
fn through(page: &mut String, places: &[Place]) -> Result<()> {
    page.push_str("\n## What gets through\n\n");
    let mut reasons = Reasons::default();
    for place in places {
        let attacks = place.tried.iter().flat_map(|tried| &tried.attacks);
        for attack in attacks.filter(|attack| attack.is_possible() && attack.got("all")) {
            let why = attack.known.as_deref().unwrap_or("**not known**");
            let why = format!("{} – {why}", place.name);
            reasons.add(&why, &attack.name);
        }
    }
    reasons.list(page)
}

fn alone(page: &mut String, attacks: &[Attack]) -> Result<()> {
    page.push_str("\n## What fewer than two layers hold alone\n\n");
    let mut reasons = Reasons::default();
    for attack in attacks {
        if let Some(why) = &attack.alone {
            reasons.add(why, &attack.name);
        }
    }
    reasons.list(page)
}

/// Attacks by what is to be said of them, in the order in which it is said.
#[derive(Default)]
struct Reasons(Vec<(String, Vec<String>)>);

impl Reasons {
    fn add(&mut self, why: &str, name: &str) {
        let name = name.replace('-', " ");
        match self.0.iter_mut().find(|(reason, _)| reason == why) {
            Some((_, names)) => names.push(name),
            None => self.0.push((why.to_owned(), vec![name])),
        }
    }

    fn list(&self, page: &mut String) -> Result<()> {
        if self.0.is_empty() {
            page.push_str("Nothing.\n");
        }
        for (why, names) in &self.0 {
            writeln!(page, "- {why}:\n  {}.", names.join(", "))?;
        }
        Ok(())
    }
}

fn not_tried(page: &mut String, places: &[Place]) -> Result<()> {
    page.push_str("\n## What cannot be tried\n\n");
    for place in places {
        let attacks = place.tried.iter().flat_map(|tried| &tried.attacks);
        let none: Vec<_> = attacks
            .filter_map(|attack| {
                let why = attack.stopped_by("outside")?;
                Some(format!("{} ({why})", attack.name.replace('-', " ")))
            })
            .collect();
        if !none.is_empty() {
            writeln!(page, "- {}: {}.", place.name, none.join("; "))?;
        }
    }
    Ok(())
}

fn elsewhere(page: &mut String) {
    page.push_str(
        "\n## What is attacked elsewhere\n\n\
         | what | where |\n| --- | --- |\n\
         | manifests made to exhaust, stall or deceive | `skillsandbox/src/manifest/tests/hostile.rs`, `cargo xtask fuzz` |\n\
         | links planted where we write | `skillsandbox/src/audit/safe_file_tests.rs` |\n\
         | records forged by names and output | `tests/tests/records.rs`, `skillsandbox/src/audit/watch_tests.rs`, `cargo xtask fuzz` |\n\
         | memory, processes, output, files, floods of events | `tests/tests/limits.rs`, `tests/tests/records.rs` |\n\
         | outliving the run | `tests/tests/endings.rs` |\n\
         | the supervisor dying at any moment | `tests/tests/killed.rs` |\n\
         | tasks that are preempted while they are decided on | `tests/tests/preemption.rs` |\n\
         | random accesses under random rules | `tests/tests/differential.rs` |\n\
         | what system calls are left | `tests/tests/syscalls.rs` |\n",
    );
}
