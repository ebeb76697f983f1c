//! Accesses for the probe to attempt, and how they ended.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt,
    process::Command,
};

use crate::scene::Scene;

/// Who skills run as by default, and who attempts accesses outside a sandbox to compare with.
pub const NOBODY: u32 = 65534;

/// A list of attempts.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    words: Vec<OsString>,
    names: Vec<String>,
}

/// One attempt of words that are text or paths.
#[macro_export]
macro_rules! attempts {
    ($([$($word:expr),+ $(,)?]),+ $(,)?) => {{
        let mut attempts = $crate::attempts::Attempts::default();
        $(attempts.push(&[$(::std::convert::AsRef::<::std::ffi::OsStr>::as_ref(&$word)),+]);)+
        attempts
    }};
}

impl Attempts {
    /// Adds one.
    pub fn push(&mut self, words: &[&OsStr]) {
        let shown: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        let mut name = shown.join(" ");
        if let Some((end, _)) = name.char_indices().nth(200) {
            name.truncate(end);
        }
        self.names.push(name);
        self.words.extend(words.iter().map(|&word| word.to_owned()));
        self.words.push(";".into());
    }

    /// The words for the probe.
    #[must_use]
    pub fn words(&self) -> &[OsString] {
        &self.words
    }

    /// Attempts all of them outside any sandbox, as nobody: how they end without us.
    #[must_use]
    pub fn outside(&self, scene: &Scene) -> Endings {
        let output = Command::new(scene.probe())
            .args(&self.words)
            .current_dir("/")
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .expect("the probe runs");
        self.endings(&output.stdout)
    }

    /// Pairs what the probe wrote with the attempts.
    #[must_use]
    pub fn endings(&self, output: &[u8]) -> Endings {
        let output = String::from_utf8_lossy(output);
        let mut lines = output.lines();
        let endings = self.names.iter().map(|name| {
            let ending = lines.next().unwrap_or("nothing: the probe had ended");
            (name.clone(), ending.to_owned())
        });
        Endings(endings.collect())
    }
}

/// How each of the attempts ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endings(Vec<(String, String)>);

impl Endings {
    /// All of them went through.
    #[track_caller]
    pub fn all_ok(&self, when: &str) {
        self.all("ok", when);
    }

    /// Our programs refused all of them.
    #[track_caller]
    pub fn all_denied(&self, when: &str) {
        self.all("EPERM", when);
    }

    /// None of them went through, whoever refused.
    #[track_caller]
    pub fn none_ok(&self, when: &str) {
        let through: Vec<_> = self.0.iter().filter(|(_, found)| found == "ok").collect();
        assert!(through.is_empty(), "{when}: {through:#?}");
    }

    /// The last of them did not go through, whatever came of those before.
    #[track_caller]
    pub fn last_not_ok(&self, when: &str) {
        let (name, ending) = self.0.last().expect("an attempt");
        assert_ne!(ending, "ok", "{when}: {name}");
    }

    /// All of them ended like this.
    #[track_caller]
    pub fn all(&self, ending: &str, when: &str) {
        let others: Vec<_> = self.0.iter().filter(|(_, found)| found != ending).collect();
        assert!(others.is_empty(), "{when}, not {ending}: {others:#?}");
    }

    /// They ended like these.
    #[track_caller]
    pub fn are(&self, endings: &[&str], when: &str) {
        let found: Vec<&str> = self.0.iter().map(|(_, ending)| ending.as_str()).collect();
        assert_eq!(found, endings, "{when}: {:#?}", self.0);
    }
}
