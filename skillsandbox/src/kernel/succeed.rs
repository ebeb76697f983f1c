//! One policy of a cgroup after another: an access is decided by the one or by the other, and never by none.
//!
//! The links stay as they are. The next policy is complete in a slot of its own before the one write that leads the
//! cgroup's programs there, and one more for the programs that are shared.

use skillsandbox_common::slot::FLAG_TRACE_CALLS;

use super::{Attached, KernelError, Objects, Policy, Rings, links, maps::Maps, skips::Skips};

impl Objects {
    /// What an earlier process attached, and its rings, which go on where that one has read them to.
    pub fn reopen(
        &self,
        id: &str,
        slot: u32,
        cgroup_id: u64,
    ) -> Result<(Attached, Rings), KernelError> {
        let maps = Maps::open(self)?;
        let rings = maps.rings(slot)?;
        let attached = Attached {
            slot,
            cgroup_id,
            links: self.links_of(id)?,
            config: maps.config(slot)?,
            maps,
            skips: Skips::since_now(self)?,
            proofs: Vec::new(),
            refused: Vec::new(),
        };
        Ok((attached, rings))
    }

    /// Empties a slot that no program decides by, whatever has been made of it.
    pub fn empty(&self, slot: u32) -> Result<(), KernelError> {
        Maps::open(self)?.clear(slot)
    }

    /// The slot by which the programs of a cgroup decide, if any are attached to it. Of one that was removed none are, soon
    /// after: it is the kernel's word for that, whatever of its folders can be seen from here.
    pub fn slot_of(&self, cgroup_id: u64) -> Result<Option<u32>, KernelError> {
        Maps::open(self)?.slot_of(cgroup_id)
    }

    /// Has no program decide for a cgroup any more: when it returns, none does. Nothing is denied on the way, and what
    /// was recorded stays on the rings.
    pub fn let_go(&self, id: &str, cgroup_id: u64) -> Result<(), KernelError> {
        let mut maps = Maps::open(self)?;
        let slot = maps.slot_of(cgroup_id)?;
        links::end_all(&self.links_of(id)?)?;
        maps.forget_cgroup(cgroup_id)?;
        slot.map_or(Ok(()), |slot| maps.wait_for_programs(slot))
    }
}

impl Attached {
    /// Makes the next policy of this cgroup in a slot of its own, where nobody decides by it yet. Paths mean what they meant.
    pub fn prepare(
        &self,
        objects: &Objects,
        slot: u32,
        policy: &Policy<'_>,
    ) -> Result<(Self, Rings), KernelError> {
        let mut maps = Maps::open(objects)?;
        maps.clear(slot)?;
        let rings = maps.furnish(slot, policy.tables, policy.rings)?;
        maps.copy_home(self.slot, slot)?;
        let mut config = policy.config();
        config.flags |= self.config.flags & FLAG_TRACE_CALLS;
        maps.configure(slot, &config)?;
        let next = Self {
            slot,
            cgroup_id: self.cgroup_id,
            links: self.links.clone(),
            maps,
            config,
            skips: Skips::since_now(objects)?,
            proofs: self.proofs.clone(),
            refused: self.refused.clone(),
        };
        Ok((next, rings))
    }

    /// Has this policy decide from now on. When it returns, no program decides by the one before any more: the counters
    /// of that do not change, and nothing comes to its rings.
    pub fn take_over(&mut self) -> Result<(), KernelError> {
        self.maps.lead_programs(self.cgroup_id, self.slot)?;
        self.maps.lead_shared(self.cgroup_id, self.slot)?;
        self.maps.wait_for_programs(self.slot)
    }

    /// Empties the slot of a policy that another one took over from.
    pub fn retire(mut self) -> Result<(), KernelError> {
        self.maps.clear(self.slot)
    }
}
