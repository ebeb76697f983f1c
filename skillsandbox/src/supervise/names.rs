//! The addresses of the names that a manifest declares, asked for once, at the start.

use std::{collections::BTreeMap, fmt::Write, net::IpAddr, time::Duration};

use super::error::RunError;
use crate::{
    audit::describe::Names,
    manifest::{Destination, DomainPattern, Manifest},
};

/// How long one name may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Declared names and their addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses(BTreeMap<String, Vec<IpAddr>>);

impl Addresses {
    /// Asks this host's resolver for every declared name.
    pub(super) async fn resolve(manifest: &Manifest, file: &str) -> Result<Self, RunError> {
        let mut found = BTreeMap::new();
        for entry in &manifest.permissions.network.egress {
            let Destination::Domain(DomainPattern::Exact(name)) = &entry.value.destination else {
                continue;
            };
            if found.contains_key(name) {
                continue;
            }
            let unresolved = |reason: String| RunError::Unresolved {
                file: file.to_owned(),
                line: entry.line,
                name: name.clone(),
                reason,
            };
            let answer =
                tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name.as_str(), 0)))
                    .await
                    .map_err(|_elapsed| {
                        unresolved(format!("no answer in {} s", PATIENCE.as_secs()))
                    })?
                    .map_err(|error| unresolved(error.to_string()))?;
            let mut addresses: Vec<IpAddr> =
                answer.map(|socket| socket.ip().to_canonical()).collect();
            addresses.sort();
            addresses.dedup();
            if addresses.is_empty() {
                return Err(unresolved("it has no address".to_owned()));
            }
            found.insert(name.clone(), addresses);
        }
        Ok(Self(found))
    }

    /// The addresses of a name.
    pub(super) fn of(&self, name: &str) -> &[IpAddr] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// `/etc/hosts` of the sandbox: loopback, and what was found.
    pub(super) fn hosts_file(&self, hostname: &str) -> String {
        let mut hosts = format!("127.0.0.1 localhost {hostname}\n::1 localhost {hostname}\n");
        for (name, addresses) in &self.0 {
            for address in addresses {
                let _infallible = writeln!(hosts, "{address} {name}");
            }
        }
        hosts
    }
}

impl Names for Addresses {
    fn name_of(&self, address: IpAddr) -> Option<String> {
        let named = self
            .0
            .iter()
            .find(|(_, addresses)| addresses.contains(&address));
        named.map(|(name, _)| name.clone())
    }
}
