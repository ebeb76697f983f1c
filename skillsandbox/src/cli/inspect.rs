//! `skillsandbox inspect`: what a skill may do, in plain words.

mod calls;
mod notes;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::validate::{MANIFEST_REFUSED, manifest_path};
use crate::isolate::{Permitted, SystemCalls};
use crate::manifest::text::visible;
use crate::manifest::{
    Destination, Egress, Manifest, Mode, OnOverflow, Permissions, Protocol, Runtime, Spanned,
};

/// Say in plain words what a skill may do, defaults included.
///
/// A line such as `[12]` is where the manifest says so. Exit code 120 when the manifest is
/// refused.
#[derive(clap::Args, Debug)]
pub(super) struct InspectArgs {
    /// A manifest, or the folder of a skill that holds a `skillsandbox.yaml`.
    #[arg(default_value = ".", value_name = "FILE_OR_SKILL_DIR")]
    pub path: PathBuf,
    /// Print the manifest as JSON, with every default filled in.
    #[arg(long, conflicts_with = "yaml")]
    pub json: bool,
    /// Print the manifest as YAML, with every default filled in.
    #[arg(long)]
    pub yaml: bool,
    /// Print which system calls the manifest's profile lets through instead, as text or as JSON.
    #[arg(long, conflicts_with = "yaml")]
    pub syscalls: bool,
}

