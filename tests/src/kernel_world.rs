//! A random tree of files, with the names and lengths at which path handling breaks.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, openat};

use crate::kernel_rng::Rng;
use crate::kernel_sandbox::Folder;

/// Longest component (`NAME_MAX`).
const NAME_MAX: usize = 255;
/// Longest path that a call can take, without its NUL.
pub const LONGEST: usize = 4095;
/// The names that most components have, so that paths share their starts.
const NAMES: &[&[u8]] = &[
    b"a",
    b"aa",
    b"ab",
    b"abc",
    b"b",
    b"A",
    b"a b",
    b"...",
    b".a",
    b"a\n",
    b"-",
    b"a\\",
    b"\xff",
    b"\xff\xfe",
    b"\x01",
    "é".as_bytes(),
    b"pipe:[1]",
    b"**",
    b"a (deleted)",
];

/// The tree.
#[derive(Debug)]
pub struct World {
    /// Every folder; the first is the top.
    pub folders: Vec<Vec<u8>>,
    /// Every file.
    pub files: Vec<Vec<u8>>,
    /// The folders and files whose paths are about as long as the longest rule.
    pub edges: Vec<(Vec<u8>, bool)>,
    /// A folder with a path so long that some files below it have paths that are too long.
    pub deep: Vec<u8>,
    names: HashSet<Vec<u8>>,
    _folder: Folder,
}

impl World {
    /// Makes it in memory.
    pub fn make(rng: &mut Rng) -> Result<Self> {
        let folder = Folder::new("differential")?;
        let top = folder.0.clone();
        let mut world = Self {
            folders: vec![top.clone()],
            files: Vec::new(),
            edges: Vec::new(),
            deep: Vec::new(),
            names: HashSet::new(),
            _folder: folder,
        };
        for _ in 0..200 {
            let parent = rng.pick(&world.folders).clone();
            world.folder(&parent, &name(rng))?;
        }
        world.chain(&top, 40, |_| b"d".to_vec())?;
        // Around the longest path that a rule and a key can hold.
        for length in 252..=258_usize {
            let fill = vec![b'k'; length.saturating_sub(top.len() + 1)];
            let edge = world.folder(&top, &fill)?;
            world.file(&edge, b"a")?;
            let below = world.folder(&edge, b"b")?;
            let fill = vec![b'm'; length.saturating_sub(top.len() + 1)];
            world.file(&top, &fill)?;
            let file = [&top, b"/".as_slice(), &fill].concat();
            let in_edge = [&edge, b"/a".as_slice()].concat();
            world.edges.extend([(edge, true), (below, true)]);
            world.edges.extend([(file, false), (in_edge, false)]);
        }
        for folder in world.folders.clone() {
            for _ in 0..=rng.below(3) {
                world.file(&folder, &name(rng))?;
            }
        }
        // Of letters that no random name is made of alone: one that is a file already is no folder.
        world.deep = world.chain(&top, 15, |level| vec![b'd' + level; NAME_MAX])?;
        let deep = world.deep.clone();
        // Around the longest path that there can be.
        for length in 4086..=4110_usize {
            let fill = vec![b'p'; length.saturating_sub(deep.len() + 1)];
            world.file(&deep, &fill)?;
            if length + 1 < LONGEST {
                let edge = world.folder(&deep, &[b"f", fill.as_slice()].concat())?;
                world.file(&edge, b"a")?;
            }
        }
        Ok(world)
    }

    fn chain(&mut self, from: &[u8], levels: u8, name: impl Fn(u8) -> Vec<u8>) -> Result<Vec<u8>> {
        let mut folder = from.to_vec();
        for level in 0..levels {
            folder = self.folder(&folder, &name(level))?;
            self.file(&folder, b"a")?;
        }
        Ok(folder)
    }

    fn folder(&mut self, parent: &[u8], name: &[u8]) -> Result<Vec<u8>> {
        let path = [parent, b"/", name].concat();
        if path.len() < LONGEST && self.names.insert(path.clone()) {
            fs::create_dir(OsStr::from_bytes(&path))?;
            self.folders.push(path.clone());
        }
        Ok(path)
    }

    fn file(&mut self, parent: &[u8], name: &[u8]) -> Result<()> {
        let path = [parent, b"/", name].concat();
        if !self.names.insert(path.clone()) {
            return Ok(());
        }
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        // Not by its path, which may be too long for a call.
        let folder = File::open(Path::new(OsStr::from_bytes(parent)))?;
        openat(&folder, OsStr::from_bytes(name), flags, Mode::RUSR)
            .with_context(|| format!("make {}", path.escape_ascii()))?;
        self.files.push(path);
        Ok(())
    }
}

/// A component.
fn name(rng: &mut Rng) -> Vec<u8> {
    match rng.below(10) {
        0..6 => rng.pick(NAMES).to_vec(),
        6 => vec![*rng.pick(b"abc\xff"); NAME_MAX - rng.below(3)],
        _ => {
            let most = if rng.one_in(4) { NAME_MAX } else { 12 };
            let length = 1 + rng.below(most);
            let mut name: Vec<u8> = (0..length)
                .map(|_| match rng.byte() {
                    0 | b'/' | b'.' => b'n',
                    byte => byte,
                })
                .collect();
            name.truncate(NAME_MAX);
            name
        }
    }
}
