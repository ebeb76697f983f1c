//! The chains of iptables of one sandbox: made, proved, closed, and removed.

use std::thread;

use super::{error::RunError, sandbox::Wanted};
use crate::{
    audit::record::Layer,
    isolate::firewall::{self, Family, Firewall, FirewallError},
    kernel::{
        KernelError, Proof,
        prove::{PROBED, Prover},
    },
    policy::Tables,
};

pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Why a chain is not there.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// Makes a chain in each family, and says of each what was seen of it. It refuses nothing yet.
pub(super) fn open(
    id: &str,
    wanted: &Wanted,
    prover: &mut Prover,
) -> Result<(Vec<Firewall>, Vec<Layer>), RunError> {
    let (mut made, mut layers) = (Vec::new(), Vec::new());
    for family in FAMILIES {
        let name = family.program().to_owned();
        let layer = |achieved, detail: String| Layer {
            name,
            achieved,
            detail: Some(detail),
        };
        if wanted.without_firewalls() {
            layers.push(layer(false, "switched off for a test".to_owned()));
            continue;
        }
        let install = || Ok(Firewall::install(family, id, PROBED)?);
        match prover.prove_by::<_, OpenError>(family.program(), install) {
            Ok((firewall, proof)) => {
                layers.push(match proof {
                    Proof::Denies => layer(
                        true,
                        "refused a probe's packet that had gone through before".to_owned(),
                    ),
                    Proof::NotPossible(reason) => layer(
                        false,
                        format!("its chain is there; it could not be tried here: {reason}"),
                    ),
                    Proof::NeverCalled => layer(
                        false,
                        "its chain is there, and is not asked about this cgroup".to_owned(),
                    ),
                });
                made.push(firewall);
            }
            Err(OpenError::Firewall(error)) => layers.push(layer(false, error.to_string())),
            Err(OpenError::Kernel(error)) => return Err(error.into()),
        }
    }
    Ok((made, layers))
}

/// Has the chains let through what the tables and the name server say, and nothing else. One that
/// cannot be closed is no layer.
pub(super) fn close(
    firewalls: Vec<Firewall>,
    name_server: [u16; 2],
    tables: &Tables,
    layers: &mut [Layer],
) -> Vec<Firewall> {
    // Most of each change is a wait for the kernel.
    let outcomes: Vec<_> = thread::scope(|scope| {
        let closing = firewalls.into_iter().map(|mut firewall| {
            scope.spawn(move || {
                let [v4, v6] = name_server;
                let name_server = match firewall.family() {
                    Family::V4 => v4,
                    Family::V6 => v6,
                };
                let rules = tables.networks.iter();
                let rules = rules.map(|entry| (entry.network, entry.rule));
                let outcome = firewall.close(name_server, tables.listen, rules);
                (firewall, outcome)
            })
        });
        joined(closing.collect())
    });
    let mut closed = Vec::new();
    for (firewall, outcome) in outcomes {
        match outcome {
            Ok(()) => closed.push(firewall),
            Err(error) => {
                let name = firewall.family().program();
                for layer in layers.iter_mut().filter(|layer| layer.name == name) {
                    layer.achieved = false;
                    layer.detail = Some(error.to_string());
                }
            }
        }
    }
    closed
}

/// Whether each chain is there still, and closed.
pub(super) fn are_closed(firewalls: &[Firewall]) -> bool {
    thread::scope(|scope| {
        let looking = firewalls.iter();
        let looking = looking.map(|firewall| scope.spawn(|| firewall.is_closed()));
        let found = joined(looking.collect());
        found.into_iter().all(|found| matches!(found, Ok(true)))
    })
}

/// Removes the chains of a sandbox, where they are. Tables that cannot be looked at are no reason to leave
/// the rest of a sandbox behind: a chain that stays is about a cgroup that is gone.
pub(super) fn remove(id: &str, families: &[Family]) {
    let outcomes: Vec<_> = thread::scope(|scope| {
        let removing = families.iter().map(|family| {
            let family = *family;
            scope.spawn(move || firewall::remove(family, id))
        });
        joined(removing.collect())
    });
    for error in outcomes.into_iter().filter_map(Result::err) {
        tracing::warn!(%error, id, "a chain of this sandbox may be left");
    }
}

/// What threads came to. A panic of theirs is ours.
fn joined<T>(threads: Vec<thread::ScopedJoinHandle<'_, T>>) -> Vec<T> {
    let joined = threads.into_iter().map(|thread| {
        let outcome = thread.join();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    joined.collect()
}
