//! Files for a test to attack.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::attempts::NOBODY;

/// A folder that is gone when it is dropped. Not below `/tmp`, which every sandbox may write to.
///
/// Every file and folder in it may be read and written by everybody, so that a refusal is never
/// that of a file's mode.
#[derive(Debug)]
pub struct Scene {
    root: PathBuf,
}

impl Scene {
    /// An empty scene. `name` is for people to read.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::below("/var/tmp", name)
    }

    /// An empty scene in memory: overlayfs, which virtual machines have elsewhere, gives a nameless
    /// file that gets a name a file of its own below, and that one none.
    #[must_use]
    pub fn in_memory(name: &str) -> Self {
        Self::below("/run", name)
    }

    fn below(folder: &str, name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = PathBuf::from(format!(
            "{folder}/skillsandbox-{name}-{}-{number}",
            std::process::id()
        ));
        fs::create_dir(&root).expect("a new folder for the scene");
        open_to_all(&root, 0o755);
        Self { root }
    }

    /// The path of something in the scene.
    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.root.join(name.as_ref())
    }

    /// A new folder, with those above it.
    pub fn folder(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let path = self.path(name);
        let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        fs::create_dir_all(&path).expect("a new folder in the scene");
        for folder in missing {
            open_to_all(folder, 0o777);
        }
        path
    }

    /// A new file with some content, and the folders above it.
    pub fn file(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let path = self.path(name);
        if let Some(parent) = path
            .parent()
            .and_then(|parent| parent.strip_prefix(&self.root).ok())
        {
            self.folder(parent);
        }
        fs::write(&path, "content\n").expect("a new file in the scene");
        open_to_all(&path, 0o666);
        // Hard links to files of others are refused by the kernel (protected_hardlinks).
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("a file to give to nobody");
        path
    }

    /// The program that attempts accesses, where everybody may execute it.
    #[must_use]
    pub fn probe(&self) -> PathBuf {
        let path = self.path("probe");
        if !path.exists() {
            fs::copy(built_probe(), &path).expect("a copy of the probe");
            open_to_all(&path, 0o755);
        }
        path
    }

    /// Everything in it.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Paths in it can be longer than any call takes; `rm` walks.
        let removed = std::process::Command::new("rm")
            .arg("-rf")
            .arg(&self.root)
            .status();
        if !std::thread::panicking() {
            assert!(
                removed.is_ok_and(|status| status.success()),
                "the scene stays"
            );
        }
    }
}

fn open_to_all(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode to set");
}

/// Cargo puts the package's programs above the folder of its tests.
fn built_probe() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let found = test.ancestors().skip(1).map(|folder| folder.join("probe"));
    found
        .into_iter()
        .find(|path| path.is_file())
        .expect("the program `probe` beside the tests: run `cargo xtask test`")
}
