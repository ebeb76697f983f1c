//! The maps. Their names are those of `skillsandbox_common::names`.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, bpf_map_type},
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, RingBuf, SkStorage},
    macros::btf_map,
};
use skillsandbox_common::{
    rule::{ADDRESS_KEY_LEN, FileRule, NetworkRule, PATH_KEY_LEN, PORT_RANGES_MAX},
    slot::{FOLD_KEY_LEN, FOLDS_MAX, RINGS_MAX, SLOTS, SlotConfig, SlotCounters},
};

use crate::scratch::{SPARES, Scratch};

/// Entries of one sandbox's path rules: two for each path of a manifest.
pub const FILE_RULES_MAX: usize = 16_384;
/// Entries of one sandbox's address rules.
pub const NETWORK_RULES_MAX: usize = 65_536;
/// Size of an inner ring in the object; the rings of a sandbox have their own.
const RING_BYTES: usize = 4096;

/// Values of inner maps are declared as integers: Linux 6.1 takes a map made without BTF for
/// unlike a template whose value is a structure (`timer_off` in `bpf_map_meta_equal`).
type FileRules = LpmTrie<[u8; PATH_KEY_LEN], [u32; 4], FILE_RULES_MAX>;
type NetworkRules = LpmTrie<[u8; ADDRESS_KEY_LEN], [u64; PORT_RANGES_MAX], NETWORK_RULES_MAX>;
const _: () = assert!(size_of::<FileRule>() == size_of::<[u32; 4]>());
const _: () = assert!(size_of::<NetworkRule>() == size_of::<[u64; PORT_RANGES_MAX]>());
type Folds = HashMap<[u8; FOLD_KEY_LEN], u64, FOLDS_MAX>;
type Ring = RingBuf<u8, RING_BYTES>;

#[btf_map]
pub static CONFIG: Array<SlotConfig, { SLOTS as usize }> = Array::new();
#[btf_map]
pub static COUNTERS: Array<SlotCounters, { SLOTS as usize }> = Array::new();
/// [`crate::home`]; 0 until the first access of a sandbox.
#[btf_map]
pub static HOMES: Array<u64, { SLOTS as usize }> = Array::new();
#[btf_map]
pub static FILE_RULES: ArrayOfMaps<FileRules, { SLOTS as usize }> = ArrayOfMaps::new();
#[btf_map]
pub static NETWORK_RULES: ArrayOfMaps<NetworkRules, { SLOTS as usize }> = ArrayOfMaps::new();
/// [`RINGS_MAX`] of each slot, one after the other.
#[btf_map]
pub static EVENTS: ArrayOfMaps<Ring, { (SLOTS * RINGS_MAX) as usize }> = ArrayOfMaps::new();
#[btf_map]
pub static DENIALS: ArrayOfMaps<Ring, { SLOTS as usize }> = ArrayOfMaps::new();
#[btf_map]
pub static FOLDS: ArrayOfMaps<Folds, { SLOTS as usize }> = ArrayOfMaps::new();
#[btf_map]
pub static TRACED: HashMap<u64, u32, { SLOTS as usize }> = HashMap::new();
#[btf_map]
pub static SCRATCH: TaskStorage<Scratch> = TaskStorage::new();
#[btf_map]
pub static SPARE: Array<Scratch, SPARES> = Array::new();
#[btf_map]
pub static ASKED: SkStorage<Asked> = SkStorage::new();
#[btf_map]
pub static CGROUP_SLOT: SharedCgroupStorage<u32> = SharedCgroupStorage::new();

/// What a socket asked for where the name server answers: address (IPv4 as mapped) and port, both as
/// on the wire. Port 0 where it asked for nothing.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Asked {
    /// The address, a word at a time.
    pub address: [u32; 4],
    /// The port.
    pub port: u32,
}

/// Declares a map whose kind `aya-ebpf` has no type for, in the shape that its loader reads.
macro_rules! storage_map {
    ($(#[$doc:meta])* $name:ident, $kind:expr, $key:ty, $flags:expr) => {
        $(#[$doc])*
        #[repr(C)]
        pub struct $name<T> {
            r#type: *const [i32; $kind as usize],
            key: *const $key,
            value: *const T,
            max_entries: *const [i32; 0],
            map_flags: *const [i32; $flags as usize],
        }

        // SAFETY: the fields are placeholders that the loader reads from BTF; nothing
        // dereferences them.
        unsafe impl<T> Sync for $name<T> {}

        impl<T> $name<T> {
            /// The definition that the loader turns into a map.
            pub const fn new() -> Self {
                Self {
                    r#type: core::ptr::null(),
                    key: core::ptr::null(),
                    value: core::ptr::null(),
                    max_entries: core::ptr::null(),
                    map_flags: core::ptr::null(),
                }
            }

            /// The map, as helpers take it.
            #[inline(always)]
            pub fn as_ptr(&self) -> *mut c_void {
                core::ptr::from_ref(self).cast_mut().cast()
            }
        }
    };
}

storage_map!(
    /// One value per task, made on first use (Linux 5.11).
    TaskStorage,
    bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE,
    i32,
    BPF_F_NO_PREALLOC
);
storage_map!(
    /// One value per cgroup that a program is attached to, shared by all its programs whatever
    /// their attach type: that is what a key of only the cgroup's id means (Linux 5.9,
    /// `Documentation/bpf/map_cgroup_storage.rst`). One update arms every hook at once.
    SharedCgroupStorage,
    bpf_map_type::BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED,
    u64,
    0
);

/// The address of a map, as helpers take it.
#[inline(always)]
pub fn pointer<M>(map: &M) -> *mut c_void {
    core::ptr::from_ref(map).cast_mut().cast()
}
