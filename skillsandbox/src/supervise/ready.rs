//! A sandbox with everything that it takes to run a skill in it. It can be made before it is known which.

use super::{
    error::RunError,
    sandbox::{Sandbox, Tier, Wanted},
};
use crate::{
    dns::Sockets,
    isolate::{cgroup::Resources, firewall::Firewall},
    kernel::{Rings, WantedRings},
    manifest::RUN_RING_KIB,
    policy::Tables,
};

/// What the id of a sandbox begins with that is made ahead.
const NAME: &str = "run";
/// The rings that a manifest has which asks for no others.
const RINGS: WantedRings = WantedRings {
    bytes: RUN_RING_KIB << 10,
    several: true,
    aggregate: false,
};

/// A sandbox in which nothing has run.
pub(super) struct Ready {
    pub(super) sandbox: Sandbox,
    pub(super) rings: Rings,
    pub(super) firewalls: Vec<Firewall>,
    pub(super) sockets: Sockets,
}

impl Ready {
    /// Makes it with these rules.
    pub(super) fn make(name: &str, tables: &Tables, wanted: Wanted) -> Result<Self, RunError> {
        let sockets = Sockets::bind().map_err(RunError::process("bind the name server"))?;
        let (sandbox, rings, firewalls) = Sandbox::make(name, tables, sockets.ports, wanted)?;
        Ok(Self {
            sandbox,
            rings,
            firewalls,
            sockets,
        })
    }

    /// Makes it without any rules, and proves that it denies: everything, until it is fitted.
    pub(super) fn make_ahead() -> Result<Self, RunError> {
        let wanted = Wanted {
            resources: Resources {
                memory_bytes: None,
                processes: None,
                cpu_shares: None,
            },
            rings: RINGS,
            deny_on_overflow: false,
            record_refused: false,
            #[cfg(feature = "test-layers")]
            without_programs: false,
            #[cfg(feature = "test-layers")]
            without_firewalls: false,
        };
        Self::make(NAME, &Tables::default(), wanted)
    }

    /// Makes one that was made ahead what is wanted, if its tier will do, its chains of iptables are closed still and it can be; if
    /// not, another one.
    pub(super) fn fit_or_make(
        ahead: Option<Self>,
        name: &str,
        tables: &Tables,
        wanted: Wanted,
        will_do: impl FnOnce(&Tier) -> bool,
        are_closed: impl FnOnce(&[Firewall]) -> bool,
    ) -> Result<Self, RunError> {
        if let Some(ready) = ahead {
            let suits = wanted.rings == RINGS
                // These are traced for the whole host, which is not done ahead.
                && !wanted.record_refused
                // What was refused for a while may not be any more.
                && will_do(&ready.sandbox.tier)
                && are_closed(&ready.firewalls);
            if suits {
                match ready.fit(tables, &wanted) {
                    Ok(ready) => return Ok(ready),
                    Err(error) => {
                        tracing::warn!(%error, "a sandbox that was made ahead is not used");
                    }
                }
            } else {
                tracing::debug!("a sandbox that was made ahead does not suit");
                ready.take_down();
            }
        }
        Self::make(name, tables, wanted)
    }

    /// Gives its rules to one that was made ahead. It is gone when that fails.
    fn fit(mut self, tables: &Tables, wanted: &Wanted) -> Result<Self, RunError> {
        self.sockets.empty();
        let firewalls = std::mem::take(&mut self.firewalls);
        let name_server = self.sockets.ports;
        match self.sandbox.fit(firewalls, tables, name_server, wanted) {
            Ok(firewalls) => Ok(Self { firewalls, ..self }),
            Err(error) => {
                self.take_down();
                Err(error)
            }
        }
    }

    /// Removes it, unused. What cannot be removed the next start removes.
    pub(super) fn take_down(self) {
        if let Err(error) = self.sandbox.take_down() {
            tracing::error!(%error, "a sandbox that was made ahead could not be taken down: the next start tries again");
        }
    }
}
