//! Which chain the lines of a network are in. iptables reads a chain line by line for every packet:
//! ten thousand lines take two hundred times as long as the packet itself. So each chain is short,
//! and leads to others by the next bits of the address.

use std::collections::BTreeMap;

use crate::policy::Network;

/// Networks in one chain before it branches.
const CHAIN_MAX: usize = 16;
/// Bits of the address that a chain branches by.
const BITS: u8 = 4;
/// Chains below each other: nftables follows 16 jumps (`NFT_JUMP_STACK_SIZE`,
/// `include/net/netfilter/nf_tables.h`), of which others may have taken some.
const DEPTH_MAX: usize = 10;

/// Chains by the network that they are about.
pub(super) type Tree = BTreeMap<Network, Node>;

/// One chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// The networks whose lines are in it.
    pub(super) networks: Vec<Network>,
    /// The chains that it leads to.
    pub(super) branches: Vec<Network>,
}

/// The chains for these networks, which are sorted and lie in `root`. They depend on nothing else, and
/// one network more or less changes few of them.
pub(super) fn plant(root: Network, networks: Vec<Network>) -> Tree {
    let mut tree = Tree::new();
    grow(root, networks, 0, &mut tree);
    tree
}

fn grow(at: Network, networks: Vec<Network>, depth: usize, tree: &mut Tree) {
    let mut node = Node::default();
    if networks.len() <= CHAIN_MAX || depth == DEPTH_MAX {
        node.networks = networks;
        tree.insert(at, node);
        return;
    }
    let bits = at.prefix_bits().saturating_add(BITS).min(128);
    let (narrow, wide): (Vec<_>, Vec<_>) = networks
        .into_iter()
        .partition(|network| network.prefix_bits() >= bits);
    node.networks = wide;
    for group in narrow.chunk_by(|one, two| one.widened(bits) == two.widened(bits)) {
        match group {
            [first, .., last] => {
                // Sorted, so that what these two share all others do, but for wider ones.
                let common = group.iter().fold(first.common(last), |common, network| {
                    common.widened(network.prefix_bits())
                });
                node.branches.push(common);
                grow(common, group.to_vec(), depth + 1, tree);
            }
            // A line of its own is no longer than one that leads to it.
            alone => node.networks.extend(alone),
        }
    }
    tree.insert(at, node);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn every() -> Network {
        Network::new([0, 0, 0, 0].into(), 0).unwrap()
    }

    /// The chains that a packet to this network goes through.
    fn asked<'t>(tree: &'t Tree, at: &Network, to: &Network) -> Vec<&'t Node> {
        let node = &tree[at];
        let below = node.branches.iter().filter(|branch| branch.covers(to));
        std::iter::once(node)
            .chain(below.flat_map(|branch| asked(tree, branch, to)))
            .collect()
    }

    fn network() -> impl Strategy<Value = Network> {
        // Few different bits, so that they lie in each other.
        let bytes = prop::array::uniform4(prop::sample::select(vec![0u8, 1, 16, 128, 255]));
        (bytes, 0u8..=32).prop_map(|(bytes, bits)| Network::new(bytes.into(), bits).unwrap())
    }

    proptest! {
        #[test]
        fn a_packet_comes_to_the_lines_of_each_network_that_it_goes_to_once(
            networks in prop::collection::btree_set(network(), 0..300)
        ) {
            let sorted: Vec<_> = networks.iter().copied().collect();
            let tree = plant(every(), sorted.clone());
            let placed: usize = tree.values().map(|node| node.networks.len()).sum();
            prop_assert_eq!(placed, sorted.len());
            for to in &sorted {
                let seen = asked(&tree, &every(), to);
                prop_assert!(seen.len() <= DEPTH_MAX + 1);
                let lines: Vec<_> = seen.iter().flat_map(|node| &node.networks).collect();
                for network in sorted.iter().filter(|network| network.covers(to)) {
                    prop_assert_eq!(lines.iter().filter(|line| **line == network).count(), 1);
                }
            }
        }
    }

    #[test]
    fn of_ten_thousand_addresses_a_packet_is_compared_with_few() {
        let networks = |first: u32| {
            let mut networks: Vec<_> = (first..first + 10_000)
                .map(|number| number.wrapping_mul(0x9e37_79b1).to_be_bytes())
                .map(|bytes| Network::host(bytes.into()))
                .collect();
            networks.sort();
            networks
        };
        let (tree, later) = (plant(every(), networks(0)), plant(every(), networks(1)));
        for to in networks(0) {
            let seen = asked(&tree, &every(), &to);
            let lines: usize = seen
                .iter()
                .map(|node| node.networks.len() + node.branches.len())
                .sum();
            assert!(lines <= 80, "{lines}");
        }
        let changed = later
            .iter()
            .filter(|(place, node)| tree.get(place) != Some(node));
        assert!(changed.count() <= 4, "one came and one went");
    }
}
