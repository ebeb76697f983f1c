//! The values of the maps. Bytes cross as arrays, which is what aya takes without a promise
//! about foreign types.
use std::{num::NonZero, ops::RangeInclusive, thread};

use zerocopy::IntoBytes;

use super::{
    AddressRules, KernelError, Objects, Rings,
    tries::{self, FileTrie, NetworkTrie, array_of},
};
use crate::policy::Tables;
use aya::maps::{Array, ArrayOfMaps, HashMap, InnerMap, Map, MapData, MapError};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF;
use skillsandbox_common::{
    names::{
        MAP_CGROUP_SLOT, MAP_CONFIG, MAP_COUNTERS, MAP_DENIALS, MAP_EVENTS, MAP_FILE_RULES,
        MAP_FOLDS, MAP_HOMES, MAP_NETWORK_RULES, MAP_TRACED,
    },
    slot::{FOLD_KEY_LEN, FOLDS_MAX, RINGS_MAX, SLOTS, SlotConfig, SlotCounters},
};

/// Sizes that the ring of denials can have, bytes: half of that of events. A denied skill that floods it is counted, not
/// heard.
const DENIALS_BYTES: RangeInclusive<u32> = 64 * 1024..=256 * 1024;

/// Of several rings of events, each is no smaller: half of it has room for what one processor makes in ten milliseconds.
const RING_BYTES_LEAST: u32 = 2 * 1024 * 1024;

type Config = [u8; size_of::<SlotConfig>()];
type Counters = [u8; size_of::<SlotCounters>()];
type FoldMap = HashMap<MapData, [u8; FOLD_KEY_LEN], u64>;

/// The maps that a sandbox has its part of.
pub(super) struct Maps {
    config: Array<MapData, Config>,
    counters: Array<MapData, Counters>,
    homes: Array<MapData, u64>,
    files: ArrayOfMaps<MapData, FileTrie>,
    networks: ArrayOfMaps<MapData, NetworkTrie>,
    /// The same map for each ring of a slot, so that all are set at one time.
    events: [ArrayOfMaps<MapData, MapData>; RINGS_MAX as usize],
    denials: ArrayOfMaps<MapData, MapData>,
    folds: ArrayOfMaps<MapData, FoldMap>,
    traced: HashMap<MapData, u64, u32>,
    cgroup_slot: HashMap<MapData, u64, u32>,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

/// Opens a pinned map as a type of aya's.
macro_rules! open {
    ($objects:expr, $name:expr, $variant:ident) => {
        Map::$variant($objects.map($name)?)
            .try_into()
            .map_err(KernelError::map("open", $name))?
    };
}

impl Maps {
    pub(super) fn open(objects: &Objects) -> Result<Self, KernelError> {
        Ok(Self {
            config: open!(objects, MAP_CONFIG, Array),
            counters: open!(objects, MAP_COUNTERS, Array),
            homes: open!(objects, MAP_HOMES, Array),
            files: open!(objects, MAP_FILE_RULES, ArrayOfMaps),
            networks: open!(objects, MAP_NETWORK_RULES, ArrayOfMaps),
            events: [
                open!(objects, MAP_EVENTS, ArrayOfMaps),
                open!(objects, MAP_EVENTS, ArrayOfMaps),
                open!(objects, MAP_EVENTS, ArrayOfMaps),
                open!(objects, MAP_EVENTS, ArrayOfMaps),
            ],
            denials: open!(objects, MAP_DENIALS, ArrayOfMaps),
            folds: open!(objects, MAP_FOLDS, ArrayOfMaps),
            traced: open!(objects, MAP_TRACED, HashMap),
            // aya's type for cgroup storage knows only the key with an attach type. The system
            // calls are those of a hash map.
            cgroup_slot: open!(objects, MAP_CGROUP_SLOT, HashMap),
        })
    }

    /// The slots that shared programs look for.
    pub(super) fn traced_slots(&self) -> Vec<u32> {
        self.traced
            .iter()
            .filter_map(Result::ok)
            .map(|(_, slot)| slot)
            .collect()
    }

