//! `skillsandbox explain`: what a manifest says of one access, and what it would have to say.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use skillsandbox_common::{
    header::Verdict,
    rule::{Access, Decision, Protocols},
};

use super::run::folder_of;
use crate::{
    isolate::paths,
    manifest::{DomainPattern, Manifest, text::visible},
    policy::{
        Advice, DeniedAddress, DeniedFile, Network, RuleSet, advise_address, advise_bind,
        advise_unix,
    },
    supervise::{self, Request},
};

/// Exit code of an access that is denied.
const DENIED: u8 = 1;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// `IPPROTO_*`, `include/uapi/linux/in.h`.
    fn number(self) -> u16 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// Say whether a manifest allows an access, by which rule, or what to add so that it does.
///
/// Decided as on this host now: links are followed, and nothing is executed. A name is decided on by
/// the rules on names, whatever addresses it has.
/// Exit code 0 when the access is allowed, 1 when it is denied.
#[derive(Args, Debug)]
pub(super) struct ExplainArguments {
    /// The manifest.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    #[command(flatten)]
    access: Asked,
    /// The protocol of the socket.
    #[arg(long, value_enum, default_value = "tcp", requires = "connect")]
    protocol: Protocol,
}

/// Exactly one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Asked {
    /// Read this file or folder.
    #[arg(long, value_name = "PATH")]
    read: Option<PathBuf>,
    /// Write to it.
    #[arg(long, value_name = "PATH")]
    write: Option<PathBuf>,
    /// Execute it.
    #[arg(long, value_name = "PATH")]
    exec: Option<PathBuf>,
    /// Connect or send to this address or name, and port.
    #[arg(long, value_name = "HOST:PORT", value_parser = host)]
    connect: Option<(Host, u16)>,
    /// Be called at this port, over TCP.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    listen: Option<u16>,
    /// Connect to the unix socket of this path, which must be there.
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
}

/// Runs the subcommand.
pub(super) fn run(arguments: &ExplainArguments) -> anyhow::Result<ExitCode> {
    let request = Request {
        manifest: Manifest::load(&arguments.manifest)?,
        manifest_file: arguments.manifest.to_string_lossy().into_owned(),
        skill_dir: folder_of(&arguments.manifest),
        command: None,
        extra_arguments: Vec::new(),
        environment: Vec::new(),
        caller: None,
    };
    let (plan, _) = supervise::dry_run(&request)?;
    let asked = &arguments.access;
    let (decision, advice) = match (asked, &asked.connect) {
        (_, Some((Host::Address(address), port))) => {
            of_address(&plan.rules, *address, *port, arguments.protocol)
        }
        (_, Some((Host::Name(name), port))) => {
            of_name(&plan.rules, name, *port, arguments.protocol)
        }
        (
            Asked {
                read: Some(path), ..
            },
            _,
        ) => of_file(&plan.rules, path, Access::READ)?,
        (
            Asked {
                write: Some(path), ..
            },
            _,
        ) => of_file(&plan.rules, path, Access::WRITE)?,
        (
            Asked {
                exec: Some(path), ..
            },
            _,
        ) => of_file(&plan.rules, path, Access::EXEC)?,
        (
            Asked {
                listen: Some(port), ..
            },
            _,
        ) => {
            let tcp = Protocol::Tcp.number();
            let decision = plan.rules.decide_bind(*port, Protocols::TCP);
            (decision, advise_bind(decision.reason, *port, tcp))
        }
        (
            Asked {
                unix: Some(path), ..
            },
            _,
        ) => of_unix(&plan.rules, path)?,
        _ => {
            anyhow::bail!("name an access: --read, --write, --exec, --connect, --listen or --unix")
        }
    };
    show(&plan.rules, decision, &advice, &mut io::stdout().lock())?;
    Ok(match decision.verdict {
        Verdict::Allow => ExitCode::SUCCESS,
        Verdict::Deny | Verdict::WouldDeny => ExitCode::from(DENIED),
    })
}

fn of_file(rules: &RuleSet, path: &Path, access: u16) -> anyhow::Result<(Decision, Advice)> {
    let path = paths::resolve(path)?.real;
    let path = path.as_os_str().as_bytes();
    let decision = rules.decide_file(path, access);
    let denied = DeniedFile {
        reason: decision.reason,
        rule: decision.rule.into(),
        path,
        access,
    };
    Ok((decision, supervise::advise_file(rules, &denied)))
}

