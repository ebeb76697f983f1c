//! The kernel side of a sandbox alone, without what `run` puts around it.

use std::fs::{self, DirBuilder, File};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use skillsandbox::isolate::cgroup::{Cgroup, Hierarchy};
use skillsandbox::kernel::{
    Attached, Home, Objects, Policy, ProgramState, Rings, Target, WantedRings, prove::Prover,
};
use skillsandbox::policy::Tables;
use skillsandbox_common::names::PROGRAMS;

/// Where `skillsandbox run` keeps its state. Whoever has the lock is alone.
const RUN: &str = "/run/skillsandbox";

/// The objects in the kernel and a cgroup to attach them to.
#[derive(Debug)]
pub struct Ground {
    objects: Objects,
    cgroup: Cgroup,
    id: String,
    _lock: File,
}

impl Ground {
    /// Waits until no sandbox is being started, loads the objects and makes a cgroup.
    pub fn new(name: &str) -> Result<Self> {
        let run = Path::new(RUN);
        if !run.is_dir() {
            DirBuilder::new().mode(0o700).create(run)?;
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(run.join("lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let id = format!("{name}-{}", std::process::id());
        Ok(Self {
            objects: Objects::open(run).context("open the kernel's objects")?,
            cgroup: Hierarchy::find()?.create(&id)?,
            id,
            _lock: lock,
        })
    }

    /// An error unless the kernel took the programs that decide on files.
    pub fn decides_on_files(&self) -> Result<()> {
        for program in PROGRAMS {
            let state = self.objects.state(program);
            ensure!(
                state == ProgramState::Loaded || !program.makes_tier,
                "{}: {state:?}",
                program.name
            );
        }
        Ok(())
    }

    /// The cgroup.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Attaches the programs with these tables and puts them in force.
    pub fn enforce(
        &self,
        slot: u32,
        tables: &Tables,
        ring_bytes: u32,
    ) -> Result<(Attached, Rings)> {
        let target = Target::new(self.cgroup.folder(), self.cgroup.inode()?);
        let policy = Policy {
            tables,
            rings: WantedRings {
                bytes: ring_bytes,
                several: false,
                aggregate: false,
            },
            flags: 0,
            name_server: [0; 2],
        };
        let mut prover = Prover::start(self.cgroup.folder().as_fd())?;
        let (mut attached, rings) = self.objects.attach(
            &self.id,
            slot,
            &target,
            &policy,
            Home::FirstComers,
            &mut prover,
        )?;
        drop(prover);
        attached.arm(0)?;
        Ok((attached, rings))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // What is left is cleaned up by the next `skillsandbox run`.
        let _killed = self.cgroup.kill();
        let _removed = self.cgroup.remove();
        let _unlinked = self.objects.remove_stale(&self.id, &[]);
    }
}

/// A folder in memory that goes when this value does.
#[derive(Debug)]
pub struct Folder(pub Vec<u8>);

impl Folder {
    /// Makes `/tmp/NAME-PID`.
    pub fn new(name: &str) -> Result<Self> {
        let path = format!("/tmp/{name}-{}", std::process::id());
        fs::create_dir(&path).with_context(|| format!("make {path}"))?;
        Ok(Self(path.into_bytes()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // In a machine's memory it goes with the machine.
        let _left = fs::remove_dir_all(String::from_utf8_lossy(&self.0).as_ref());
    }
}
