//! One line per record for a person, as it happens, and one at the end.

use std::{
    fmt::{self, Display, Formatter},
    io::{self, IsTerminal, Write},
    net::SocketAddr,
};

use skillsandbox_common::header::{Reason, Verdict};

use super::{
    code::Code,
    counts::Summary,
    record::{
        Actor, AddressChange, Decided, Dns, Ending, Event, FileAccess, NetworkAccess, Note, Record,
        SocketAccess, UnixAccess, What,
    },
    sink::Sink,
    text::{Escaped, Quoted},
};

/// Whether lines are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// With ANSI escape sequences.
    Ansi,
    /// Plain text.
    None,
}

impl Colour {
    /// Colour for a terminal, unless `NO_COLOR` is set to something (<https://no-color.org>).
    #[must_use]
    pub fn of(out: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if out.is_terminal() && !refused {
            Self::Ansi
        } else {
            Self::None
        }
    }

    fn alarm(self, text: &str) -> Painted<'_> {
        self.paint("\x1b[1;31m", text)
    }

    fn warning(self, text: &str) -> Painted<'_> {
        self.paint("\x1b[1;33m", text)
    }

    fn paint<'a>(self, code: &'static str, text: &'a str) -> Painted<'a> {
        let code = (self == Self::Ansi).then_some(code);
        Painted { code, text }
    }
}

struct Painted<'a> {
    code: Option<&'static str>,
    text: &'a str,
}

impl Display for Painted<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(out, "{code}{}\x1b[0m", self.text),
            None => out.write_str(self.text),
        }
    }
}

/// Shows records to a person.
pub struct Watch<W: Write> {
    out: io::BufWriter<W>,
    colour: Colour,
}

impl<W: Write> Watch<W> {
    /// Writes to `out`, usually standard error.
    pub fn new(out: W, colour: Colour) -> Self {
        Self {
            out: io::BufWriter::new(out),
            colour,
        }
    }
}

impl<W: Write + Send> Sink for Watch<W> {
    fn record(&mut self, record: &Record<'_>) -> io::Result<()> {
        let Self { out, colour } = self;
        let time = record.time.to_string();
        // 2026-01-01T00:00:00.000000007Z: a person needs the time of day to the millisecond.
        write!(out, "{} ", time.get(11..23).unwrap_or(&time))?;
        match &record.what {
            What::Event(event) => show_event(out, *colour, event)?,
            What::Note(note) => show_note(out, *colour, note)?,
        }
        writeln!(out)
    }

    fn end_batch(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        let counts = &summary.counts;
        let dropped = counts.dropped.sum();
        write!(self.out, "{} decisions, ", counts.decisions)?;
        let denied = format!("{} denied", counts.denied);
        match counts.denied {
            0 => write!(self.out, "{denied}, ")?,
            _ => write!(self.out, "{}, ", self.colour.alarm(&denied))?,
        }
        if counts.refused_packets > 0 {
            let refused = format!("{} packets refused", counts.refused_packets);
            write!(self.out, "{}, ", self.colour.alarm(&refused))?;
        }
        let lost = format!("{dropped} dropped");
        match dropped {
            0 => write!(self.out, "{lost}")?,
            _ => write!(self.out, "{}", self.colour.warning(&lost))?,
        }
        if !summary.accounting.balanced {
            let text = format!(
                "; the accounts do not balance: {} records are unexplained",
                summary.accounting.unexplained
            );
            write!(self.out, "{}", self.colour.alarm(&text))?;
        }
        writeln!(self.out)?;
        self.out.flush()
    }
}

fn show_event(out: &mut impl Write, colour: Colour, event: &Event<'_>) -> io::Result<()> {
    match event {
        Event::Connect(network) => show_network(out, colour, "connect", network),
        Event::Sendmsg(network) => show_network(out, colour, "sendmsg", network),
        Event::Bind(network) => show_network(out, colour, "bind", network),
        Event::Socket(socket) => show_socket(out, colour, socket),
        Event::Unix(unix) => show_unix(out, colour, unix),
        Event::Fork(fork) => {
            write!(out, "      fork    {}", fork.child)?;
            show_actor(out, &fork.actor)
        }
        Event::Exit(exit) => {
            write!(out, "      exit    {}", Ended(&exit.ending))?;
            show_actor(out, &exit.actor)
        }
        Event::Ptrace(ptrace) => {
            show_verdict(out, colour, "ptrace", ptrace.decided.verdict)?;
            write!(out, "{} mode {:#x}", ptrace.target, ptrace.mode)?;
            show_actor(out, &ptrace.actor)?;
            show_why(out, &ptrace.decided)
        }
        other => match other.file() {
            Some((kind, file)) => show_file(out, colour, kind, file),
            None => Ok(()),
        },
    }
}

