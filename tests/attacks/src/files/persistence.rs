//! Files in a folder that may be written which others execute or obey later.

use std::fs;

use crate::{Attack, Outcome, Place, attack};

const FAMILY: &str = "files: persistence";

const GRANTED: &str =
    "who may write to a folder may write to everything in it: grant narrower folders";

const fn planted(name: &'static str, attempt: fn(&Place) -> Outcome) -> Attack {
    attack(FAMILY, name, &[], attempt).known(GRANTED)
}

pub(crate) const ATTACKS: &[Attack] = &[
    planted("plant-a-git-hook", |place| {
        plant(place, ".git/hooks/pre-commit")
    }),
    planted("plant-a-git-setting", |place| plant(place, ".git/config")),
    planted("plant-a-shell-start", |place| plant(place, ".bashrc")),
    planted("plant-an-envrc", |place| plant(place, "deep/down/.envrc")),
    planted("plant-a-tool-server", |place| plant(place, ".mcp.json")),
    planted("plant-agent-settings", |place| {
        plant(place, ".claude/settings.json")
    }),
    planted("plant-an-editor-task", |place| {
        plant(place, ".vscode/tasks.json")
    }),
];

fn plant(place: &Place, name: &str) -> Outcome {
    let path = place.allowed(name);
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    fs::write(path, "attacked")
}
