//! Random rule sets, and random accesses near their edges.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use skillsandbox::policy::{Grant, Network, RuleSet, Subject};
use skillsandbox_common::rule::{Access as Bits, Protocols, RULE_PATH_MAX};

use crate::kernel_access::{Access, ICMP, TCP, UDP};
use crate::kernel_rng::Rng;
use crate::kernel_world::{LONGEST, World};

const O_RDONLY: u32 = 0;
const O_WRONLY: u32 = 1;
const O_RDWR: u32 = 2;
const O_TRUNC: u32 = 0o1000;
/// `O_TRUNC` of a file that is opened for reading also changes it.
const FILE_FLAGS: &[u32] = &[
    O_RDONLY,
    O_RDONLY,
    O_WRONLY,
    O_RDWR,
    O_RDONLY | O_TRUNC,
    O_WRONLY | O_TRUNC,
    O_RDWR | O_TRUNC,
];

/// A rule set about files.
pub fn files(rng: &mut Rng, world: &World, set: &mut RuleSet) {
    let can_be_named = |path: &&Vec<u8>| path.len() <= RULE_PATH_MAX;
    let folders: Vec<&Vec<u8>> = world.folders.iter().filter(can_be_named).collect();
    let objects: Vec<&Vec<u8>> = world.files.iter().filter(can_be_named).collect();
    if rng.one_in(2) {
        let top = world.folders.first().cloned().unwrap_or_default();
        push(set, Subject::Path(top, grant(rng)));
    }
    // Rules about one place meet each other more often than rules about any.
    let focus: Vec<&Vec<u8>> = (0..3).map(|_| *rng.pick(&folders)).collect();
    for _ in 0..=rng.below(30) {
        let base = match rng.below(8) {
            0 => {
                let (mut edge, _) = rng.pick(&world.edges).clone();
                edge.truncate(RULE_PATH_MAX);
                edge
            }
            1 | 2 => (*rng.pick(&objects)).clone(),
            3 => (*rng.pick(&folders)).clone(),
            _ => {
                let path = *rng.pick(&focus);
                let slashes: Vec<usize> = (2..path.len())
                    .filter(|index| path.get(*index) == Some(&b'/'))
                    .chain([path.len()])
                    .collect();
                let end = *rng.pick(&slashes);
                path.iter().copied().take(end).collect()
            }
        };
        let path = if rng.one_in(5) { near(rng, base) } else { base };
        let grant = grant(rng);
        push(
            set,
            match rng.below(10) {
                0 => Subject::Exact(path, grant),
                1 => Subject::Nameless(start(rng, b"pipe:[123"), grant),
                2 => {
                    // Of any file: names are longest where paths are too long for a rule.
                    let file: &Vec<u8> = rng.pick(&world.files);
                    let name = last_components(rng, file);
                    let mut name = if rng.one_in(3) { near(rng, name) } else { name };
                    name.truncate(RULE_PATH_MAX - 1);
                    if rng.one_in(2) {
                        Subject::Name(name)
                    } else {
                        let below = rng.one_in(2);
                        Subject::Persistent { name, below }
                    }
                }
                _ => Subject::Path(path, grant),
            },
        );
    }
}

/// One or two components of a path, most often the last: as many as a rule can name.
fn last_components(rng: &mut Rng, path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').skip(1).collect();
    if rng.one_in(3) && parts.len() > 2 {
        parts.pop();
    }
    let kept = 1 + rng.below(2).min(parts.len() - 1);
    parts[parts.len() - kept..].join(&b'/')
}

/// The last component of a path.
fn last(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    path.get(slash.map_or(0, |index| index + 1)..)
        .unwrap_or_default()
}

fn push(set: &mut RuleSet, subject: Subject) {
    let text = match &subject {
        Subject::Path(path, grant) => format!("path {} {grant:?}", path.escape_ascii()),
        Subject::Exact(path, grant) => format!("exact {} {grant:?}", path.escape_ascii()),
        Subject::Nameless(path, grant) => format!("nameless {} {grant:?}", path.escape_ascii()),
        Subject::Name(name) => format!("name {}", name.escape_ascii()),
        Subject::Persistent { name, below } => {
            format!("persistent {} {below}", name.escape_ascii())
        }
        Subject::Address { .. }
        | Subject::Host { .. }
        | Subject::Listen { .. }
        | Subject::Unix { .. } => format!("{subject:?}"),
    };
    set.push(subject, text, None);
}

