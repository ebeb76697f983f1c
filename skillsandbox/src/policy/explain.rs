//! What would let a denied access through: a line for the manifest, or words where no line can.

use std::{net::IpAddr, str::FromStr};

use skillsandbox_common::{
    header::{Kind, Reason},
    rule::{Access, Protocols},
};

use super::{Grant, RuleSet, Subject, decide::specificity};
use crate::manifest::{AbsolutePath, DomainPattern, text::yaml_string};

/// What would let a denied access through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// A part of a manifest, in YAML on one line of printable characters. Added to the manifest
    /// that denied the access, it makes the rules allow this very access.
    Permit(String),
    /// In words: no permission can.
    Remedy(String),
}

impl Advice {
    fn remedy(words: impl Into<String>) -> Self {
        Self::Remedy(words.into())
    }
}

/// A denied open or execution.
#[derive(Clone, Copy, Debug)]
pub struct DeniedFile<'a> {
    /// Why it was denied.
    pub reason: Reason,
    /// The rule that denied it; 0 when none did.
    pub rule: u32,
    /// The path that was decided on.
    pub path: &'a [u8],
    /// Bits of [`Access`].
    pub access: u16,
}

/// A denied connection or datagram.
#[derive(Clone, Copy, Debug)]
pub struct DeniedAddress<'a> {
    /// Why it was denied.
    pub reason: Reason,
    /// Where it was to go; a mapped IPv4 address as IPv4.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// `IPPROTO_*` of the socket.
    pub protocol: u16,
    /// A name of the manifest that has this address.
    pub name: Option<&'a str>,
}

impl RuleSet {
    /// What would let this access to a file through.
    #[must_use]
    pub fn advise_file(&self, denied: &DeniedFile<'_>) -> Advice {
        match denied.reason {
            Reason::DenyRule => self.take_out(denied.rule),
            Reason::Persistence => self.persist(denied.rule),
            Reason::NoRule | Reason::NotGranted | Reason::Refused => self.permit_file(denied),
            reason => words(reason),
        }
    }

    /// Whether the manifest itself grants something at this path or around it.
    #[must_use]
    pub fn grants_at(&self, path: &[u8]) -> bool {
        self.rules().iter().any(|rule| {
            let covering = specificity(&rule.subject, path);
            rule.line.is_some() && covering.is_some_and(|(_, grant)| grant != Grant::Deny)
        })
    }

    fn permit_file(&self, denied: &DeniedFile<'_>) -> Advice {
        let path = match path(denied.path) {
            Ok(path) => path,
            Err(advice) => return advice,
        };
        if denied.reason == Reason::Refused {
            // Whoever refused did not ask the rules: one may deny it as well.
            let decision = self.decide_file(denied.path, denied.access);
            if decision.reason == Reason::DenyRule {
                return self.take_out(decision.rule.into());
            }
        }
        // A skill can be denied as often as it likes, so this looks at each rule once at most.
        let granted = match denied.reason {
            Reason::NoRule => 0,
            _ => self.granted(denied.path),
        };
        let missing = denied.access & Access::ALL & !granted;
        if missing == 0 {
            return Advice::remedy(
                "the rules allow it: the file's mode or another layer of the kernel refused",
            );
        }
        // Where writing is granted, the path's names may still need a grant of their own.
        let obeyed = (denied.access & !missing & Access::WRITE != 0)
            .then(|| self.decide_file(denied.path, Access::WRITE))
            .filter(|decision| decision.reason == Reason::Persistence)
            .and_then(|decision| self.obeyed(decision.rule.into()));
        Advice::Permit(permissions(&path, missing, obeyed.as_deref()))
    }

    /// Bits of every grant that covers this path, where no rule denies it.
    fn granted(&self, path: &[u8]) -> u16 {
        let covering = self
            .rules()
            .iter()
            .filter_map(|rule| specificity(&rule.subject, path));
        covering.fold(0, |granted, (_, grant)| match grant {
            Grant::Allow(bits) => granted | bits,
            Grant::Deny => granted,
        })
    }