    /// Has shared programs decide for this cgroup by the rules of a slot.
    pub(super) fn lead_shared(&mut self, cgroup_id: u64, slot: u32) -> Result<(), KernelError> {
        self.traced
            .insert(cgroup_id, slot, 0)
            .map_err(KernelError::map("fill", MAP_TRACED))
    }

    /// Has the programs that are attached to this cgroup decide by the rules of a slot. One of them is attached:
    /// without any, the cgroup has no storage.
    pub(super) fn lead_programs(&mut self, cgroup_id: u64, slot: u32) -> Result<(), KernelError> {
        self.cgroup_slot
            .insert(cgroup_id, slot, 0)
            .map_err(KernelError::map("fill", MAP_CGROUP_SLOT))
    }

    /// Lets shared programs look for a sandbox at this cgroup no more.
    pub(super) fn forget_cgroup(&mut self, cgroup_id: u64) -> Result<(), KernelError> {
        match self.traced.remove(&cgroup_id) {
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
            {
                Ok(())
            }
            result => result.map_err(KernelError::map("clean", MAP_TRACED)),
        }
    }

    /// Makes a slot as if it had never been used: nothing in it allows, nothing records.
    pub(super) fn clear(&mut self, slot: u32) -> Result<(), KernelError> {
        let traced: Vec<u64> = self
            .traced
            .iter()
            .filter_map(Result::ok)
            .filter_map(|(cgroup, of)| (of == slot).then_some(cgroup))
            .collect();
        for cgroup in traced {
            self.forget_cgroup(cgroup)?;
        }
        self.configure(slot, &SlotConfig::default())?;
        self.homes
            .set(slot, 0, 0)
            .map_err(KernelError::map("reset", MAP_HOMES))?;
        self.counters
            .set(slot, [0; size_of::<SlotCounters>()], 0)
            .map_err(KernelError::map("reset", MAP_COUNTERS))
    }

    /// Gives a slot other rules. Until [`configure`](Self::configure), nothing in it allows.
    pub(super) fn refill(&mut self, slot: u32, tables: &Tables) -> Result<(), KernelError> {
        self.configure(slot, &SlotConfig::default())?;
        self.fill(slot, tables)
    }

    /// Writes the rules of a slot into maps of its own.
    fn fill(&mut self, slot: u32, tables: &Tables) -> Result<(), KernelError> {
        let (files, networks) = tries::made_of(tables)?;
        let changes: [Change<'_>; _] = [
            &mut || set(&mut self.files, MAP_FILE_RULES, slot, &files),
            &mut || set(&mut self.networks, MAP_NETWORK_RULES, slot, &networks),
        ];
        together(changes)
    }

    /// Writes rules into the maps of a slot that has none. Each counts at once: let nothing run there.
    pub(super) fn write(&mut self, slot: u32, tables: &Tables) -> Result<(), KernelError> {
        let files = self.files.get(&slot, 0);
        let mut files = files.map_err(KernelError::map("open", MAP_FILE_RULES))?;
        tries::fill_files(&mut files, &tables.files)?;
        self.address_rules(slot)?.fill(&tables.networks)
    }

    /// Writes the rules of a slot into maps of its own, and makes its rings.
    pub(super) fn furnish(
        &mut self,
        slot: u32,
        tables: &Tables,
        wanted: WantedRings,
    ) -> Result<Rings, KernelError> {
        let (files, networks) = tries::made_of(tables)?;
        let count = wanted.count();
        let events = (0..count).map(|_| make_ring("events", wanted.bytes / count));
        let events = events.collect::<Result<Vec<_>, _>>();
        let events = events.map_err(KernelError::map("make", MAP_EVENTS))?;
        let folds = wanted
            .aggregate
            .then(|| FoldMap::create(room(FOLDS_MAX), 0))
            .transpose()
            .map_err(KernelError::map("make", MAP_FOLDS))?;
        let denials = make_ring(
            "denials",
            (wanted.bytes / 2).clamp(*DENIALS_BYTES.start(), *DENIALS_BYTES.end()),
        )
        .map_err(KernelError::map("make", MAP_DENIALS))?;
        let changes: [Change<'_>; _] = [
            &mut || set(&mut self.files, MAP_FILE_RULES, slot, &files),
            &mut || set(&mut self.networks, MAP_NETWORK_RULES, slot, &networks),
            &mut || set_rings(&mut self.events, slot, &events),
            &mut || set(&mut self.denials, MAP_DENIALS, slot, &denials),
            &mut || match &folds {
                Some(folds) => set(&mut self.folds, MAP_FOLDS, slot, folds),
                None => Ok(()),
            },
        ];
        together(changes)?;
        Rings::new(events, denials, folds.map(Folds))
    }