fn grant(rng: &mut Rng) -> Grant {
    if rng.one_in(4) {
        Grant::Deny
    } else {
        let persist = if rng.one_in(3) { Bits::PERSIST } else { 0 };
        Grant::Allow((1 + rng.short() % 7) | persist)
    }
}

fn start(rng: &mut Rng, text: &[u8]) -> Vec<u8> {
    let length = 1 + rng.below(text.len());
    text.iter().copied().take(length).collect()
}

/// A path or name that is almost this one.
fn near(rng: &mut Rng, mut path: Vec<u8>) -> Vec<u8> {
    match rng.below(3) {
        0 => {
            path.pop();
        }
        1 => path.push(*rng.pick(b"a \xff(")),
        _ => {
            if let Some(last) = path.last_mut() {
                *last ^= 1 << rng.below(7);
            }
        }
    }
    path.truncate(RULE_PATH_MAX);
    while matches!(path.last(), Some(b'/' | b'.' | 0)) {
        path.pop();
    }
    if path.is_empty() { b"x".to_vec() } else { path }
}

/// Opens of files, most of them near what the rules are about. `pipe` is the number of a
/// descriptor that the process inside has for a pipe.
pub fn opens(rng: &mut Rng, world: &World, set: &RuleSet, count: usize) -> Vec<Access> {
    let mentioned: BTreeSet<&[u8]> = set
        .rules()
        .iter()
        .filter_map(|rule| match &rule.subject {
            Subject::Path(path, _) | Subject::Exact(path, _) => Some(path.as_slice()),
            _ => None,
        })
        .collect();
    let names: BTreeSet<&[u8]> = set
        .rules()
        .iter()
        .filter_map(|rule| match &rule.subject {
            Subject::Name(name) | Subject::Persistent { name, .. } => Some(last(name)),
            _ => None,
        })
        .collect();
    let objects: Vec<(&Vec<u8>, bool)> = world
        .files
        .iter()
        .map(|path| (path, false))
        .chain(world.folders.iter().map(|path| (path, true)))
        .collect();
    let about: Vec<(&Vec<u8>, bool)> = objects
        .iter()
        .filter(|(path, _)| {
            let mut starts = mentioned.iter();
            let is_below =
                |start: &&[u8]| path.starts_with(start) && path.len() < start.len() + RULE_PATH_MAX;
            names.contains(last(path)) || starts.any(is_below)
        })
        .copied()
        .collect();
    let edges: Vec<(&Vec<u8>, bool)> = world
        .edges
        .iter()
        .map(|(path, is_folder)| (path, *is_folder))
        .collect();
    (0..count)
        .map(|_| {
            let from = match rng.below(9) {
                0 => &edges,
                1..4 => &objects,
                _ if about.is_empty() => &objects,
                _ => &about,
            };
            let (path, is_folder) = *rng.pick(from);
            let in_deep = path.starts_with(&world.deep) && path.len() > world.deep.len() + 1;
            let relative = in_deep && (path.len() > LONGEST || rng.one_in(2));
            let folder = if relative { world.deep.len() + 1 } else { 0 };
            Access::Open {
                path: path.clone(),
                folder: u16::try_from(folder).unwrap_or(0),
                flags: if is_folder {
                    O_RDONLY
                } else {
                    *rng.pick(FILE_FLAGS)
                },
            }
        })
        .collect()
}

const NETWORKS: &[(&str, &[u8])] = &[
    ("127.0.0.1", &[0, 1, 8, 9, 16, 24, 31, 32]),
    ("127.128.3.77", &[7, 8, 10, 17, 25, 30, 32]),
    ("10.1.2.3", &[0, 4, 8, 15, 16, 20, 24, 29, 32]),
    ("203.0.113.200", &[0, 2, 12, 24, 25, 26, 28, 32]),
    ("255.255.255.255", &[1, 4, 32]),
    ("::1", &[0, 1, 64, 80, 96, 127, 128]),
    (
        "2001:db8:1:2::5",
        &[3, 16, 32, 47, 48, 63, 64, 65, 112, 127, 128],
    ),
    ("fe80::1:2", &[10, 64, 128]),
    (
        "fd00:1234:5678:9abc:def0:1234:5678:9abc",
        &[7, 8, 33, 77, 100, 121, 128],
    ),
    ("::ffff:0:0", &[80, 88, 95]),
];

