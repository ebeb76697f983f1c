//! Files in a folder that may be written which others execute or obey later.

use std::{
    fs::{self, File},
    io::Write,
};

use crate::{
    Attack,
    Layer::{Ebpf, EbpfNames},
    Outcome, Place, attack, call,
};

const FAMILY: &str = "files: persistence";

const GRANTED: &str =
    "who may write to a folder may write to everything in it: grant narrower folders";

const NAMES: &str = "mounts and Landlock grant whole folders, whatever the names in them";

const fn planted(name: &'static str, attempt: fn(&Place) -> Outcome) -> Attack {
    attack(FAMILY, name, &[Ebpf], attempt)
        .alone(NAMES)
        .known_on_fallback(GRANTED)
}

pub(crate) const ATTACKS: &[Attack] = &[
    planted("plant-a-git-hook", |place| {
        plant(place, ".git/hooks/pre-commit")
    }),
    attack(
        FAMILY,
        "plant-a-tool-server-by-a-rename",
        &[EbpfNames],
        |place| {
            let path = place.allowed(".mcp.json");
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            fs::write(place.allowed("fresh"), "attacked")?;
            fs::rename(place.allowed("fresh"), path)
        },
    )
    .alone(NAMES)
    .known_on_fallback(GRANTED),
    attack(FAMILY, "plant-an-envrc-by-a-link", &[EbpfNames], |place| {
        let path = place.allowed(".envrc");
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        std::os::unix::fs::symlink("../elsewhere", path)
    })
    .alone(NAMES)
    .known_on_fallback(GRANTED),
    planted("plant-an-envrc-by-a-pipe", |place| {
        let path = place.allowed("pipe/.envrc");
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        let name = call::path(&path)?;
        // SAFETY: a NUL-terminated path.
        call::checked(unsafe { libc::mkfifo(name.as_ptr(), 0o666) }.into())?;
        // Both ends, so that nobody is waited for.
        let mut pipe = File::options().read(true).write(true).open(path)?;
        pipe.write_all(b"attacked")
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
