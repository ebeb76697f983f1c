//! What the demo is played with: a made-up victim, the skills and the servers, where everyone can
//! read them, wherever the project is.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::remove;
use crate::paths;

/// Fixed, as the stealer knows it too: `VICTIM_HOMES` in manifests/malicious-weather/main.py.
const FOLDER: &str = "/var/tmp/skillsandbox-demo";
/// The skills' own cache, which their manifests name.
const CACHE: &str = "/tmp/weather-cache";
/// Debian's own programs, for everyone in the play.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const NOBODY: u32 = 65534;

/// The victim's variables that the agent passes on to its skills.
pub(super) const PASSED_ON: [(&str, &str); 3] = [
    ("OPENWEATHER_API_KEY", "DEMO-FAKE-weather-key"),
    ("AWS_SECRET_ACCESS_KEY", "DEMO-FAKE-aws-environment"),
    ("GITHUB_TOKEN", "DEMO-FAKE-github-token"),
];
/// The one that the agent keeps to itself.
pub(super) const KEPT: (&str, &str) = ("MODEL_API_KEY", "DEMO-FAKE-model-key");
/// The one that a weather skill may have.
pub(super) const DECLARED: &str = "OPENWEATHER_API_KEY";
/// The victim's files, and the secret in each.
pub(super) const FILES: [(&str, &str); 3] = [
    (".aws/credentials", "DEMO-FAKE-aws-file"),
    (".ssh/id_ed25519", "DEMO-FAKE-ssh-key"),
    (".netrc", "DEMO-FAKE-netrc"),
];

/// Every secret there is to steal.
pub(super) fn secrets() -> impl Iterator<Item = &'static str> {
    let variables = PASSED_ON.into_iter().chain([KEPT]);
    variables.chain(FILES).map(|(_, secret)| secret)
}

/// The victim's home.
pub(super) fn home() -> PathBuf {
    Path::new(FOLDER).join("home")
}

/// Whether we are root.
pub(super) fn is_root() -> Result<bool> {
    let own = fs::metadata("/proc/self").context("/proc is not mounted")?;
    Ok(own.uid() == 0)
}

/// An ordinary user.
#[derive(Clone, Copy)]
pub(super) struct User {
    pub(super) uid: u32,
    gid: u32,
}

impl User {
    /// The user that a skill runs as: the caller behind sudo, else nobody.
    fn of_skills() -> Self {
        let number = |name| std::env::var(name).ok()?.parse().ok();
        match (number("SUDO_UID"), number("SUDO_GID")) {
            (Some(uid), Some(gid)) if uid != 0 && gid != 0 => Self { uid, gid },
            _ => Self {
                uid: NOBODY,
                gid: NOBODY,
            },
        }
    }
}

/// The stage. It is gone when this is dropped.
pub(super) struct Stage {
    pub(super) user: User,
    had_cache: bool,
}

impl Stage {
    /// Sets everything up. What a demo that was killed has left behind is removed.
    pub(super) fn set() -> Result<Self> {
        let folder = Path::new(FOLDER);
        if let Ok(left) = fs::symlink_metadata(folder) {
            ensure!(
                left.is_dir() && left.uid() == 0,
                "{FOLDER} is not ours: remove it and repeat"
            );
            remove(folder)?;
        }
        let made = DirBuilder::new().mode(0o755).create(folder);
        made.with_context(|| format!("cannot make {FOLDER}"))?;
        let stage = Self {
            user: User::of_skills(),
            had_cache: fs::symlink_metadata(CACHE).is_ok(),
        };
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        let project = paths::project();
        for skill in ["weather", "malicious-weather"] {
            copy(&project.join("manifests").join(skill), &stage.skill(skill))?;
        }
        copy(&project.join("xtask/demo"), &folder.join("servers"))?;
        stage.plant()?;
        let log = stage.log();
        fs::write(&log, "")?;
        chown(&log, Some(stage.user.uid), Some(stage.user.gid))?;
        Ok(stage)
    }

    /// The folder of a skill.
    pub(super) fn skill(&self, name: &str) -> PathBuf {
        self.path(name)
    }

    /// A server's program.
    pub(super) fn server(&self, name: &str) -> PathBuf {
        self.path("servers").join(name)
    }

    /// The attacker's log.
    pub(super) fn log(&self) -> PathBuf {
        self.path("attacker.jsonl")
    }

    #[expect(
        clippy::unused_self,
        reason = "paths are there as long as the stage is"
    )]
    fn path(&self, name: &str) -> PathBuf {
        Path::new(FOLDER).join(name)
    }

    /// The victim's files, readable by their owner alone.
    fn plant(&self) -> Result<()> {
        let own = |path: &Path, mode| -> Result<()> {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
            chown(path, Some(self.user.uid), Some(self.user.gid))?;
            Ok(())
        };
        let home = home();
        for (name, secret) in FILES {
            let file = home.join(name);
            let folder = file.parent().unwrap_or(&home);
            fs::create_dir_all(folder)?;
            fs::write(&file, format!("{secret}\n"))?;
            own(&file, 0o600)?;
            own(folder, 0o700)?;
        }
        own(&home, 0o700)
    }

    /// A command as the ordinary user, which ends with us; `python3 …`, say.
    pub(super) fn as_user(&self, words: &[&str]) -> Command {
        let User { uid, gid } = self.user;
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={uid}"), &format!("--regid={gid}")]);
        command.args(["--clear-groups", "--pdeathsig=KILL", "--"]);
        command.args(words).current_dir("/");
        environment(&mut command);
        command
    }

    /// Removes the skills' cache, unless it was there before.
    pub(super) fn remove_cache(&self) -> Result<()> {
        if self.had_cache {
            return Ok(());
        }
        remove(Path::new(CACHE))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What is left, the next demo removes.
        let _ = self.remove_cache();
        let _ = remove(Path::new(FOLDER));
    }
}

/// The environment of a program in the play, without a secret.
pub(super) fn environment(command: &mut Command) {
    command.env_clear();
    command.env("PATH", PATH).env("LANG", "C.UTF-8");
    command.env("PYTHONDONTWRITEBYTECODE", "1");
}

/// The victim's environment on top of that.
pub(super) fn victim(command: &mut Command) {
    command.env("HOME", home());
    command.envs(PASSED_ON.into_iter().chain([KEPT]));
}

/// Copies the files of a folder so that everyone can read them.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let everyone = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
    let copied = || -> io::Result<()> {
        fs::create_dir(to)?;
        everyone(to, 0o755)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let file = to.join(entry.file_name());
                fs::copy(entry.path(), &file)?;
                everyone(&file, 0o644)?;
            }
        }
        Ok(())
    };
    copied().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}