fn of_unix(rules: &RuleSet, path: &Path) -> anyhow::Result<(Decision, Advice)> {
    let path = paths::resolve(path)?.real;
    let paths::SocketFile { device, inode } = paths::socket_file(&path)?;
    let decision = rules.decide_unix(device, inode);
    let advice = advise_unix(decision.reason, path.as_os_str().as_bytes(), false);
    Ok((decision, advice))
}

/// Where to connect to.
#[derive(Clone, Debug)]
enum Host {
    Address(IpAddr),
    Name(String),
}

fn host(text: &str) -> Result<(Host, u16), String> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Ok((Host::Address(socket.ip()), socket.port()));
    }
    let Some((name, port)) = text.rsplit_once(':') else {
        return Err("write a host and a port, such as `example.com:443`".to_owned());
    };
    let port = port
        .parse()
        .map_err(|error| format!("`{port}` is no port: {error}"))?;
    match name.parse() {
        Ok(DomainPattern::Exact(name)) => Ok((Host::Name(name), port)),
        Ok(DomainPattern::Below(_)) => Err("name one host, not a wildcard".to_owned()),
        Err(refusal) => Err(refusal.message),
    }
}

fn of_name(rules: &RuleSet, name: &str, port: u16, protocol: Protocol) -> (Decision, Advice) {
    let bit = Protocols::of_ip_protocol(protocol.number().into());
    let decision = rules.decide_host(name, port, bit);
    let advice = advise_address(&DeniedAddress {
        reason: decision.reason,
        address: Ipv4Addr::UNSPECIFIED.into(),
        port,
        protocol: protocol.number(),
        name: Some(name),
    });
    (decision, advice)
}

fn of_address(
    rules: &RuleSet,
    address: IpAddr,
    port: u16,
    protocol: Protocol,
) -> (Decision, Advice) {
    let address = address.to_canonical();
    let decision = rules.decide_address(
        Network::host(address).address(),
        port,
        Protocols::of_ip_protocol(protocol.number().into()),
    );
    let advice = advise_address(&DeniedAddress {
        reason: decision.reason,
        address,
        port,
        protocol: protocol.number(),
        name: None,
    });
    (decision, advice)
}

/// The verdict and the rule that decided; for a denial, the line to add alone on a line.
fn show(
    rules: &RuleSet,
    decision: Decision,
    advice: &Advice,
    out: &mut impl Write,
) -> io::Result<()> {
    write!(
        out,
        "{}: {}",
        decision.verdict.as_str(),
        decision.reason.as_str()
    )?;
    if let Some(rule) = rules.get(decision.rule.into()) {
        write!(out, ": {}", visible(&rule.text))?;
        if let Some(line) = rule.line {
            write!(out, " (line {line})")?;
        }
    }
    writeln!(out)?;
    match (decision.verdict, advice) {
        (Verdict::Allow, _) => Ok(()),
        (_, Advice::Permit(line)) => writeln!(out, "{line}"),
        (_, Advice::Remedy(words)) => writeln!(out, "{}", visible(words)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Grant, Subject};

    fn rules() -> RuleSet {
        let mut rules = RuleSet::default();
        let mut push = |path: &str, grant, text: &str| {
            rules.push(Subject::Path(path.into(), grant), text, Some(4));
        };
        push("/nowhere", Grant::READ, "filesystem.read /nowhere");
        push("/nowhere/x", Grant::Deny, "filesystem.deny /nowhere/x");
        rules
    }

    fn shown(path: &str, access: u16) -> String {
        let rules = rules();
        let (decision, advice) = of_file(&rules, Path::new(path), access).unwrap();
        let mut out = Vec::new();
        show(&rules, decision, &advice, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_access_is_explained_by_its_rule_or_by_what_it_lacks() {
        assert_eq!(
            shown("/nowhere/a", Access::READ),
            "allow: rule: filesystem.read /nowhere (line 4)\n"
        );
        assert_eq!(
            shown("/nowhere/a", Access::EXEC),
            "deny: not_granted\npermissions: { exec: { allow: [\"/nowhere/a\"] } }\n"
        );
        assert_eq!(
            shown("/nowhere/x/y", Access::READ),
            "deny: deny_rule: filesystem.deny /nowhere/x (line 4)\n\
             take `filesystem.deny /nowhere/x` out of line 4 of the manifest: a deny wins over \
             every permission\n"
        );
        let address: SocketAddr = "203.0.113.7:53".parse().unwrap();
        let (decision, advice) = of_address(&rules(), address.ip(), address.port(), Protocol::Udp);
        assert_eq!(decision.verdict, Verdict::Deny);
        let Advice::Permit(line) = advice else {
            panic!("{advice:?}");
        };
        assert!(line.contains("protocol: udp"), "{line}");
    }
}