fn show_verdict(
    out: &mut impl Write,
    colour: Colour,
    kind: &str,
    verdict: Code<Verdict>,
) -> io::Result<()> {
    match verdict {
        Code::Known(Verdict::Allow) => write!(out, "allow {kind:<7} "),
        Code::Known(Verdict::Deny) => write!(out, "{}  {kind:<7} ", colour.alarm("DENY")),
        Code::Known(Verdict::WouldDeny) => {
            write!(out, "{} {kind:<7} ", colour.warning("WOULD"))
        }
        unknown @ Code::Unknown(_) => {
            write!(out, "{} {kind:<7} ", colour.warning(&unknown.to_string()))
        }
    }
}

fn show_file(
    out: &mut impl Write,
    colour: Colour,
    kind: &str,
    file: &FileAccess<'_>,
) -> io::Result<()> {
    show_verdict(out, colour, kind, file.decided.verdict)?;
    match file.path {
        Some(path) => write!(out, "{} {}", Quoted(path.0), file.access)?,
        None => write!(out, "(no path) {}", file.access)?,
    }
    if let Some(error) = file.error {
        write!(out, " {error}")?;
    }
    show_actor(out, &file.actor)?;
    show_why(out, &file.decided)
}

fn show_network(
    out: &mut impl Write,
    colour: Colour,
    kind: &str,
    network: &NetworkAccess<'_>,
) -> io::Result<()> {
    show_verdict(out, colour, kind, network.decided.verdict)?;
    let address = SocketAddr::new(network.address, network.port);
    write!(out, "{address} {}", network.protocol)?;
    if let Some(name) = &network.name {
        write!(out, " ({})", Escaped(name.as_bytes()))?;
    }
    show_actor(out, &network.actor)?;
    show_why(out, &network.decided)
}

fn show_socket(out: &mut impl Write, colour: Colour, socket: &SocketAccess<'_>) -> io::Result<()> {
    show_verdict(out, colour, "socket", socket.decided.verdict)?;
    let (family, kind, protocol) = (&socket.family, &socket.socket_type, socket.protocol);
    write!(out, "{family} {kind}/{protocol}")?;
    show_actor(out, &socket.actor)?;
    show_why(out, &socket.decided)
}

fn show_unix(out: &mut impl Write, colour: Colour, unix: &UnixAccess<'_>) -> io::Result<()> {
    show_verdict(out, colour, "unix", unix.decided.verdict)?;
    let at = if unix.is_abstract { "@" } else { "" };
    match unix.path {
        Some(name) => write!(out, "{at}{}", Quoted(name.0))?,
        None => write!(out, "(no name)")?,
    }
    show_actor(out, &unix.actor)?;
    show_why(out, &unix.decided)
}

fn show_actor(out: &mut impl Write, actor: &Actor<'_>) -> io::Result<()> {
    write!(out, "  {}[{}]", Quoted(actor.comm.0), actor.tgid)
}

/// The rule that decided or, without one, the reason; and what would have let the access through.
fn show_why(out: &mut impl Write, decided: &Decided<'_>) -> io::Result<()> {
    if decided.reason != Code::Known(Reason::Rule) {
        write!(out, "  {}", decided.reason)?;
    }
    if let Some(rule) = &decided.rule {
        write!(out, "  rule {}", rule.number)?;
        if let Some(text) = rule.text {
            write!(out, ": {}", Escaped(text.as_bytes()))?;
        }
    }
    // Not escaped: it holds nothing but what shows, and is to be copied as it stands.
    match &decided.permit {
        Some(line) => write!(out, "  + {line}"),
        None => Ok(()),
    }
}

