//! The rules of a slot, each kind in a map of its own.

use aya::maps::{LpmTrie, MapData, lpm_trie::Key};
use skillsandbox_common::{
    names::{MAP_FILE_RULES, MAP_NETWORK_RULES},
    rule::{ADDRESS_KEY_LEN, FileRule, NetworkRule, PATH_KEY_LEN},
};
use zerocopy::{Immutable, IntoBytes};

use super::KernelError;
use crate::policy::{FileEntry, Network, NetworkEntry, Tables};

/// `BPF_F_NO_PREALLOC`, which a longest-prefix-match map must have.
const NO_PREALLOC: u32 = 1;
/// Least entries that a table has room for: one may be made empty, and filled later. Room takes no memory.
const ROOM: usize = 65_536;

/// Most addresses that the names of one sandbox have at a time.
pub const NAMED_ADDRESSES_MAX: usize = 16_384;

pub(super) type FileTrie = LpmTrie<MapData, [u8; PATH_KEY_LEN], [u8; size_of::<FileRule>()]>;
pub(super) type NetworkTrie =
    LpmTrie<MapData, [u8; ADDRESS_KEY_LEN], [u8; size_of::<NetworkRule>()]>;

/// The address rules of one sandbox, while they are in force.
pub struct AddressRules {
    trie: NetworkTrie,
}

impl AddressRules {
    pub(super) fn of(trie: NetworkTrie) -> Self {
        Self { trie }
    }

    /// Has this rule decide on one network, or none of its own.
    pub fn set(&mut self, network: Network, rule: Option<&NetworkRule>) -> Result<(), KernelError> {
        let key = Key::new(u32::from(network.prefix_bits()), network.address());
        let done = match rule {
            Some(rule) => {
                let bytes: [u8; size_of::<NetworkRule>()] = array_of(rule);
                self.trie.insert(&key, bytes, 0)
            }
            None => self.trie.remove(&key),
        };
        done.map_err(|source| KernelError::Rule { network, source })
    }

    pub(super) fn fill(&mut self, entries: &[NetworkEntry]) -> Result<(), KernelError> {
        let mut entries = entries.iter();
        entries.try_for_each(|entry| self.set(entry.network, Some(&entry.rule)))
    }
}

impl std::fmt::Debug for AddressRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddressRules").finish_non_exhaustive()
    }
}

/// Maps with these rules.
pub(super) fn made_of(tables: &Tables) -> Result<(FileTrie, NetworkTrie), KernelError> {
    let mut files = FileTrie::create(room(tables.files.len()), NO_PREALLOC)
        .map_err(KernelError::map("make", MAP_FILE_RULES))?;
    fill_files(&mut files, &tables.files)?;
    let networks = room(tables.networks.len() + NAMED_ADDRESSES_MAX);
    let networks = NetworkTrie::create(networks, NO_PREALLOC)
        .map_err(KernelError::map("make", MAP_NETWORK_RULES))?;
    let mut networks = AddressRules::of(networks);
    networks.fill(&tables.networks)?;
    Ok((files, networks.trie))
}

pub(super) fn fill_files(trie: &mut FileTrie, entries: &[FileEntry]) -> Result<(), KernelError> {
    for entry in entries {
        let mut data = [0; PATH_KEY_LEN];
        for (place, byte) in data.iter_mut().zip(&entry.prefix) {
            *place = *byte;
        }
        let bits = entry.prefix.len().min(PATH_KEY_LEN) * 8;
        let key = Key::new(u32::try_from(bits).unwrap_or(u32::MAX), data);
        let bytes: [u8; size_of::<FileRule>()] = array_of(&entry.rule);
        trie.insert(&key, bytes, 0)
            .map_err(KernelError::map("fill", MAP_FILE_RULES))?;
    }
    Ok(())
}

fn room(entries: usize) -> u32 {
    u32::try_from(entries.max(ROOM)).unwrap_or(u32::MAX)
}

/// The bytes of a value whose size is `N`.
pub(super) fn array_of<const N: usize>(value: &(impl IntoBytes + Immutable)) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(value.as_bytes());
    array
}
