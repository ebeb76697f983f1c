//! The kernel and the reference evaluator decide on the same accesses.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use std::{ffi::OsStr, fs};

use anyhow::{Context, Result, bail, ensure};
use skillsandbox::kernel::{Attached, Rings};
use skillsandbox::policy::{RuleSet, Tables};
use skillsandbox_common::header::{Kind, Reason, Verdict};
use skillsandbox_common::rule::{Access as Bits, Decision, Protocols, decide_socket};
use skillsandbox_common::slot::{SLOTS, SlotCounters};

use crate::kernel_access::{Access, ICMP, Inside, TCP};
use crate::kernel_answer::{Answer, Event, Object, place};
use crate::kernel_rng::{Rng, SEED};
use crate::kernel_rules as rules;
use crate::kernel_sandbox::Ground;
use crate::kernel_world::{LONGEST, World};

const EPERM: i32 = 1;
const ICMPV6: u16 = 58;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// `SOCK_DGRAM`.
const DATAGRAM: u32 = 2;
/// Slots that one run goes through.
const SLOTS_USED: usize = 3;
/// Room for the events of one rule set, of which none may be lost.
const RING: u32 = 4 << 20;
/// The standard input of the process inside: a pipe, which has no path.
const PIPE: &[u8] = b"/proc/self/fd/0";

/// How much to try.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Rule sets.
    pub sets: usize,
    /// Opens under each.
    pub opens: usize,
    /// Connects and datagrams under each.
    pub reaches: usize,
}

/// Everything that one run needs.
struct Trial {
    ground: Ground,
    world: World,
    inside: Inside,
    pipe: Vec<u8>,
    slot: Option<Slot>,
}

/// A slot in use. Attaching anew for each rule set would take most of the time: every program is
/// proved by a process that tries it.
struct Slot {
    attached: Attached,
    rings: Rings,
    before: SlotCounters,
}

/// Compares the two; the program is in a network namespace of its own.
pub fn compare(extent: Extent) -> Result<()> {
    let seed = Rng::seed();
    println!("seed {seed}: set {SEED}={seed} to repeat this run");
    let mut rng = Rng::new(seed);
    own_network()?;
    let started = Instant::now();
    let ground = Ground::new("differential")?;
    if extent.opens > 0 {
        ground.decides_on_files()?;
    }
    let world = World::make(&mut rng)?;
    let inside = Inside::start(Path::new(OsStr::from_bytes(&world.deep)))?;
    inside.join(ground.cgroup())?;
    let pipe = fs::read_link(format!("/proc/{}/fd/0", inside.id()))?;
    let mut trial = Trial {
        ground,
        world,
        inside,
        pipe: pipe.into_os_string().into_vec(),
        slot: None,
    };
    println!(
        "{} folders and {} files made after {:?}",
        trial.world.folders.len(),
        trial.world.files.len(),
        started.elapsed()
    );
    let (mut decisions, mut allowed) = (0, 0);
    for number in 0..extent.sets {
        if number % extent.sets.div_ceil(SLOTS_USED) == 0 {
            let slot = 1 + u32::try_from(rng.below(SLOTS as usize - 1))?;
            trial.attach(slot)?;
        }
        let mut set = RuleSet::default();
        rules::files(&mut rng, &trial.world, &mut set);
        rules::addresses(&mut rng, &mut set);
        let mut accesses = rules::opens(&mut rng, &trial.world, &set, extent.opens);
        if extent.opens > 0 {
            accesses.push(Access::Open {
                path: PIPE.to_vec(),
                folder: 0,
                flags: u32::from(rng.one_in(2)),
            });
        }
        accesses.extend(rules::reaches(&mut rng, &set, extent.reaches));
        let answers = trial.answers(&set, &accesses)?;
        for (access, answer) in accesses.iter().zip(&answers) {
            let expected = trial.expected(&set, access);
            if !agrees(&set, access, &expected, answer) {
                let set = trial.smallest(&set, access)?;
                let again = trial.answers(&set, std::slice::from_ref(access))?;
                println!("DISAGREEMENT on {}", Shown(access));
                for (number, rule) in (1..).zip(set.rules()) {
                    println!("  rule {number}: {}", rule.text);
                }
                println!("  reference: {:?}", trial.expected(&set, access));
                println!("  kernel:    {:?}", again.first());
                bail!("the kernel and the reference disagree (seed {seed})");
            }
            decisions += 1;
            allowed += usize::from(answer.errno != EPERM);
        }
    }
    println!(
        "{decisions} decisions under {} rule sets, {allowed} allowed, 0 disagreements, in {:?}",
        extent.sets,
        started.elapsed()
    );
    let planned = extent.sets * (extent.opens + extent.reaches);
    ensure!(decisions >= planned, "only {decisions} of {planned}");
    ensure!(
        allowed > decisions / 10 && allowed < decisions * 9 / 10,
        "{allowed} of {decisions} allowed: these rules prove little"
    );
    Ok(())
}

