//! Where programs, maps and links are pinned, so that they outlive the process that made them.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FsWord, statfs},
    mount::{MountFlags, mount},
};

use super::KernelError;

/// The usual place of the BPF file system.
const BPFFS: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC`, `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: FsWord = 0xcafe_4a11;

/// Our folder in the BPF file system, mounted and made where they are missing.
pub(super) fn folder() -> Result<PathBuf, KernelError> {
    let root = Path::new(BPFFS);
    if !is_bpffs(root) {
        mount(
            "bpf",
            root,
            "bpf",
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
            c"mode=0700",
        )
        .map_err(|error| KernelError::path("mount the BPF file system at", root)(error.into()))?;
        if !is_bpffs(root) {
            let error = io::Error::other("it was mounted and is still not there");
            return Err(KernelError::path("use the BPF file system at", root)(error));
        }
    }
    let folder = root.join("skillsandbox");
    make_private_folder(&folder)?;
    Ok(folder)
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.f_type == BPF_FS_MAGIC)
}

/// Makes a folder that only root can enter; one that is there must be such a folder.
pub(super) fn make_private_folder(path: &Path) -> Result<(), KernelError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path).map_err(KernelError::path("read", path))?;
            if found.is_dir() && found.uid() == 0 && found.mode() & 0o022 == 0 {
                Ok(())
            } else {
                let error =
                    io::Error::other("it is not a folder that only root can write: remove it");
                Err(KernelError::path("use", path)(error))
            }
        }
        Err(error) => Err(KernelError::path("make", path)(error)),
    }
}

/// Removes a folder of pins; what is not there is removed already.
pub(super) fn remove_folder(path: &Path) -> Result<(), KernelError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(KernelError::path("remove", path)(error))
        }
        _ => Ok(()),
    }
}
