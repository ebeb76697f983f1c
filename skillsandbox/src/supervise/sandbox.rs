//! The parts of a sandbox outside its own processes: a place in the registry, a cgroup, and the
//! programs attached to it. Made in this order, taken down in the reverse one.

use std::{
    io,
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use skillsandbox_common::{
    names::Program,
    rule::NetworkRule,
    slot::{FLAG_AGGREGATE, FLAG_OVERFLOW_DENY, FLAG_TRACE_CALLS, FLAG_TRACE_REFUSED},
};

use super::{
    error::RunError,
    firewall,
    registry::{Place, Registry},
};
use crate::{
    audit::record::Layer,
    isolate::{
        cgroup::{Cgroup, Hierarchy, Limit, Resources},
        firewall::{Family, Firewall},
    },
    kernel::{Attached, Home, Objects, Policy, Proof, Rings, Target, WantedRings, prove::Prover},
    policy::Tables,
};

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of the enforcement is eBPF's, as found by behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tier {
    /// BPF LSM works: eBPF decides on opens and execs.
    Kernel,
    /// It does not, for this reason: mounts, Landlock and seccomp decide, tracepoints record.
    Fallback(String),
}

impl Tier {
    /// The name used in every output.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Fallback(_) => "fallback",
        }
    }

    /// The flag for the programs that record opens and execs where none decides on them.
    pub(super) fn calls_to_trace(&self) -> u32 {
        match self {
            Self::Kernel => 0,
            Self::Fallback(_) => FLAG_TRACE_CALLS,
        }
    }

    /// The kernel tier takes a proof of every program that makes it: attached is not enough.
    pub(super) fn of(attached: &Attached) -> Self {
        // In the order of importance to a reader, which is the reverse of that of attaching.
        let mut refused = attached.refused().iter().rev();
        if let Some((program, reason)) = refused.find(|(program, _)| program.makes_tier) {
            return Self::Fallback(format!("{}: {reason}", program.name));
        }
        let unproved = attached
            .attached()
            .iter()
            .find(|(program, proof)| program.makes_tier && *proof != Proof::Denies);
        match unproved {
            None => Self::Kernel,
            Some((program, _)) => Self::Fallback(format!(
                "{}: it could not be proved to deny, as the access is refused without it too",
                program.name
            )),
        }
    }
}

/// What is wanted of the kernel side beside the rules.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    feature = "test-layers",
    expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")
)]
pub(super) struct Wanted {
    pub(super) resources: Resources,
    /// At the default of 4 MiB the rings of events have room for some 30,000 of ordinary length.
    pub(super) rings: WantedRings,
    pub(super) deny_on_overflow: bool,
    pub(super) record_refused: bool,
    /// Attach no programs: only in builds for tests.
    #[cfg(feature = "test-layers")]
    pub(super) without_programs: bool,
    /// Make no chains of iptables: only in builds for tests.
    #[cfg(feature = "test-layers")]
    pub(super) without_firewalls: bool,
}

/// Only a build for tests leaves layers out.
#[cfg_attr(
    not(feature = "test-layers"),
    expect(
        clippy::unused_self,
        reason = "only a build for tests leaves layers out"
    )
)]
impl Wanted {
    fn flags(&self) -> u32 {
        let flags = [
            (self.deny_on_overflow, FLAG_OVERFLOW_DENY),
            (self.rings.aggregate, FLAG_AGGREGATE),
            (self.record_refused, FLAG_TRACE_REFUSED),
        ];
        let wanted = flags.iter().filter(|(is_wanted, _)| *is_wanted);
        wanted.fold(0, |all, (_, flag)| all | flag)
    }

    fn without_programs(&self) -> bool {
        #[cfg(feature = "test-layers")]
        let without = self.without_programs;
        #[cfg(not(feature = "test-layers"))]
        let without = false;
        without
    }

    pub(super) fn without_firewalls(&self) -> bool {
        #[cfg(feature = "test-layers")]
        let without = self.without_firewalls;
        #[cfg(not(feature = "test-layers"))]
        let without = false;
        without
    }
}

