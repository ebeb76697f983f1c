//! What a hostile skill tries. Each attack is tried for real: outside a sandbox it gets what it
//! wants, inside it must not. One file per family; a new attack is a function and a line in its
//! family's table.

pub mod call;
mod files;
mod network;
mod processes;
mod programs;
pub mod ring;
mod sandbox;
mod stage;

pub use stage::{Place, Stage};

/// The outcome of an attack: it got what it wanted, or this was in its way.
pub type Outcome = std::io::Result<()>;

/// A mechanism that stops an attack by itself, all others but the loss of privileges left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// LSM programs on opens, executions, mappings and looks into processes: the kernel tier.
    Ebpf,
    /// LSM programs on names of files: the kernel tier from Linux 6.12 on.
    EbpfNames,
    /// Programs on addresses and packets: both tiers.
    EbpfNetwork,
    /// Chains of iptables and ip6tables.
    Iptables,
    /// LSM programs on sockets: the kernel tier.
    EbpfSockets,
    /// A file tree of the sandbox's own.
    Mounts,
    /// Landlock, from version 2 on.
    Landlock,
    /// Landlock from version 3 on: truncation.
    LandlockTruncate,
    /// Landlock from version 6 on: signals and abstract sockets.
    LandlockScopes,
    /// System call filters.
    Seccomp,
    /// PID, IPC and host name namespaces.
    Namespaces,
    /// Not root, no capabilities, `no_new_privs`: never left out, so what they stop is stopped in
    /// every run.
    Privileges,
}

/// Something that a skill tries.
pub struct Attack {
    /// What it does, in words joined by dashes; the name of its own folders on the stage.
    pub name: &'static str,
    /// Family.
    pub family: &'static str,
    /// Tries it.
    pub attempt: fn(&Place) -> Outcome,
    /// The mechanisms that each stop it alone.
    pub held: &'static [Layer],
    /// Why fewer than two do.
    pub alone: Option<&'static str>,
    /// Why it gets through all layers: a hole that is known and written down.
    pub known: Option<&'static str>,
    /// The same, where none of the mechanisms that hold it is there: on the fallback tier.
    pub known_on_fallback: Option<&'static str>,
    /// Why a host may not let it through even without a sandbox.
    pub lacking: Option<&'static str>,
    /// Takes root outside.
    pub by_root: bool,
}

const ROOTS: &str =
    "it takes root, and a skill never is: what other layers would do to root is not tried";

/// An attack of a family, to be completed by the methods below.
const fn attack(
    family: &'static str,
    name: &'static str,
    held: &'static [Layer],
    attempt: fn(&Place) -> Outcome,
) -> Attack {
    Attack {
        name,
        family,
        attempt,
        held,
        alone: None,
        known: None,
        known_on_fallback: None,
        lacking: None,
        by_root: false,
    }
}

/// An attack that takes root outside, and so gets nowhere as a skill.
const fn by_root(
    family: &'static str,
    name: &'static str,
    attempt: fn(&Place) -> Outcome,
) -> Attack {
    Attack {
        by_root: true,
        ..attack(family, name, &[Layer::Privileges], attempt).alone(ROOTS)
    }
}

impl Attack {
    const fn alone(self, why: &'static str) -> Self {
        Self {
            alone: Some(why),
            ..self
        }
    }

    const fn known(self, why: &'static str) -> Self {
        Self {
            known: Some(why),
            ..self
        }
    }

    const fn known_on_fallback(self, why: &'static str) -> Self {
        Self {
            known_on_fallback: Some(why),
            ..self
        }
    }

    const fn lacking(self, why: &'static str) -> Self {
        Self {
            lacking: Some(why),
            ..self
        }
    }
}

/// Names of files with the token that the stage has in its folder `denied/names`.
pub fn names() -> [std::ffi::OsString; 2] {
    [files::odd_name(), files::invalid_name()]
}

/// All of them, by family.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    [
        files::ATTACKS,
        processes::ATTACKS,
        programs::ATTACKS,
        network::ATTACKS,
        sandbox::ATTACKS,
    ]
    .into_iter()
    .flatten()
    .copied()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::all;

    #[test]
    fn the_page_tells_of_every_attack() {
        let page = include_str!("../../../docs/attacks.md");
        for attack in all() {
            let row = format!("| {} |", attack.name.replace('-', " "));
            assert!(page.contains(&row), "run `cargo xtask attacks`: no {row}");
        }
    }

    #[test]
    fn the_files_that_the_page_names_are_there() {
        let page = include_str!("../../../docs/attacks.md");
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let named: Vec<_> = page
            .split('`')
            .filter(|word| word.ends_with(".rs"))
            .collect();
        assert!(!named.is_empty());
        for file in named {
            assert!(root.join(file).is_file(), "{file}");
        }
    }

    #[test]
    fn no_two_attacks_have_one_name() {
        let names: std::collections::BTreeSet<_> = all().map(|attack| attack.name).collect();
        assert_eq!(names.len(), all().count());
    }
}