/// Adds rules about addresses.
pub fn addresses(rng: &mut Rng, set: &mut RuleSet) {
    for _ in 0..rng.below(15) {
        let (address, lengths) = *rng.pick(NETWORKS);
        let address: IpAddr = address.parse().expect("an address");
        let mut bits = *rng.pick(lengths);
        let mut address = address;
        if rng.one_in(3) {
            address = match address {
                IpAddr::V4(four) => IpAddr::from(flipped::<4>(rng, four.octets())),
                IpAddr::V6(six) => IpAddr::from(flipped::<16>(rng, six.octets())),
            };
            bits = bits.saturating_sub(u8::from(rng.one_in(2)));
        }
        let network = Network::new(address, bits).expect("a prefix that fits");
        let first: u16 = *rng.pick(&[0, 1, 53, 80, 443, 1000, 8000, 65535]);
        let last = match rng.below(3) {
            0 => first,
            1 => first.saturating_add(*rng.pick(&[1, 10, 1000])),
            _ => u16::MAX,
        };
        let protocols = match rng.below(3) {
            0 => Protocols::TCP,
            1 => Protocols::UDP,
            _ => 1 + rng.short() % 7,
        };
        push(
            set,
            Subject::Address {
                network,
                first,
                last,
                protocols,
            },
        );
    }
}

fn flipped<const N: usize>(rng: &mut Rng, mut bytes: [u8; N]) -> [u8; N] {
    let bit = rng.below(N * 8);
    if let Some(byte) = bytes.get_mut(bit / 8) {
        *byte ^= 0x80 >> (bit % 8);
    }
    bytes
}

/// Connects and datagrams, most of them near what the rules are about.
pub fn reaches(rng: &mut Rng, set: &RuleSet, count: usize) -> Vec<Access> {
    let rules: Vec<(Network, u16, u16)> = set
        .rules()
        .iter()
        .filter_map(|rule| match rule.subject {
            Subject::Address {
                network,
                first,
                last,
                ..
            } => Some((network, first, last)),
            _ => None,
        })
        .collect();
    (0..count)
        .map(|_| {
            let (address, port) = if rules.is_empty() || rng.one_in(4) {
                let (address, _) = *rng.pick(NETWORKS);
                let address = match address.parse().expect("an address") {
                    IpAddr::V4(four) => four.to_ipv6_mapped(),
                    IpAddr::V6(six) => six,
                };
                (address.octets(), rng.short())
            } else {
                let (network, first, last) = *rng.pick(&rules);
                let port = *rng.pick(&[
                    first,
                    last,
                    first.saturating_sub(1),
                    last.saturating_add(1),
                    first / 2 + last / 2,
                ]);
                (in_or_beside(rng, network), port)
            };
            let send = rng.one_in(3);
            let is_four = Ipv6Addr::from(address).to_ipv4_mapped().is_some();
            Access::Reach {
                send,
                protocol: if send {
                    UDP
                } else {
                    *rng.pick(&[UDP, TCP, TCP, ICMP])
                },
                six: !is_four || rng.one_in(3),
                address,
                // A datagram to no port is an error before anyone is asked.
                port: if send { port.max(1) } else { port },
            }
        })
        .collect()
}

/// An address in the network, or one that differs from it in the last bit of its prefix.
fn in_or_beside(rng: &mut Rng, network: Network) -> [u8; 16] {
    let bits = u32::from(network.prefix_bits());
    let rest = u128::MAX.checked_shr(bits).unwrap_or(0);
    let random = u128::from(rng.any()) << 64 | u128::from(rng.any());
    let host = *rng.pick(&[0, rest, random & rest]);
    let mut address = u128::from_be_bytes(network.address()) | host;
    if bits > 0 && rng.one_in(4) {
        address ^= 1 << (128 - bits);
    }
    address.to_be_bytes()
}