/// The parts of a sandbox.
struct Made {
    cgroup: Cgroup,
    attached: Attached,
    rings: Rings,
    limits: Vec<(&'static str, Limit)>,
    firewalls: Vec<Firewall>,
    firewall_layers: Vec<Layer>,
    chains: Vec<Family>,
}

/// A sandbox in which nothing runs yet, and whose rules are in force.
#[derive(Debug)]
pub(super) struct Sandbox {
    objects: Objects,
    place: Place,
    cgroup: Cgroup,
    attached: Arc<Attached>,
    firewalls: Vec<Layer>,
    /// Families in whose tables a chain was made.
    chains: Vec<Family>,
    pub(super) tier: Tier,
    pub(super) limits: Vec<(&'static str, Limit)>,
}

impl Sandbox {
    /// Cleans up after the dead, then makes a sandbox. What was made is undone when a later part
    /// fails. The name server is at these ports of 127.0.0.1 and of `::1`; 0 where there is none.
    pub(super) fn make(
        name: &str,
        tables: &Tables,
        name_server: [u16; 2],
        wanted: Wanted,
    ) -> Result<(Self, Rings, Vec<Firewall>), RunError> {
        let registry = Registry::lock()?;
        let objects = Objects::open(registry.folder())?;
        #[cfg(feature = "test-layers")]
        let objects = objects.leaving_out_programs(wanted.without_programs);
        let hierarchy = Hierarchy::find()?;
        let cleaned = registry.clean_up(&objects, &hierarchy)?;
        if cleaned > 0 {
            tracing::warn!(cleaned, "removed sandboxes whose supervisor had died");
        }
        let place = registry.enter(name, &objects)?;
        match Self::make_in(&objects, &hierarchy, &place, tables, name_server, wanted) {
            Ok(Made {
                cgroup,
                attached,
                rings,
                limits,
                firewalls,
                firewall_layers,
                chains,
            }) => {
                let sandbox = Self {
                    objects,
                    place,
                    cgroup,
                    tier: Tier::of(&attached),
                    attached: Arc::new(attached),
                    firewalls: firewall_layers,
                    chains,
                    limits,
                };
                Ok((sandbox, rings, firewalls))
            }
            Err(error) => {
                drop(place);
                // The place is unlocked now, so this is the clean-up of a dead sandbox.
                registry.clean_up(&objects, &hierarchy)?;
                Err(error)
            }
        }
    }

    fn make_in(
        objects: &Objects,
        hierarchy: &Hierarchy,
        place: &Place,
        tables: &Tables,
        name_server: [u16; 2],
        wanted: Wanted,
    ) -> Result<Made, RunError> {
        let cgroup = hierarchy.create(&place.id)?;
        let limits = cgroup.limit(&wanted.resources);
        let mut prover = Prover::start(cgroup.folder().as_fd())?;
        // Proved before anything else could refuse a packet, and closed when all is proved.
        let (firewalls, mut layers) = firewall::open(&place.id, &wanted, &mut prover)?;
        let chains = firewalls.iter().map(Firewall::family).collect();
        let target = Target::new(cgroup.folder(), cgroup.inode()?);
        let slot = place.slot;
        let policy = Policy {
            tables,
            rings: wanted.rings,
            flags: wanted.flags(),
            name_server,
        };
        let (mut attached, rings) = objects.attach(
            &place.id,
            slot,
            &target,
            &policy,
            Home::FirstComers,
            &mut prover,
        )?;
        drop(prover);
        let firewalls = firewall::close(firewalls, name_server, tables, &mut layers);
        let traced = Tier::of(&attached).calls_to_trace();
        // Without programs nothing is attached that would look for its slot.
        if !wanted.without_programs() {
            objects
                .trace((traced | policy.flags) & (FLAG_TRACE_CALLS | FLAG_TRACE_REFUSED) != 0)?;
            attached.arm(traced)?;
        }
        Ok(Made {
            cgroup,
            attached,
            rings,
            limits,
            firewalls,
            firewall_layers: layers,
            chains,
        })
    }