fn show_note(out: &mut impl Write, colour: Colour, note: &Note) -> io::Result<()> {
    let escape = |text: &str| Escaped(text.as_bytes()).to_string();
    match note {
        Note::Start(start) => {
            write!(
                out,
                "start {} {}, tier {}: {}",
                escape(&start.skill_name),
                escape(&start.skill_version),
                escape(&start.tier),
                Quoted(start.program.as_bytes())
            )?;
            for layer in start.layers.iter().filter(|layer| !layer.achieved) {
                let text = format!("; without {}", escape(&layer.name));
                write!(out, "{}", colour.warning(&text))?;
            }
            Ok(())
        }
        Note::Environment(environment) => write!(
            out,
            "environment: {} passed, {} set, {} withheld",
            environment.passed.len(),
            environment.set.len(),
            environment.withheld.len()
        ),
        Note::Running(running) => write!(
            out,
            "      runs    {}[{}]",
            Quoted(running.executable.as_bytes()),
            running.tgid
        ),
        Note::Deadline(deadline) => {
            let text = format!("deadline of {} s reached, killed", deadline.seconds);
            write!(out, "{}", colour.warning(&text))
        }
        Note::Limit(limit) => {
            let text = format!(
                "limit on {} ({}) met: {} {}",
                escape(&limit.resource),
                limit.limit,
                limit.count,
                escape(&limit.effect)
            );
            write!(out, "{}", colour.warning(&text))
        }
        Note::Dns(dns) => show_dns(out, colour, dns),
        Note::Address(change) => show_address(out, change),
        Note::Repeat(repeat) => {
            show_verdict(out, colour, "again", repeat.verdict)?;
            let path = repeat.path.as_deref().unwrap_or_default();
            write!(
                out,
                "{} times {} {} by {} ({})",
                repeat.count,
                repeat.of,
                Quoted(path.as_bytes()),
                repeat.tgid,
                Quoted(repeat.comm.as_bytes())
            )
        }
        Note::Lost(lost) => {
            let text = format!(
                "LOST  {} allowed, {} denied, {} of processes, {} undecodable, at most {} skipped",
                lost.dropped.allowed,
                lost.dropped.denied,
                lost.dropped.processes,
                lost.undecodable,
                lost.skipped
            );
            write!(out, "{}", colour.alarm(&text))
        }
        Note::End(end) => write!(out, "end   {}", Ended(&end.ending)),
    }
}

fn show_dns(out: &mut impl Write, colour: Colour, dns: &Dns) -> io::Result<()> {
    show_verdict(out, colour, "dns", dns.verdict)?;
    match &dns.name {
        Some(name) => write!(out, "{}", Quoted(name.as_bytes()))?,
        None => write!(out, "(not to be read)")?,
    }
    if let Some(kind) = &dns.record_type {
        write!(out, " {kind}")?;
    }
    write!(out, ": {}", dns.code)?;
    for address in &dns.addresses {
        write!(out, " {address}")?;
    }
    for address in &dns.refused {
        write!(out, " without {address}")?;
    }
    if let Some(error) = &dns.error {
        write!(out, " ({})", Escaped(error.as_bytes()))?;
    }
    if dns.is_denial() {
        write!(out, "  {}", dns.reason)?;
    }
    if let Some(rule) = &dns.rule {
        let text = Escaped(rule.text.as_bytes());
        write!(out, "  rule {}: {text}", rule.number)?;
    }
    match &dns.permit {
        Some(line) => write!(out, "  + {line}"),
        None => Ok(()),
    }
}

fn show_address(out: &mut impl Write, change: &AddressChange) -> io::Result<()> {
    let name = Quoted(change.name.as_bytes());
    let address = change.address;
    match change.seconds {
        Some(seconds) => write!(out, "      address {address} of {name} for {seconds} s"),
        None => write!(out, "      address {address} of {name} no more"),
    }
}

struct Ended<'a>(&'a Ending);

impl Display for Ended<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match (self.0.exit_code, self.0.signal_name, self.0.signal) {
            (Some(code), ..) => write!(out, "exit code {code}"),
            (None, Some(name), _) => write!(out, "by {name}"),
            (None, None, Some(signal)) => write!(out, "by signal {signal}"),
            (None, None, None) => out.write_str("in an unknown way"),
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
