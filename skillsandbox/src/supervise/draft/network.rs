//! What of the network a manifest asks for.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    os::unix::ffi::OsStrExt,
};

use skillsandbox_common::{
    header::Reason,
    rule::{Access, Protocols},
};

use super::{Draft, MAY_BE_OTHERS, NeedsKernelTier};
use crate::{
    isolate::paths,
    manifest::{AbsolutePath, Destination, DomainPattern, Egress, Manifest, Protocol, Spanned},
    policy::{Network, Subject},
    supervise::{error::RunError, plan::line_of},
};

impl Draft {
    pub(in crate::supervise) fn network(&mut self, manifest: &Manifest) -> Result<(), RunError> {
        for entry in &manifest.permissions.network.egress {
            self.destination(entry)?;
        }
        for ports in &manifest.permissions.network.listen {
            let (first, last) = (ports.value.first(), ports.value.last());
            let text = format!("network.listen {}/tcp", ports.value);
            let subject = Subject::Listen { first, last };
            self.rules.push(subject, text, line_of(ports));
        }
        for socket in &manifest.permissions.network.unix {
            self.unix_socket(socket)?;
        }
        Ok(())
    }

    pub(in crate::supervise) fn destination(
        &mut self,
        entry: &Spanned<Egress>,
    ) -> Result<(), RunError> {
        let line = line_of(entry);
        match &entry.value.destination {
            Destination::Cidr(cidr) => {
                let network = Network::new(cidr.address(), cidr.prefix_length())?;
                let subject = |first, last, protocols| Subject::Address {
                    network,
                    first,
                    last,
                    protocols,
                };
                self.egress(&entry.value, &network.to_string(), line, subject);
            }
            Destination::Domain(pattern) => {
                let subject = |first, last, protocols| Subject::Host {
                    pattern: pattern.clone(),
                    first,
                    last,
                    protocols,
                };
                self.egress(&entry.value, &pattern.to_string(), line, subject);
                if *pattern == DomainPattern::Exact("localhost".to_owned()) {
                    self.localhost(&entry.value, line);
                }
            }
        }
        Ok(())
    }

    fn unix_socket(&mut self, socket: &Spanned<AbsolutePath>) -> Result<(), RunError> {
        let resolved = paths::resolve(socket.value.as_path())?;
        let paths::SocketFile { device, inode } = paths::socket_file(&resolved.real)?;
        let path = resolved.real.as_os_str().as_bytes().to_vec();
        let denied = self.rules.decide_file(&path, Access::READ);
        if denied.reason == Reason::DenyRule {
            return Err(RunError::Denied {
                path: socket.value.to_string(),
                rule: self
                    .rules
                    .get(denied.rule.into())
                    .map_or_else(String::new, |rule| rule.text.clone()),
            });
        }
        let subject = Subject::Unix {
            path,
            device,
            inode,
        };
        let text = format!("network.unix {}", socket.value);
        self.needs_kernel_tier = Some(NeedsKernelTier {
            rule: text.clone(),
            line: socket.line,
            why: MAY_BE_OTHERS,
        });
        self.rules.push(subject, text, line_of(socket));
        self.have_links(resolved.links);
        Ok(())
    }

    /// The one name that no name server is asked for: it is in the sandbox's `/etc/hosts`.
    fn localhost(&mut self, entry: &Egress, line: Option<usize>) {
        for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let network = Network::host(address);
            let subject = |first, last, protocols| Subject::Address {
                network,
                first,
                last,
                protocols,
            };
            self.egress(entry, "localhost", line, subject);
        }
    }

    fn egress(
        &mut self,
        entry: &Egress,
        host: &str,
        line: Option<usize>,
        subject: impl Fn(u16, u16, u16) -> Subject,
    ) {
        let (protocols, word) = match entry.protocol {
            Protocol::Tcp => (Protocols::TCP, "tcp"),
            Protocol::Udp => (Protocols::UDP, "udp"),
            Protocol::Any => (Protocols::ANY, "any"),
        };
        for ports in &entry.ports {
            self.rules.push(
                subject(ports.first(), ports.last(), protocols),
                format!("network.egress {host} {ports}/{word}"),
                line,
            );
        }
    }
}
