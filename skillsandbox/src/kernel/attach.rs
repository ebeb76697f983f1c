//! One sandbox: its slot filled, the programs attached to its cgroup, the links pinned.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr, LsmCgroup, ProgramError,
    cgroup_sock_addr::CgroupSockAddrAttachType,
    links::{FdLink, LinkError, PinnedLink},
};
use skillsandbox_common::{
    names::{Hook, PROGRAMS, Program},
    slot::{FLAG_NAMES, SlotConfig, SlotCounters},
};

use super::objects::SANDBOXES;
use super::{
    AddressRules, Home, KernelError, Objects, Policy, ProgramState, Proof, Rings, bpffs, links,
    maps::Maps, prove::Prover, skips::Skips,
};
use crate::policy::Tables;

/// Why an LSM program that loads and attaches is never called.
const NOT_IN_LSM_LIST: &str = "it attaches and is never called: add `bpf` to the kernel's lsm= list \
    (see /sys/kernel/security/lsm)";

/// Why a program of the whole host does not decide for a cgroup.
const NOT_FOR_THIS_CGROUP: &str = "it attaches and does not decide for this cgroup: `bpf` is missing \
    in the kernel's lsm= list (see /sys/kernel/security/lsm), or the cgroup lies more than 8 levels \
    deep";

/// The cgroup of a sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The folder of the cgroup.
    pub cgroup: BorrowedFd<'a>,
    /// Its id: the inode number of the folder.
    pub cgroup_id: u64,
}

