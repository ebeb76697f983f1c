//! Offsets of structure members in the running kernel, read from its BTF.

use super::{KernelError, btf::Btf};

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
    ("SOCK_SK_TYPE", "sock", "sk_type"),
    ("DENTRY_D_INODE", "dentry", "d_inode"),
    ("INODE_I_INO", "inode", "i_ino"),
    ("INODE_I_SB", "inode", "i_sb"),
    ("SUPER_BLOCK_S_DEV", "super_block", "s_dev"),
    ("UNIX_SOCK_PATH", "unix_sock", "path"),
    ("UNIX_SOCK_ADDR", "unix_sock", "addr"),
    ("UNIX_ADDRESS_LEN", "unix_address", "len"),
    ("UNIX_ADDRESS_NAME", "unix_address", "name"),
    ("TASK_PID", "task_struct", "pid"),
    ("TASK_TGID", "task_struct", "tgid"),
    ("TASK_REAL_PARENT", "task_struct", "real_parent"),
    ("TASK_NSPROXY", "task_struct", "nsproxy"),
    ("NSPROXY_MNT_NS", "nsproxy", "mnt_ns"),
    ("MNT_NAMESPACE_INUM", "mnt_namespace", "ns.inum"),
    ("TASK_FS", "task_struct", "fs"),
    ("FS_ROOT_DENTRY", "fs_struct", "root.dentry"),
    ("TASK_CGROUPS", "task_struct", "cgroups"),
    ("CSS_SET_DFL_CGRP", "css_set", "dfl_cgrp"),
    ("CGROUP_KN", "cgroup", "kn"),
    ("CGROUP_SELF_PARENT", "cgroup", "self.parent"),
    ("KERNFS_NODE_ID", "kernfs_node", "id"),
    ("TASK_EXIT_CODE", "task_struct", "exit_code"),
];

/// Reads every offset: the name of the global, and bytes from the start of the structure.
pub(super) fn read() -> Result<Vec<(&'static str, u64)>, KernelError> {
    let no_btf = |reason: String| KernelError::NoBtf {
        path: VMLINUX,
        reason,
    };
    let bytes = std::fs::read(VMLINUX).map_err(|error| no_btf(error.to_string()))?;
    let btf = Btf::parse(&bytes)
        .ok_or_else(|| no_btf("it is not in a format that this build knows".to_owned()))?;
    let mut offsets: Vec<(&'static str, u64)> = WANTED
        .iter()
        .map(|(global, structure, members)| {
            let offset =
                btf.offset_of(structure, members)
                    .ok_or_else(|| KernelError::NoMember {
                        member: format!("{structure}.{members}"),
                    })?;
            Ok((*global, offset))
        })
        .collect::<Result<_, KernelError>>()?;
    let marked = !btf.has("backing_file");
    offsets.push(("LAYER_MODE", if marked { FMODE_NOACCOUNT } else { 0 }));
    Ok(offsets)
}