/// Runs the subcommand.
pub(super) fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let manifest = match Manifest::load(&manifest_path(&args.path)) {
        Ok(manifest) => manifest,
        Err(error) => {
            writeln!(io::stderr().lock(), "{error}")?;
            return Ok(ExitCode::from(MANIFEST_REFUSED));
        }
    };
    let mut output = io::stdout().lock();
    if args.syscalls {
        let profile = manifest.permissions.syscalls.profile.value;
        let network = &manifest.permissions.network;
        let permitted = Permitted {
            listening: !network.listen.is_empty(),
            unix_sockets: !network.unix.is_empty(),
        };
        let calls = SystemCalls::of(profile.into(), permitted);
        if args.json {
            serde_json::to_writer_pretty(&mut output, &calls)?;
            writeln!(output)?;
        } else {
            calls::describe(&calls, &mut output)?;
        }
    } else if args.json {
        serde_json::to_writer_pretty(&mut output, &manifest)?;
        writeln!(output)?;
    } else if args.yaml {
        serde_yaml::to_writer(&mut output, &manifest)?;
    } else {
        describe(&manifest, &mut output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(manifest: &Manifest, output: &mut impl Write) -> io::Result<()> {
    let skill = &manifest.skill;
    writeln!(
        output,
        "{} {}",
        visible(&skill.name),
        visible(&skill.version)
    )?;
    if !skill.author.is_empty() {
        writeln!(output, "by {}", visible(&skill.author))?;
    }
    for line in skill.description.lines() {
        writeln!(output, "  {}", visible(line))?;
    }
    writeln!(output)?;
    describe_start(manifest, output)?;
    describe_network(&manifest.permissions, output)?;
    describe_files(&manifest.permissions, output)?;
    describe_environment(&manifest.permissions, output)?;
    describe_limits(manifest, output)?;
    for note in notes::of(manifest) {
        writeln!(output, "note: {}", visible(&note))?;
    }
    Ok(())
}

fn describe_start(manifest: &Manifest, output: &mut impl Write) -> io::Result<()> {
    let entrypoint = &manifest.entrypoint;
    write!(output, "Starts {}", visible(&entrypoint.command.value))?;
    for argument in &entrypoint.args {
        // As JSON, an argument's ends are plain to see.
        let argument = serde_json::to_string(argument).map_err(io::Error::other)?;
        write!(output, " {}", visible(&argument))?;
    }
    writeln!(
        output,
        " in {} [{}]",
        entrypoint.workdir, entrypoint.command.line
    )?;
    let programs = &manifest.permissions.exec.allow;
    list(
        output,
        "May start no other program",
        "May also start",
        programs,
    )
}

fn describe_network(permissions: &Permissions, output: &mut impl Write) -> io::Result<()> {
    let network = &permissions.network;
    let destinations: Vec<_> = network
        .egress
        .iter()
        .map(|entry| Spanned {
            value: destination(&entry.value),
            line: entry.line,
        })
        .collect();
    list(
        output,
        "May connect nowhere",
        "May connect to",
        &destinations,
    )?;
    list(
        output,
        "May listen on no port",
        "May listen on port",
        &network.listen,
    )?;
    list(
        output,
        "May use no unix socket",
        "May use the unix sockets",
        &network.unix,
    )
}

fn destination(egress: &Egress) -> String {
    let host = match &egress.destination {
        Destination::Domain(domain) => domain.to_string(),
        Destination::Cidr(network) => network.to_string(),
    };
    let protocol = match egress.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Any => "any protocol",
    };
    let ports: Vec<_> = egress.ports.iter().map(ToString::to_string).collect();
    format!("{host}, {protocol}, port {}", ports.join(", "))
}

fn describe_files(permissions: &Permissions, output: &mut impl Write) -> io::Result<()> {
    let filesystem = &permissions.filesystem;
    writeln!(output, "May read its own folder, mounted at /skill")?;
    match filesystem.runtime {
        Runtime::System => writeln!(output, "May read the system's programs and libraries")?,
        Runtime::None => writeln!(
            output,
            "May read none of the system's programs and libraries"
        )?,
    }
    list(
        output,
        "May read no other file of the host",
        "May also read",
        &filesystem.read,
    )?;
    list(
        output,
        "May write no file of the host",
        "May write",
        &filesystem.write,
    )?;
    if !filesystem.persist.is_empty() {
        list(
            output,
            "",
            "May write these there although others obey them",
            &filesystem.persist,
        )?;
    }
    if !filesystem.deny.is_empty() {
        list(
            output,
            "",
            "May never touch, whatever is above",
            &filesystem.deny,
        )?;
    }
    Ok(())
}

fn describe_environment(permissions: &Permissions, output: &mut impl Write) -> io::Result<()> {
    let variables = &permissions.env_vars;
    list(
        output,
        "Sees no variable of yours",
        "Sees your variables",
        &variables.allow,
    )?;
    for (name, value) in &variables.set {
        writeln!(
            output,
            "Gets {name}={} [{}]",
            visible(&value.value),
            value.line
        )?;
    }
    Ok(())
}

fn describe_limits(manifest: &Manifest, output: &mut impl Write) -> io::Result<()> {
    let limits = manifest.resources;
    writeln!(
        output,
        "Gets at most {} MiB of memory, {} CPU shares, {} s, {} bytes of output, {} processes and \
         {} open files in each",
        limits.memory_mb,
        limits.cpu_shares,
        limits.max_runtime_seconds,
        limits.max_output_bytes,
        limits.max_processes,
        limits.max_open_files,
    )?;
    match manifest.mode.value {
        Mode::Enforce => writeln!(output, "Everything else is denied")?,
        Mode::Audit => writeln!(output, "Everything else is ALLOWED, and recorded")?,
    }
    match manifest.audit.on_overflow.value {
        OnOverflow::Count => writeln!(
            output,
            "An access that cannot be recorded is decided as ever, and counted as lost"
        ),
        OnOverflow::Deny => writeln!(output, "An access that cannot be recorded is denied"),
    }
}

fn list<T: Display>(
    output: &mut impl Write,
    when_empty: &str,
    heading: &str,
    entries: &[Spanned<T>],
) -> io::Result<()> {
    if entries.is_empty() {
        return writeln!(output, "{when_empty}");
    }
    writeln!(output, "{heading}")?;
    for Spanned { value, line } in entries {
        writeln!(output, "  {} [{line}]", visible(&value.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(manifest: &str) -> String {
        let manifest = Manifest::parse("FILE", manifest.as_bytes()).unwrap();
        let mut output = Vec::new();
        describe(&manifest, &mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn the_least_manifest_may_do_little_and_says_so() {
        let manifest = "skill: { name: least, version: '1' }\npermissions:\n\
                        entrypoint: { command: python3 }\n";
        let expected = "least 1

Starts python3 in /skill [3]
May start no other program
May connect nowhere
May listen on no port
May use no unix socket
May read its own folder, mounted at /skill
May read the system's programs and libraries
May read no other file of the host
May write no file of the host
Sees no variable of yours
Gets at most 256 MiB of memory, 512 CPU shares, 60 s, 1048576 bytes of output, 64 processes and \
1024 open files in each
Everything else is denied
An access that cannot be recorded is decided as ever, and counted as lost
";
        assert_eq!(described(manifest), expected);
    }

    #[test]
    fn every_grant_is_shown_with_its_line() {
        let described = described(include_str!("../manifest/tests/everything.yaml"));
        for line in [
            "  *.example.com, TCP, port 443 [9]",
            "  192.0.2.0/24, UDP, port 53, 8000-8100 [10]",
            "  8080 [14]",
            "  /run/service.sock [15]",
            "  /data/in [17]",
            "  /data/out [18]",
            "  .git [19]",
            "  /data/in/private [21]",
            "  **/.env [22]",
            "  /usr/bin/curl [25]",
            "  LANG [27]",
            "Gets TZ=UTC [29]",
            "May read none of the system's programs and libraries",
            "Everything else is ALLOWED, and recorded",
            "An access that cannot be recorded is denied",
        ] {
            assert!(
                described.lines().any(|shown| shown == line),
                "{line}\n{described}"
            );
        }
    }

    #[test]
    fn what_is_shown_holds_no_control_characters_of_the_manifest() {
        let described = described(
            "skill: { name: a, version: '1', description: \"one\\n\\ttwo\" }\npermissions:\n\
             entrypoint: { command: a }\n",
        );
        assert!(described.contains("  one\n  \\ttwo\n"), "{described}");
    }
}