    /// The slot that the programs attached to a cgroup are led to, if any are.
    pub(super) fn slot_of(&self, cgroup_id: u64) -> Result<Option<u32>, KernelError> {
        match self.cgroup_slot.get(&cgroup_id, 0) {
            Ok(slot) => Ok(Some(slot)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(KernelError::map("read", MAP_CGROUP_SLOT)(error)),
        }
    }

    /// How the rules of a slot are applied.
    pub(super) fn config(&self, slot: u32) -> Result<SlotConfig, KernelError> {
        let bytes = self.config.get(&slot, 0);
        let bytes = bytes.map_err(KernelError::map("read", MAP_CONFIG))?;
        let mut config = SlotConfig::default();
        config.as_mut_bytes().copy_from_slice(&bytes);
        Ok(config)
    }

    /// Has paths mean in a slot what they mean in another.
    pub(super) fn copy_home(&mut self, from: u32, to: u32) -> Result<(), KernelError> {
        let home = self.homes.get(&from, 0);
        let home = home.map_err(KernelError::map("read", MAP_HOMES))?;
        let set = self.homes.set(to, home, 0);
        set.map_err(KernelError::map("set", MAP_HOMES))
    }

    /// The rings of a slot that has one of events.
    pub(super) fn rings(&self, slot: u32) -> Result<Rings, KernelError> {
        let [events, ..] = &self.events;
        let events = events.get(&(slot * rings_of_slot(events)), 0);
        let denials = self.denials.get(&slot, 0);
        Rings::new(
            vec![events.map_err(KernelError::map("open", MAP_EVENTS))?],
            denials.map_err(KernelError::map("open", MAP_DENIALS))?,
            None,
        )
    }

    /// Waits until every program that runs now has ended: the kernel does so when a map in a map is set, if only to
    /// what it is (`maybe_wait_bpf_programs`, `kernel/bpf/syscall.c`).
    pub(super) fn wait_for_programs(&mut self, slot: u32) -> Result<(), KernelError> {
        let denials = self.denials.get(&slot, 0);
        let denials = denials.map_err(KernelError::map("open", MAP_DENIALS))?;
        set(&mut self.denials, MAP_DENIALS, slot, &denials)
    }

    /// The address rules of a slot.
    pub(super) fn address_rules(&self, slot: u32) -> Result<AddressRules, KernelError> {
        let trie = self.networks.get(&slot, 0);
        let trie = trie.map_err(KernelError::map("open", MAP_NETWORK_RULES))?;
        Ok(AddressRules::of(trie))
    }

    /// What the programs counted for a slot.
    pub(super) fn counters(&self, slot: u32) -> Result<SlotCounters, KernelError> {
        let bytes = self
            .counters
            .get(&slot, 0)
            .map_err(KernelError::map("read", MAP_COUNTERS))?;
        let mut counters = SlotCounters::default();
        counters.as_mut_bytes().copy_from_slice(&bytes);
        Ok(counters)
    }

    /// Says how the rules of a slot are to be applied, or that they are not complete.
    pub(super) fn configure(&mut self, slot: u32, config: &SlotConfig) -> Result<(), KernelError> {
        let bytes: Config = array_of(config);
        self.config
            .set(slot, bytes, 0)
            .map_err(KernelError::map("set", MAP_CONFIG))
    }
}

/// What a sandbox's records go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedRings {
    /// Size of all rings of events: a power of two.
    pub bytes: u32,
    /// Whether there may be several.
    pub several: bool,
    /// Whether accesses to files that differ in nothing but their time are counted together.
    pub aggregate: bool,
}

impl WantedRings {
    /// How many rings of events there are: a power of two, at most [`RINGS_MAX`], and no more than it takes for each
    /// processor to have its own.
    fn count(self) -> u32 {
        if !self.several {
            return 1;
        }
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let processors = u32::try_from(processors).unwrap_or(RINGS_MAX);
        let room = self.bytes / RING_BYTES_LEAST;
        room.min(processors.next_power_of_two()).clamp(1, RINGS_MAX)
    }
}

/// Accesses of one sandbox that were counted with earlier ones.
pub struct Folds(FoldMap);

impl Folds {
    /// Those that were counted so far: the event that they are like, without its time and sequence number and with
    /// zeros after it, and the count.
    pub fn each(&self) -> Result<Vec<([u8; FOLD_KEY_LEN], u64)>, KernelError> {
        let all = self.0.iter().collect::<Result<_, _>>();
        all.map_err(KernelError::map("read", MAP_FOLDS))
    }