    fn persist(&self, number: u32) -> Advice {
        match self.obeyed(number) {
            Some(name) => Advice::Permit(format!(
                "permissions: {{ filesystem: {{ persist: [{name}] }} }}"
            )),
            None => words(Reason::Persistence),
        }
    }

    /// The name that others obey in the rule of this number, as YAML.
    fn obeyed(&self, number: u32) -> Option<String> {
        match &self.get(number)?.subject {
            Subject::Persistent { name, .. } => Some(yaml_string(&String::from_utf8_lossy(name))),
            _ => None,
        }
    }

    fn take_out(&self, number: u32) -> Advice {
        let Some(rule) = self.get(number) else {
            return Advice::remedy("take the rule that denies it out of the manifest");
        };
        let place = rule.line.map_or_else(
            || "the manifest".to_owned(),
            |line| format!("line {line} of the manifest"),
        );
        Advice::Remedy(format!(
            "take `{}` out of {place}: a deny wins over every permission",
            rule.text
        ))
    }
}

/// The path as a manifest names it.
fn path(bytes: &[u8]) -> Result<AbsolutePath, Advice> {
    if !bytes.starts_with(b"/") {
        return Err(Advice::remedy(
            "the path is relative to a folder that is not known: grant the file by its full path",
        ));
    }
    let cannot = |why: &str| {
        Advice::Remedy(format!(
            "a manifest cannot name this path ({why}): name where it leads, or a folder above"
        ))
    };
    let text = str::from_utf8(bytes).map_err(|_invalid| cannot("it is not UTF-8"))?;
    let path = AbsolutePath::from_str(text).map_err(|refusal| cannot(&refusal.message))?;
    if path.is_root() {
        return Err(Advice::remedy(
            "`/` cannot be granted: grant the folders in it that are needed",
        ));
    }
    Ok(path)
}

fn permissions(path: &AbsolutePath, missing: u16, obeyed: Option<&str>) -> String {
    let list = format!("[{}]", yaml_string(path.as_str()));
    // Executing includes reading, and what is mapped as code is granted as what is executed.
    let executing = missing & (Access::EXEC | Access::MAP) != 0;
    let reading = missing & Access::READ != 0 && !executing;
    let mut filesystem = Vec::new();
    if reading {
        filesystem.push(format!("read: {list}"));
    }
    if missing & Access::WRITE != 0 {
        filesystem.push(format!("write: {list}"));
    }
    if let Some(name) = obeyed {
        filesystem.push(format!("persist: [{name}]"));
    }
    let mut sections = Vec::new();
    if !filesystem.is_empty() {
        sections.push(format!("filesystem: {{ {} }}", filesystem.join(", ")));
    }
    if executing {
        sections.push(format!("exec: {{ allow: {list} }}"));
    }
    format!("permissions: {{ {} }}", sections.join(", "))
}

/// What would let a name be looked up. The port that it is for is not known: that of HTTPS is taken.
#[must_use]
pub fn advise_name(reason: Reason, name: &str) -> Advice {
    if reason != Reason::NoRule {
        return words(reason);
    }
    match DomainPattern::from_str(name) {
        Ok(pattern @ DomainPattern::Exact(_)) => Advice::Permit(format!(
            "permissions: {{ network: {{ egress: [{{ domain: {}, ports: [443] }}] }} }}",
            yaml_string(&pattern.to_string())
        )),
        _ => Advice::remedy("no host has such a name"),
    }
}

/// What would let this connection or datagram through.
#[must_use]
pub fn advise_address(denied: &DeniedAddress<'_>) -> Advice {
    match denied.reason {
        Reason::NoRule | Reason::NotGranted if denied.port == 0 => {
            Advice::remedy("no rule can name port 0: use another")
        }
        Reason::NoRule | Reason::NotGranted => Advice::Permit(egress(denied)),
        reason => words(reason),
    }
}

