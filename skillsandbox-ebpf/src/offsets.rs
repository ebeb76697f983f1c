//! Offsets of kernel structure members, which differ between kernels.
//!
//! rustc emits no CO-RE relocations. The loader reads the offsets from the running kernel's BTF
//! and writes them here before it loads the object; the frozen `.rodata` makes each a constant
//! for the verifier.

/// Never a real offset: a program that reads it is refused by the verifier or reads nothing.
const UNSET: u64 = 0xffff;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident => $getter:ident,)*) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            static $name: u64 = UNSET;

            $(#[$doc])*
            #[inline(always)]
            pub fn $getter() -> usize {
                // SAFETY: reads a static; volatile so that the compiler does not fold `UNSET`,
                // which the loader replaces.
                unsafe { core::ptr::read_volatile(&raw const $name) as usize }
            }
        )*
    };
}

offsets! {
    /// `struct file.f_path`
    FILE_F_PATH => file_f_path,
    /// `struct file.f_flags`
    FILE_F_FLAGS => file_f_flags,
    /// `struct file.f_mode`
    FILE_F_MODE => file_f_mode,
    /// Not an offset: the bit of `f_mode` that marks a file which a file system opens for itself
    /// on kernels without `struct backing_file` (before 6.5), or 0.
    LAYER_MODE => layer_mode,
    /// `struct path.mnt`
    PATH_MNT => path_mnt,
    /// `struct mount.mnt`
    MOUNT_MNT => mount_mnt,
    /// `struct mount.mnt_ns`
    MOUNT_MNT_NS => mount_mnt_ns,
    /// `struct path.dentry`
    PATH_DENTRY => path_dentry,
    /// `struct dentry.d_hash.pprev`
    DENTRY_D_HASH_PPREV => dentry_d_hash_pprev,
    /// `struct dentry.d_parent`
    DENTRY_D_PARENT => dentry_d_parent,
    /// `struct dentry.d_name.name`
    DENTRY_D_NAME_NAME => dentry_d_name_name,
    /// `struct linux_binprm.file`
    BINPRM_FILE => binprm_file,
    /// `struct linux_binprm.filename`
    BINPRM_FILENAME => binprm_filename,
    /// `struct sock.sk_type`
    SOCK_SK_TYPE => sock_sk_type,
    /// `struct dentry.d_inode`
    DENTRY_D_INODE => dentry_d_inode,
    /// `struct inode.i_ino`
    INODE_I_INO => inode_i_ino,
    /// `struct inode.i_sb`
    INODE_I_SB => inode_i_sb,
    /// `struct super_block.s_dev`
    SUPER_BLOCK_S_DEV => super_block_s_dev,
    /// `struct unix_sock.path`
    UNIX_SOCK_PATH => unix_sock_path,
    /// `struct unix_sock.addr`
    UNIX_SOCK_ADDR => unix_sock_addr,
    /// `struct unix_address.len`
    UNIX_ADDRESS_LEN => unix_address_len,
    /// `struct unix_address.name`
    UNIX_ADDRESS_NAME => unix_address_name,
    /// `struct task_struct.pid`
    TASK_PID => task_pid,
    /// `struct task_struct.tgid`
    TASK_TGID => task_tgid,
    /// `struct task_struct.real_parent`
    TASK_REAL_PARENT => task_real_parent,
    /// `struct task_struct.nsproxy`
    TASK_NSPROXY => task_nsproxy,
    /// `struct nsproxy.mnt_ns`
    NSPROXY_MNT_NS => nsproxy_mnt_ns,
    /// `struct mnt_namespace.ns.inum`
    MNT_NAMESPACE_INUM => mnt_namespace_inum,
    /// `struct task_struct.fs`
    TASK_FS => task_fs,
    /// `struct fs_struct.root.dentry`
    FS_ROOT_DENTRY => fs_root_dentry,
    /// `struct task_struct.cgroups`
    TASK_CGROUPS => task_cgroups,
    /// `struct css_set.dfl_cgrp`
    CSS_SET_DFL_CGRP => css_set_dfl_cgrp,
    /// `struct cgroup.kn`
    CGROUP_KN => cgroup_kn,
    /// `struct cgroup.self.parent`
    CGROUP_SELF_PARENT => cgroup_self_parent,
    /// `struct kernfs_node.id`
    KERNFS_NODE_ID => kernfs_node_id,
    /// `struct task_struct.exit_code`
    TASK_EXIT_CODE => task_exit_code,
}