    /// Gives its rules and limits to one that was made without any, and in which nothing has run. Its chains of iptables are
    /// those that it came with.
    pub(super) fn fit(
        &mut self,
        firewalls: Vec<Firewall>,
        tables: &Tables,
        name_server: [u16; 2],
        wanted: &Wanted,
    ) -> Result<Vec<Firewall>, RunError> {
        self.limits = self.cgroup.limit(&wanted.resources);
        let in_use = || RunError::process("fit a sandbox")(io::Error::other("it is in use"));
        let attached = Arc::get_mut(&mut self.attached).ok_or_else(in_use)?;
        attached.fit(&self.objects, tables, wanted.flags())?;
        // The chains let through nothing but the name server already.
        if tables.networks.is_empty() && tables.listen == NetworkRule::default() {
            return Ok(firewalls);
        }
        let chains = firewalls.len();
        let firewalls = firewall::close(firewalls, name_server, tables, &mut self.firewalls);
        if firewalls.len() < chains {
            // It refuses everything still, and would for as long as the run.
            let error = io::Error::other("iptables does not take its rules");
            return Err(RunError::process("fit a sandbox")(error));
        }
        Ok(firewalls)
    }

    pub(super) fn id(&self) -> &str {
        &self.place.id
    }

    #[cfg(feature = "bpf-log")]
    pub(super) fn program_log(&self) -> Option<aya_log::EbpfLogger<&'static dyn log::Log>> {
        self.objects.log()
    }

    pub(super) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    pub(super) fn attached(&self) -> Arc<Attached> {
        Arc::clone(&self.attached)
    }

    /// What the eBPF programs and the cgroup achieved.
    pub(super) fn layers(&self) -> Vec<Layer> {
        let limits = self.limits.iter().map(|(name, limit)| Layer {
            name: format!("cgroup {name}"),
            achieved: matches!(limit, Limit::Set(_)),
            detail: Some(match limit {
                Limit::Set(value) => value.clone(),
                Limit::Unavailable(reason) => reason.clone(),
            }),
        });
        let firewalls = self.firewalls.iter().cloned();
        let programs = programs(&self.attached);
        programs.chain(firewalls).chain(limits).collect()
    }

    /// Kills whatever is left in the sandbox and waits until it is gone.
    pub(super) fn kill(&self) -> Result<(), RunError> {
        let started = Instant::now();
        let mut pause = Duration::from_micros(50);
        while self.cgroup.is_populated()? {
            self.cgroup.kill()?;
            if started.elapsed() > PATIENCE {
                return Err(RunError::Unkillable {
                    cgroup: self.cgroup.path().to_owned(),
                });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Removes everything. The recorder must have given its part back.
    pub(super) fn take_down(self) -> Result<(), RunError> {
        // While something runs in the cgroup everything stays: it is confined, and the next start
        // tries again.
        self.kill()?;
        let registry = Registry::lock()?;
        firewall::remove(&self.place.id, &self.chains);
        self.cgroup.remove()?;
        match Arc::into_inner(self.attached) {
            Some(attached) => attached.detach()?,
            // A recorder that never ended holds the other part.
            None => self
                .objects
                .remove_stale(&self.place.id, &[self.place.slot])?,
        }
        if registry.is_empty_but_for(&self.place.id)? {
            self.objects.stop_sharing()?;
        }
        self.place.leave()
    }
}

/// What the eBPF programs achieved.
pub(super) fn programs(attached: &Attached) -> impl Iterator<Item = Layer> {
    let layer = |program: &Program, achieved, detail: String| Layer {
        name: format!("ebpf {}", program.name),
        achieved,
        detail: Some(detail),
    };
    let proved = attached.attached().iter().map(move |(program, proof)| {
        let detail = match proof {
            Proof::Denies => "denied a probe's access that had gone through before".to_owned(),
            Proof::NotPossible(reason) => {
                format!("attached; could not be tried here: {reason}")
            }
            Proof::NeverCalled => "attached and not called".to_owned(),
        };
        layer(program, *proof == Proof::Denies, detail)
    });
    let refused = attached.refused().iter();
    proved.chain(refused.map(move |(program, reason)| layer(program, false, reason.clone())))
}
