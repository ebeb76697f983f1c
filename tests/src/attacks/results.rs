//! How attacks ended under each choice of layers.

use std::{collections::BTreeMap, fs, io::Write, sync::OnceLock};

use serde_json::{Value, json};
use skillsandbox_attacks::{Attack, Layer, all};

use super::{Layers, Setting};

/// How an attack ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It got what it wanted.
    Got,
    /// This was in its way.
    Stopped(String),
}

/// Everything that was tried in this place.
pub struct Results {
    ended: BTreeMap<(Layers, &'static str), Verdict>,
    tier: String,
    landlock: u32,
    names: bool,
    iptables: bool,
}

impl Results {
    /// Tries everything, once.
    pub fn here() -> &'static Self {
        static HERE: OnceLock<Results> = OnceLock::new();
        HERE.get_or_init(Self::try_everything)
    }

    fn try_everything() -> Self {
        let mut results = Self {
            ended: BTreeMap::new(),
            tier: String::new(),
            landlock: 0,
            names: false,
            iptables: false,
        };
        for layers in Layers::every() {
            let mut setting = Setting::new();
            let (output, start) = setting.attack(layers);
            if layers == Layers::All {
                setting.is_untouched(&output);
                results.learn(&start.expect("a sandbox has a start on record"));
            }
            results.take(layers, &output);
        }
        results.write();
        results
    }

    fn take(&mut self, layers: Layers, output: &str) {
        for attack in all() {
            let start = format!("{} ", attack.name);
            let line = output.lines().find_map(|line| line.strip_prefix(&start));
            let verdict = match line {
                Some("got") => Verdict::Got,
                Some(why) => Verdict::Stopped(why.to_owned()),
                None => panic!("{layers:?}: nothing of {}:\n{output}", attack.name),
            };
            self.ended.insert((layers, attack.name), verdict);
        }
    }

    /// What this host offers, from the record of a sandbox with all layers.
    fn learn(&mut self, start: &Value) {
        start["tier"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut self.tier);
        for layer in start["layers"].as_array().into_iter().flatten() {
            let detail = layer["detail"].as_str().unwrap_or_default();
            if layer["name"] == "ebpf path_rename" {
                self.names = layer["achieved"] == true;
            }
            if layer["name"] == "iptables" {
                self.iptables = layer["achieved"] == true;
            }
            if layer["name"] == "landlock"
                && let Some(rest) = detail.split("version ").nth(1)
            {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                self.landlock = digits.parse().unwrap_or(0);
            }
        }
    }

    /// How an attack ended.
    #[must_use]
    pub fn of(&self, layers: Layers, attack: &Attack) -> &Verdict {
        &self.ended[&(layers, attack.name)]
    }

    /// Attacks that got what they wanted without a sandbox: the others cannot be tried here.
    pub fn possible(&self) -> impl Iterator<Item = &'static Attack> {
        all().filter(|attack| *self.of(Layers::Outside, attack) == Verdict::Got)
    }

    /// Why an attack gets through all layers here, where that is known.
    #[must_use]
    pub fn known(&self, attack: &Attack) -> Option<&'static str> {
        let held_here = attack.held.iter().any(|layer| self.alone(*layer).is_some());
        let without = attack.known_on_fallback.filter(|_| !held_here);
        attack.known.or(without)
    }

    /// The choice of layers in which this one stands alone, where this host has it.
    #[must_use]
    pub fn alone(&self, layer: Layer) -> Option<Layers> {
        let kernel = self.tier == "kernel";
        let (layers, here) = match layer {
            Layer::Ebpf | Layer::EbpfSockets => (Layers::Only("ebpf"), kernel),
            Layer::EbpfNames => (Layers::Only("ebpf"), kernel && self.names),
            Layer::EbpfNetwork => (Layers::Only("ebpf"), true),
            Layer::Iptables => (Layers::Only("iptables"), self.iptables),
            Layer::Mounts => (Layers::Only("mounts"), true),
            Layer::Landlock => (Layers::Only("landlock"), self.landlock >= 2),
            Layer::LandlockTruncate => (Layers::Only("landlock"), self.landlock >= 3),
            Layer::LandlockScopes => (Layers::Only("landlock"), self.landlock >= 6),
            Layer::Seccomp => (Layers::Only("seccomp"), true),
            Layer::Namespaces => (Layers::Only("namespaces"), true),
            Layer::Privileges => (Layers::None, true),
        };
        here.then_some(layers)
    }

    /// For `cargo xtask attacks`, which asks for it by a variable.
    fn write(&self) {
        if std::env::var_os("ATTACKS_RESULTS").is_none() {
            return;
        }
        let attacks: Vec<Value> = all()
            .map(|attack| {
                let ended: BTreeMap<&str, Value> = Layers::every()
                    .into_iter()
                    .map(|layers| {
                        let ended = match self.of(layers, attack) {
                            Verdict::Got => json!(true),
                            Verdict::Stopped(why) => json!(why),
                        };
                        (layers.name(), ended)
                    })
                    .collect();
                json!({
                    "name": attack.name,
                    "family": attack.family,
                    "alone": attack.alone,
                    "known": self.known(attack),
                    "lacking": attack.lacking,
                    "ended": ended,
                })
            })
            .collect();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let whole = json!({
            "kernel": release.trim(),
            "tier": self.tier,
            "landlock": self.landlock,
            "attacks": attacks,
        });
        // Not `println!`, which the test's runner keeps to itself.
        writeln!(std::io::stdout(), "\nattacks: {whole}").expect("an output");
    }
}
