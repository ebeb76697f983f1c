//! Sets the stage for attacks, lets the attacker try all of them outside and under each choice of
//! layers, and says how they ended.

mod props;
mod results;
mod setting;

pub use results::{Results, Verdict};
pub use setting::Setting;

/// The layers that can be left out, by their names on the command line.
pub const LAYERS: [&str; 6] = [
    "ebpf",
    "iptables",
    "mounts",
    "landlock",
    "seccomp",
    "namespaces",
];

/// What stands between the attacker and the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layers {
    /// Nothing: the skill's user runs it, or root where the attack takes that.
    Outside,
    /// A sandbox, as users have it.
    All,
    /// A sandbox without all that can be left out.
    None,
    /// A sandbox with this one, of those that can be left out.
    Only(&'static str),
}

impl Layers {
    /// Every choice.
    #[must_use]
    pub fn every() -> Vec<Self> {
        let mut every = vec![Self::Outside, Self::All, Self::None];
        every.extend(LAYERS.map(Self::Only));
        every
    }

    /// In a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::All => "all",
            Self::None => "none",
            Self::Only(layer) => layer,
        }
    }

    /// What is left out, for `--without-layer`.
    #[must_use]
    pub fn left_out(self) -> Option<String> {
        let kept = match self {
            Self::Outside | Self::All => return None,
            Self::None => "",
            Self::Only(layer) => layer,
        };
        let rest: Vec<_> = LAYERS.into_iter().filter(|layer| *layer != kept).collect();
        Some(rest.join(","))
    }
}