fn egress(denied: &DeniedAddress<'_>) -> String {
    let host = match (denied.name, denied.address) {
        (Some(name), _) => format!("domain: {}", yaml_string(name)),
        (None, IpAddr::V4(address)) => format!("cidr: \"{address}/32\""),
        (None, IpAddr::V6(address)) => format!("cidr: \"{address}/128\""),
    };
    let protocol = match Protocols::of_ip_protocol(denied.protocol.into()) {
        Protocols::TCP => "tcp",
        Protocols::UDP => "udp",
        _ => "any",
    };
    format!(
        "permissions: {{ network: {{ egress: [{{ {host}, ports: [{}], protocol: {protocol} }}] }} }}",
        denied.port
    )
}

/// What would let a socket have this address of its own.
#[must_use]
pub fn advise_bind(reason: Reason, port: u16, protocol: u16) -> Advice {
    if reason != Reason::NotGranted {
        return words(reason);
    }
    if Protocols::of_ip_protocol(protocol.into()) != Protocols::TCP {
        return Advice::remedy(
            "bind to port 0, for the kernel to choose one: nobody is called but over TCP",
        );
    }
    Advice::Permit(format!(
        "permissions: {{ network: {{ listen: [{port}] }} }}"
    ))
}

/// What would let a unix socket of this name be connected to.
#[must_use]
pub fn advise_unix(reason: Reason, name: &[u8], is_abstract: bool) -> Advice {
    if reason != Reason::NoRule {
        return words(reason);
    }
    if is_abstract || name.is_empty() {
        return Advice::remedy("only a unix socket that has a file can be granted");
    }
    match path(name) {
        Ok(path) => Advice::Permit(format!(
            "permissions: {{ network: {{ unix: [{}] }} }}",
            yaml_string(path.as_str())
        )),
        Err(advice) => advice,
    }
}

/// What would let through what no rule is about: the making of a socket (`socket`), looking into a
/// process (`ptrace`).
#[must_use]
pub fn advise_other(kind: Kind, reason: Reason) -> Advice {
    Advice::remedy(match (kind, reason) {
        (Kind::Socket, Reason::AddressFamily) => {
            "use TCP, UDP or a pair of unix streams: no permission grants other kinds of sockets"
        }
        _ => return words(reason),
    })
}

/// What helps where rules do not.
fn words(reason: Reason) -> Advice {
    Advice::remedy(match reason {
        Reason::NoPolicy => "no policy was in force: run the skill again",
        Reason::PathTooLong => "the kernel names no path of this length: use a shorter one",
        Reason::PathUnreadable | Reason::NoPath => "no rule is about a file without a path",
        Reason::PathDeleted => "no rule is about a file that was deleted: keep it",
        Reason::NoScratch => "there was no memory for the decision: try again",
        Reason::Overflow => {
            "its record found no room: write `on_overflow: count`, or do less at a time"
        }
        Reason::AddressFamily => "rules are about IPv4 and IPv6 addresses alone",
        Reason::MoreGranted => {
            "a file cannot come to where the rules grant more than where it was: copy what it holds"
        }
        Reason::Persistence => {
            "what comes from here may hold files that others obey there: copy what it holds"
        }
        Reason::OtherFolder => "a hard link is made in the folder of its file alone: copy the file",
        Reason::OutsideProcess => "no permission reaches a process outside the sandbox",
        Reason::ForeignNamespace => {
            "no path means anything in a namespace or root of the skill's own: stay in the sandbox's"
        }
        Reason::RecordType => "hosts are looked up by A, AAAA, CNAME, HTTPS and SVCB records alone",
        Reason::NameTooLong => "below a wildcard names are shorter: declare this name itself",
        Reason::TooManyNames => "declare the names themselves, or ask for fewer at a time",
        Reason::PrivateAddress => {
            "where a name is to lead to a host or network of one's own, grant the address as `cidr:`"
        }
        _ => "no permission changes it",
    })
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