    /// Forgets those like this, whose thread is gone.
    pub fn forget(&mut self, like: &[u8; FOLD_KEY_LEN]) -> Result<(), KernelError> {
        let removed = self.0.remove(like);
        removed.map_err(KernelError::map("clean", MAP_FOLDS))
    }
}

impl std::fmt::Debug for Folds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folds").finish_non_exhaustive()
    }
}

fn set<M: InnerMap>(
    outer: &mut ArrayOfMaps<MapData, M>,
    name: &'static str,
    slot: u32,
    inner: &M,
) -> Result<(), KernelError> {
    let set = outer.set(slot, inner, 0);
    set.map_err(KernelError::map("set", name))
}

/// A change of one map.
type Change<'a> = &'a mut (dyn FnMut() -> Result<(), KernelError> + Send);

/// Places of each slot: what an earlier version has attached, whose maps are used for as long as it is, has one.
fn rings_of_slot(events: &ArrayOfMaps<MapData, MapData>) -> u32 {
    (events.len() / SLOTS).clamp(1, RINGS_MAX)
}

/// Spreads rings over the places of a slot.
fn set_rings(
    outer: &mut [ArrayOfMaps<MapData, MapData>; RINGS_MAX as usize],
    slot: u32,
    rings: &[MapData],
) -> Result<(), KernelError> {
    let [first, ..] = &*outer;
    let count = rings_of_slot(first);
    let places = slot * count..(slot + 1) * count;
    let places = places.zip(outer).zip(rings.iter().cycle());
    together(places.map(|((place, outer), ring)| move || set(outer, MAP_EVENTS, place, ring)))
}

/// Makes changes that the kernel lets us wait for each: until no program can still use the map that was
/// there before (`maybe_wait_bpf_programs`, `kernel/bpf/syscall.c`), some ten milliseconds.
fn together(
    changes: impl IntoIterator<Item: FnOnce() -> Result<(), KernelError> + Send>,
) -> Result<(), KernelError> {
    thread::scope(|scope| {
        let changes = changes.into_iter();
        let waiting: Vec<_> = changes.map(|change| scope.spawn(change)).collect();
        let done = waiting.into_iter().map(|change| {
            let done = change.join();
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        done.collect()
    })
}

fn make_ring(name: &str, bytes: u32) -> Result<MapData, MapError> {
    let definition = aya_obj::Map::new_from_params(BPF_MAP_TYPE_RINGBUF as u32, 0, 0, bytes, 0);
    MapData::create(definition, name, None)
}

/// A map has room for at least one entry.
fn room(entries: usize) -> u32 {
    u32::try_from(entries).unwrap_or(u32::MAX).max(1)
}