/// A sandbox in the kernel. Its links are pinned: it goes on enforcing when this process dies,
/// until [`detach`](Self::detach), or the next start cleans up.
#[derive(Debug)]
pub struct Attached {
    pub(super) slot: u32,
    pub(super) cgroup_id: u64,
    pub(super) links: PathBuf,
    pub(super) maps: Maps,
    pub(super) config: SlotConfig,
    pub(super) skips: Skips,
    pub(super) proofs: Vec<(&'static Program, Proof)>,
    pub(super) refused: Vec<(&'static Program, String)>,
}

impl Objects {
    /// Makes the slot's maps anew and attaches every program that the kernel took to the cgroup, proving of each that
    /// it denies. From its attachment on each decides by the rules, for whoever runs there, except for the prover's
    /// process: that is denied everything until [`Attached::arm`], and is on no record.
    pub fn attach(
        &self,
        id: &str,
        slot: u32,
        target: &Target<'_>,
        policy: &Policy<'_>,
        home: Home<'_>,
        prover: &mut Prover,
    ) -> Result<(Attached, Rings), KernelError> {
        let mut maps = Maps::open(self)?;
        maps.clear(slot)?;
        let rings = maps.furnish(slot, policy.tables, policy.rings)?;
        if let Home::Of(take) = home {
            take(&self.home_taker()?, slot)?;
        }
        let mut config = policy.config();
        config.probe = prover.cgroup_id();
        maps.configure(slot, &config)?;

        let links = self.links_of(id)?;
        links::end_all(&links)?;
        bpffs::make_private_folder(&links)?;
        let mut sandbox = Attached {
            slot,
            cgroup_id: target.cgroup_id,
            links,
            maps,
            config,
            skips: Skips::since_now(self)?,
            proofs: Vec::new(),
            refused: Vec::new(),
        };
        for program in PROGRAMS {
            if let ProgramState::Refused(reason) = self.state(program) {
                sandbox.refused.push((program, reason));
                continue;
            }
            let (proof, never_called) = match program.hook {
                // What decides nothing has nothing to prove, nor to claim.
                Hook::RawTracepoint(_) | Hook::Called => continue,
                Hook::SocketAnswer(_) => {
                    let link = self.link(program, target.cgroup)?;
                    pin(link, program.name, &sandbox.links)?;
                    // Before one that decides: it would find slot 0, and deny everything.
                    sandbox.maps.lead_programs(target.cgroup_id, slot)?;
                    continue;
                }
                Hook::Lsm(_) => {
                    // Another sandbox may have attached it: it is this cgroup that it comes to.
                    sandbox.maps.forget_cgroup(target.cgroup_id)?;
                    let ((), proof) = prover.prove(program, &sandbox.links, || {
                        self.share(program)?;
                        sandbox.maps.lead_shared(target.cgroup_id, slot)
                    })?;
                    (proof, NOT_FOR_THIS_CGROUP)
                }
                _ => {
                    let (link, proof) = prover.prove(program, &sandbox.links, || {
                        let link = self.link(program, target.cgroup)?;
                        pin(link, program.name, &sandbox.links)
                    })?;
                    if proof == Proof::NeverCalled {
                        link.unpin()
                            .map_err(KernelError::path("unpin", &sandbox.links))?;
                    }
                    (proof, NOT_IN_LSM_LIST)
                }
            };
            match (proof, program.hook) {
                (Proof::NeverCalled, Hook::LsmCgroup(_) | Hook::Lsm(_)) => {
                    sandbox.refused.push((program, never_called.to_owned()));
                }
                (Proof::NeverCalled, _) => {
                    return Err(KernelError::NeverCalled { name: program.name });
                }
                (proof, _) => sandbox.proofs.push((program, proof)),
            }
        }
        Ok((sandbox, rings))
    }

    /// Removes what a sandbox of this id, whose process is gone, left in the kernel. Call it
    /// when nothing runs in its cgroup any more.
    pub fn remove_stale(&self, id: &str, slots: &[u32]) -> Result<(), KernelError> {
        // First what decides, then by what: whoever runs there is not denied anything on the way.
        links::end_all(&self.links_of(id)?)?;
        for slot in slots {
            Maps::open(self)?.clear(*slot)?;
        }
        Ok(())
    }

    /// The slots that a cgroup is traced for: those of sandboxes that live.
    pub fn slots_in_use(&self) -> Result<Vec<u32>, KernelError> {
        Ok(Maps::open(self)?.traced_slots())
    }

    /// What the programs have counted in a slot.
    pub fn counters(&self, slot: u32) -> Result<SlotCounters, KernelError> {
        Maps::open(self)?.counters(slot)
    }

    /// The ids of the sandboxes that have pinned links.
    pub fn linked(&self) -> Result<Vec<String>, KernelError> {
        let folder = self.links_folder()?;
        let names = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let names = names.map_err(KernelError::path("list", &folder))?;
        Ok(names
            .iter()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect())
    }

    fn links_folder(&self) -> Result<PathBuf, KernelError> {
        let folder = self.root().join(SANDBOXES);
        bpffs::make_private_folder(&folder)?;
        Ok(folder)
    }

    pub(super) fn links_of(&self, id: &str) -> Result<PathBuf, KernelError> {
        Ok(self.links_folder()?.join(id))
    }

    fn link(
        &self,
        program: &'static Program,
        cgroup: BorrowedFd<'_>,
    ) -> Result<FdLink, KernelError> {
        let refused = refusal(program);
        let path = self.pin_of(program.name);
        match program.hook {
            Hook::LsmCgroup(_) => {
                let mut loaded = LsmCgroup::from_pin(path).map_err(&refused)?;
                let id = loaded.attach(cgroup).map_err(&refused)?;
                Ok(loaded.take_link(id).map_err(&refused)?.into())
            }
            Hook::SocketAddress(hook) | Hook::SocketAnswer(hook) => {
                let kind = match hook {
                    "connect4" => CgroupSockAddrAttachType::Connect4,
                    "connect6" => CgroupSockAddrAttachType::Connect6,
                    "sendmsg4" => CgroupSockAddrAttachType::UDPSendMsg4,
                    "sendmsg6" => CgroupSockAddrAttachType::UDPSendMsg6,
                    "recvmsg4" => CgroupSockAddrAttachType::UDPRecvMsg4,
                    "recvmsg6" => CgroupSockAddrAttachType::UDPRecvMsg6,
                    "getpeername4" => CgroupSockAddrAttachType::GetPeerName4,
                    "getpeername6" => CgroupSockAddrAttachType::GetPeerName6,
                    "bind4" => CgroupSockAddrAttachType::Bind4,
                    _ => CgroupSockAddrAttachType::Bind6,
                };
                let mut loaded = CgroupSockAddr::from_pin(path, kind).map_err(&refused)?;
                // A link always allows others beside it, and takes no flag that says so
                // (`cgroup_bpf_link_attach`, `kernel/bpf/cgroup.c`).
                let id = loaded
                    .attach(cgroup, CgroupAttachMode::Single)
                    .map_err(&refused)?;
                let link = loaded.take_link(id).map_err(&refused)?;
                link.try_into().map_err(not_a_link(program))
            }
            Hook::Packet(direction) => {
                let kind = match direction {
                    "ingress" => CgroupSkbAttachType::Ingress,
                    _ => CgroupSkbAttachType::Egress,
                };
                let mut loaded = CgroupSkb::from_pin(path, kind).map_err(&refused)?;
                let id = loaded
                    .attach(cgroup, kind, CgroupAttachMode::Single)
                    .map_err(&refused)?;
                let link = loaded.take_link(id).map_err(&refused)?;
                link.try_into().map_err(not_a_link(program))
            }
            Hook::Lsm(_) | Hook::RawTracepoint(_) | Hook::Called => Err(KernelError::Attach {
                name: program.name,
                reason: "it is attached to the host, not to a cgroup".to_owned(),
            }),
        }
    }
}

impl Attached {
    /// The programs attached to the cgroup, with what was seen of each.
    #[must_use]
    pub fn attached(&self) -> &[(&'static Program, Proof)] {
        &self.proofs
    }

    /// The programs that the kernel refused, with its reasons.
    #[must_use]
    pub fn refused(&self) -> &[(&'static Program, String)] {
        &self.refused
    }

    /// Has the rules decide for everybody, with `flags` as those of [`SlotConfig`] that the attached programs call for
    /// beside the policy's. The prover must be gone.
    pub fn arm(&mut self, flags: u32) -> Result<(), KernelError> {
        self.config.flags |= flags;
        self.config.probe = 0;
        self.maps.configure(self.slot, &self.config)?;
        self.maps.lead_shared(self.cgroup_id, self.slot)
    }

    /// Gives its rules to a sandbox that was made without any, with these flags of [`SlotConfig`] beside its own. Nothing
    /// may have run in it. What the kernel skipped counts from here on.
    pub fn fit(
        &mut self,
        objects: &Objects,
        tables: &Tables,
        flags: u32,
    ) -> Result<(), KernelError> {
        self.maps.write(self.slot, tables)?;
        let config = Policy::config_of(tables);
        self.config = SlotConfig {
            flags: config.flags | self.config.flags | flags,
            name_server: self.config.name_server,
            ..config
        };
        self.skips = Skips::since_now(objects)?;
        self.maps.configure(self.slot, &self.config)
    }

    /// Puts other rules in force. Meanwhile everything is denied.
    pub fn rearm(&mut self, tables: &Tables) -> Result<(), KernelError> {
        self.maps.refill(self.slot, tables)?;
        let flags = self.config.flags & !FLAG_NAMES;
        self.config = SlotConfig {
            name_server: self.config.name_server,
            ..Policy::config_of(tables)
        };
        self.arm(flags)
    }

    /// The address rules in force, to be changed while they are.
    pub fn address_rules(&self) -> Result<AddressRules, KernelError> {
        self.maps.address_rules(self.slot)
    }

    /// What the programs have counted.
    pub fn counters(&self) -> Result<SlotCounters, KernelError> {
        self.maps.counters(self.slot)
    }

    /// Events of the whole host, since this sandbox was made, that the kernel did not run a
    /// tracepoint's program for: at most so many records of this sandbox were never begun.
    pub fn skipped(&self) -> Result<u64, KernelError> {
        self.skips.count()
    }

    /// Takes everything of this sandbox out of the kernel. Call it when nothing runs in the
    /// cgroup any more.
    pub fn detach(mut self) -> Result<(), KernelError> {
        self.maps.clear(self.slot)?;
        links::end_all(&self.links)
    }
}

pub(super) fn refusal(program: &'static Program) -> impl Fn(ProgramError) -> KernelError {
    move |error| {
        let reason = match &error {
            // `BPF_PROG_ATTACH` of an eleventh LSM hook, `CGROUP_LSM_NUM` in the kernel.
            ProgramError::SyscallError(call)
                if call.io_error.raw_os_error() == Some(libc::E2BIG) =>
            {
                "this host has ten cgroup LSM hooks in use already, the most the kernel has"
                    .to_owned()
            }
            ProgramError::SyscallError(call) => format!("{}: {}", call.call, call.io_error),
            _ => error.to_string(),
        };
        KernelError::Attach {
            name: program.name,
            reason,
        }
    }
}

fn not_a_link(program: &'static Program) -> impl Fn(LinkError) -> KernelError {
    |error| KernelError::Attach {
        name: program.name,
        reason: error.to_string(),
    }
}

pub(super) fn pin(link: FdLink, name: &str, folder: &Path) -> Result<PinnedLink, KernelError> {
    let path = folder.join(name);
    link.pin(&path).map_err(|source| KernelError::Pin {
        what: format!("link of {name}"),
        path,
        source,
    })
}

impl<'a> Target<'a> {
    /// The cgroup of this folder.
    #[must_use]
    pub fn new(cgroup: &'a impl AsFd, cgroup_id: u64) -> Self {
        Self {
            cgroup: cgroup.as_fd(),
            cgroup_id,
        }
    }
}
