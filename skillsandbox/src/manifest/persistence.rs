//! Names under which programs look for what they execute or obey later, outside the sandbox too:
//! who plants such a file in a folder that a skill may write outlives the skill. They are not
//! written unless a manifest names them.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::error::Refusal;

/// The last components of a path, in any folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistent {
    /// One component or more: `.git/hooks`.
    pub name: &'static str,
    /// Whether what lies below is meant as well.
    pub below: bool,
}

const fn all_of(name: &'static str) -> Persistent {
    Persistent { name, below: true }
}

/// The name alone: whoever gives it to a folder of another name brings what lies below.
const fn only(name: &'static str) -> Persistent {
    Persistent { name, below: false }
}

/// Every such name: of shells, git, agents, editors and package managers. A folder stands before
/// what lies in it.
pub const PERSISTENT: &[Persistent] = &[
    all_of(".bashrc"),
    all_of(".bash_profile"),
    all_of(".bash_login"),
    all_of(".bash_logout"),
    all_of(".bash_aliases"),
    all_of(".profile"),
    all_of(".zshrc"),
    all_of(".zshenv"),
    all_of(".zprofile"),
    all_of(".zlogin"),
    all_of(".zlogout"),
    all_of(".envrc"),
    all_of(".xprofile"),
    all_of(".xsessionrc"),
    only(".config"),
    all_of(".config/autostart"),
    all_of(".config/direnv"),
    all_of(".config/fish"),
    all_of(".config/git"),
    all_of(".config/systemd"),
    only(".git"),
    all_of(".git/commondir"),
    all_of(".git/config"),
    all_of(".git/config.worktree"),
    all_of(".git/hooks"),
    all_of(".git/modules"),
    all_of(".git/worktrees"),
    all_of(".gitconfig"),
    all_of(".gitmodules"),
    all_of(".husky"),
    all_of(".ssh"),
    all_of(".mcp.json"),
    all_of(".claude.json"),
    only(".claude"),
    all_of(".claude/agents"),
    all_of(".claude/commands"),
    all_of(".claude/hooks"),
    all_of(".claude/plugins"),
    all_of(".claude/settings.json"),
    all_of(".claude/settings.local.json"),
    all_of(".claude/skills"),
    all_of(".codex"),
    all_of(".cursor"),
    all_of(".gemini"),
    all_of(".devcontainer"),
    all_of(".devcontainer.json"),
    all_of(".idea"),
    all_of(".vscode"),
    all_of(".zed"),
    all_of(".exrc"),
    all_of(".gdbinit"),
    all_of(".nvimrc"),
    all_of(".vimrc"),
    only(".cargo"),
    all_of(".cargo/config"),
    all_of(".cargo/config.toml"),
    all_of(".npmrc"),
    all_of(".yarnrc"),
    all_of(".yarnrc.yml"),
];

impl Persistent {
    /// Whether a path is one of this name, or lies below where that is meant.
    #[must_use]
    pub fn is_in(&self, path: &[u8]) -> bool {
        let starts = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        starts
            .filter_map(|(slash, _)| path.get(slash + 1..)?.strip_prefix(self.name.as_bytes()))
            .any(|rest| rest.is_empty() || self.below && rest.starts_with(b"/"))
    }
}

/// What `filesystem.persist` names: one of [`PERSISTENT`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PersistentName(String);

impl PersistentName {
    /// Whether naming this permits that: the same name, or the folder that it lies in.
    #[must_use]
    pub fn permits(&self, persistent: &Persistent) -> bool {
        let rest = persistent.name.strip_prefix(&self.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for PersistentName {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        if PERSISTENT.iter().any(|known| known.name == text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Refusal::new(
            "no name is held that way unless it is in the list in docs/manifest.md",
            "write one of these (`.git`, `.vscode`, …), or leave it out: what filesystem.write grants covers it",
        ))
    }
}

impl fmt::Display for PersistentName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn persistent(name: &str) -> Persistent {
        *PERSISTENT.iter().find(|known| known.name == name).unwrap()
    }

    #[test]
    fn a_name_is_found_at_any_depth_and_in_whole_components() {
        let hooks = persistent(".git/hooks");
        for path in [
            "/w/.git/hooks",
            "/w/a/b/.git/hooks/pre-commit",
            "/.git/hooks",
        ] {
            assert!(hooks.is_in(path.as_bytes()), "{path}");
        }
        for path in [
            "/w/.git",
            "/w/x.git/hooks",
            "/w/.git/hooksx",
            "/w/.git/x/hooks",
            "/",
        ] {
            assert!(!hooks.is_in(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn a_name_alone_is_not_what_lies_below() {
        let git = persistent(".git");
        assert!(git.is_in(b"/w/.git"));
        assert!(!git.is_in(b"/w/.git/objects/ab"));
    }

    #[test]
    fn every_folder_above_a_name_is_a_name_too_so_that_it_is_not_brought_in_under_another() {
        for known in PERSISTENT {
            let mut folder = known.name;
            while let Some((above, _)) = folder.rsplit_once('/') {
                folder = above;
                assert!(
                    PERSISTENT.iter().any(|other| other.name == folder),
                    "{folder}"
                );
            }
        }
    }

    #[test]
    fn naming_a_folder_permits_what_lies_in_it() {
        let git: PersistentName = ".git".parse().unwrap();
        assert!(git.permits(&persistent(".git")));
        assert!(git.permits(&persistent(".git/hooks")));
        assert!(!git.permits(&persistent(".gitconfig")));
        let hooks: PersistentName = ".git/hooks".parse().unwrap();
        assert!(!hooks.permits(&persistent(".git")));
    }

    #[test]
    fn what_is_not_held_cannot_be_named() {
        for text in [
            "",
            ".",
            "Makefile",
            ".git/",
            "/work/.git",
            "**/.git",
            ".git/objects",
        ] {
            assert!(text.parse::<PersistentName>().is_err(), "{text}");
        }
    }
}