/// Whether the process got what the reference says, and the event says the same of the same object.
fn agrees(set: &RuleSet, access: &Access, expected: &Event, answer: &Answer) -> bool {
    let denied = expected
        .decision
        .is_some_and(|decision| decision.verdict == Verdict::Deny);
    // Opens of what is there succeed; an address may turn out to be out of reach.
    let got = match expected.object {
        Object::Address { .. } if !denied => leaves(set, access) == (answer.errno != EPERM),
        _ => answer.errno == if denied { EPERM } else { 0 },
    };
    got && *expected == answer.event
}

/// Whether the packet of a datagram that may be sent leaves: Linux sends what is for no address to
/// loopback, which is decided on as well.
fn leaves(set: &RuleSet, access: &Access) -> bool {
    let Access::Reach {
        send: true,
        address,
        port,
        ..
    } = access
    else {
        return true;
    };
    let address = Ipv6Addr::from(*address);
    let loopback = match address.to_ipv4_mapped() {
        Some(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
        None if address.is_unspecified() => Ipv6Addr::LOCALHOST,
        _ => return true,
    };
    let decision = set.decide_address(loopback.octets(), *port, Protocols::UDP);
    decision.verdict == Verdict::Allow
}

impl Trial {
    /// Takes another slot.
    fn attach(&mut self, number: u32) -> Result<()> {
        if let Some(old) = self.slot.take() {
            old.attached.detach()?;
        }
        let (attached, rings) = self.ground.enforce(number, &Tables::default(), RING)?;
        let before = attached.counters()?;
        self.slot = Some(Slot {
            attached,
            rings,
            before,
        });
        Ok(())
    }

    /// What the kernel says: the outcome and the one event of each access.
    fn answers(&mut self, set: &RuleSet, accesses: &[Access]) -> Result<Vec<Answer>> {
        let slot = self.slot.as_mut().context("not attached")?;
        slot.attached.rearm(&set.compile()?)?;
        let errnos = self.inside.make(accesses)?;
        let mut events: Vec<Option<Event>> = vec![None; accesses.len()];
        let mut trouble = None;
        let first = slot.before.records + 1;
        slot.rings.drain(usize::MAX, |bytes| {
            if let Err(error) = place(bytes, self.inside.id(), first, &mut events) {
                trouble = Some(error);
            }
        });
        slot.rings.release();
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        let counters = slot.attached.counters()?;
        let before = std::mem::replace(&mut slot.before, counters);
        let is_denial = |event: &Event| {
            let decision = event.decision;
            decision.is_some_and(|decision| decision.verdict == Verdict::Deny)
        };
        let denied = events
            .iter()
            .flatten()
            .filter(|event| is_denial(event))
            .count();
        ensure!(
            usize::try_from(counters.records - before.records) == Ok(accesses.len())
                && usize::try_from(counters.denied - before.denied) == Ok(denied)
                && counters.dropped_allowed == 0
                && counters.dropped_denied == 0
                && counters.processes == 0,
            "{} accesses, {denied} denied on record, and the kernel counts {counters:?} after {before:?}",
            accesses.len()
        );
        errnos
            .into_iter()
            .zip(events)
            .zip(accesses)
            .map(|((errno, event), access)| {
                let event = event.with_context(|| format!("no event for {}", Shown(access)))?;
                Ok(Answer { errno, event })
            })
            .collect()
    }

    /// What the reference says.
    fn expected(&self, set: &RuleSet, access: &Access) -> Event {
        match access {
            Access::Open { path, .. } if path.len() > LONGEST => Event {
                kind: Kind::Open,
                decision: Some(Decision::deny(Reason::PathTooLong, 0)),
                object: Object::Path {
                    path: Vec::new(),
                    access: wanted(access),
                },
            },
            Access::Open { path, .. } => {
                let path = if path == PIPE { &self.pipe } else { path };
                Event {
                    kind: Kind::Open,
                    decision: Some(set.decide_file(path, wanted(access))),
                    object: Object::Path {
                        path: path.clone(),
                        access: wanted(access),
                    },
                }
            }
            Access::Reach {
                send,
                protocol,
                six,
                address,
                port,
            } => {
                let bit = match *protocol {
                    TCP => Protocols::TCP,
                    // Where LSM programs are loaded, it is not made.
                    ICMP if self.ground.decides_on_files().is_ok() => {
                        return socket(*six);
                    }
                    ICMP => Protocols::OTHER,
                    _ => Protocols::UDP,
                };
                Event {
                    kind: if *send { Kind::Sendmsg } else { Kind::Connect },
                    decision: Some(set.decide_address(*address, *port, bit)),
                    object: Object::Address {
                        address: *address,
                        port: *port,
                        protocol: match *protocol {
                            ICMP if *six => ICMPV6,
                            other => u16::from(other),
                        },
                    },
                }
            }
        }
    }

    /// The rules without those that the disagreement does not need.
    fn smallest(&mut self, set: &RuleSet, access: &Access) -> Result<RuleSet> {
        let mut smallest = set.clone();
        let mut index = 0;
        while index < smallest.rules().len() {
            let mut fewer = RuleSet::default();
            for (_, rule) in (0..)
                .zip(smallest.rules())
                .filter(|(other, _)| *other != index)
            {
                fewer.push(rule.subject.clone(), rule.text.clone(), None);
            }
            let answers = self.answers(&fewer, std::slice::from_ref(access))?;
            let expected = self.expected(&fewer, access);
            if answers
                .iter()
                .all(|answer| agrees(&fewer, access, &expected, answer))
            {
                index += 1;
            } else {
                smallest = fewer;
            }
        }
        Ok(smallest)
    }
}

/// The bits of access that an open is (`open(2)`).
fn wanted(access: &Access) -> u16 {
    let Access::Open { flags, .. } = access else {
        return 0;
    };
    let mode = match flags & 3 {
        0 => Bits::READ,
        1 => Bits::WRITE,
        _ => Bits::READ | Bits::WRITE,
    };
    if flags & 0o1000 == 0 {
        mode
    } else {
        mode | Bits::WRITE
    }
}

/// Makes every address one of this namespace's own, so that nothing that is sent leaves it.
fn own_network() -> Result<()> {
    let here = fs::read_link("/proc/self/ns/net")?;
    let parent = format!(
        "/proc/{}/ns/net",
        rustix::process::getppid().map_or(1, |pid| { pid.as_raw_nonzero().get() })
    );
    ensure!(
        here != fs::read_link(parent)?,
        "this sends to random addresses: start it in a network namespace of its own"
    );
    for command in [
        "link set lo up",
        "route add local default dev lo",
        "-6 route add local default dev lo",
    ] {
        let status = Command::new("ip").args(command.split(' ')).status()?;
        ensure!(status.success(), "ip {command}: {status}");
    }
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")?;
    Ok(())
}

/// What is expected of a ping socket: that it is not made, whatever the rules say.
fn socket(six: bool) -> Event {
    let (family, protocol) = if six {
        (AF_INET6, ICMPV6)
    } else {
        (AF_INET, u16::from(ICMP))
    };
    Event {
        kind: Kind::Socket,
        decision: Some(decide_socket(family.into(), DATAGRAM, protocol.into())),
        object: Object::Socket { family, protocol },
    }
}

/// An access as a person reads it.
struct Shown<'a>(&'a Access);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Access::Open { path, flags, .. } => write!(
                f,
                "an open of {} ({} bytes) with flags {flags:#o}",
                path.escape_ascii(),
                path.len()
            ),
            reach @ Access::Reach { address, .. } => {
                let address = Ipv6Addr::from(*address);
                write!(f, "{address}: {reach:?}")
            }
        }
    }
}
