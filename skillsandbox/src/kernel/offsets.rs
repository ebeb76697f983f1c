//! Offsets of structure members in the running kernel, read from its BTF.

use btf_rs::{Btf, Type};

use super::KernelError;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Mark of a file that is not the task's own, `include/linux/fs.h` of Linux 4.19 to 6.4.
const FMODE_NOACCOUNT: u64 = 0x2000_0000;

/// The globals of the eBPF object, and the member whose byte offset each one wants.
const WANTED: &[(&str, &str, &str)] = &[
    ("FILE_F_PATH", "file", "f_path"),
    ("FILE_F_FLAGS", "file", "f_flags"),
    ("FILE_F_MODE", "file", "f_mode"),
    ("PATH_MNT", "path", "mnt"),
    ("MOUNT_MNT", "mount", "mnt"),
    ("MOUNT_MNT_NS", "mount", "mnt_ns"),
    ("PATH_DENTRY", "path", "dentry"),
    ("DENTRY_D_HASH_PPREV", "dentry", "d_hash.pprev"),
    ("DENTRY_D_PARENT", "dentry", "d_parent"),
    ("DENTRY_D_NAME_NAME", "dentry", "d_name.name"),
    ("BINPRM_FILE", "linux_binprm", "file"),
    ("BINPRM_FILENAME", "linux_binprm", "filename"),
    ("TASK_PID", "task_struct", "pid"),
    ("TASK_TGID", "task_struct", "tgid"),
    ("TASK_REAL_PARENT", "task_struct", "real_parent"),
    ("TASK_EXIT_CODE", "task_struct", "exit_code"),
];

/// Reads every offset: the name of the global, and bytes from the start of the structure.
pub(super) fn read() -> Result<Vec<(&'static str, u64)>, KernelError> {
    let btf = Btf::from_file(VMLINUX).map_err(|error| KernelError::NoBtf {
        path: VMLINUX,
        reason: error.to_string(),
    })?;
    let mut offsets: Vec<(&'static str, u64)> = WANTED
        .iter()
        .map(|(global, structure, members)| {
            let offset =
                offset_of(&btf, structure, members).ok_or_else(|| KernelError::NoMember {
                    member: format!("{structure}.{members}"),
                })?;
            Ok((*global, offset))
        })
        .collect::<Result<_, KernelError>>()?;
    let found = btf
        .resolve_types_by_name("backing_file")
        .unwrap_or_default();
    let marked = found.is_empty();
    offsets.push(("LAYER_MODE", if marked { FMODE_NOACCOUNT } else { 0 }));
    Ok(offsets)
}

/// Offset in bytes of `members`, a path through nested structures.
fn offset_of(btf: &Btf, structure: &str, members: &str) -> Option<u64> {
    let mut current = btf
        .resolve_types_by_name(structure)
        .ok()?
        .into_iter()
        .find(|found| matches!(found, Type::Struct(_)))?;
    let mut bits = 0;
    for name in members.split('.') {
        let (member_bits, member_type) = member(btf, &current, name)?;
        bits += member_bits;
        current = member_type;
    }
    (bits % 8 == 0).then_some(bits / 8)
}

/// Offset in bits and type of a member, also one of an unnamed structure or union inside.
fn member(btf: &Btf, structure: &Type, wanted: &str) -> Option<(u64, Type)> {
    let (Type::Struct(found) | Type::Union(found)) = structure else {
        return None;
    };
    for member in &found.members {
        let bits = u64::from(member.bit_offset());
        let name = btf.resolve_name(member).unwrap_or_default();
        if name != wanted && !name.is_empty() {
            continue;
        }
        let inner = bare(btf, btf.resolve_chained_type(member).ok()?)?;
        if name == wanted {
            return Some((bits, inner));
        }
        if let Some((inner_bits, inner_type)) = self::member(btf, &inner, wanted) {
            return Some((bits + inner_bits, inner_type));
        }
    }
    None
}

/// A type without its `const`, `volatile` and typedefs.
fn bare(btf: &Btf, mut current: Type) -> Option<Type> {
    loop {
        current = match &current {
            Type::Const(inner) | Type::Volatile(inner) | Type::Restrict(inner) => {
                btf.resolve_chained_type(inner).ok()?
            }
            Type::Typedef(inner) => btf.resolve_chained_type(inner).ok()?,
            Type::TypeTag(inner) => btf.resolve_chained_type(inner).ok()?,
            _ => return Some(current),
        };
    }
}
