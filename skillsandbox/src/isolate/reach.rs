//! Reaching the host's files with the rights of a caller who is not root.
//!
//! A mount made by root shows what lies below a folder that the caller may not enter. So what a caller names is looked up, and
//! opened, as that caller: the kernel says what they can reach, and a name that changes meanwhile changes nothing about that.

use rustix::thread::{CapabilitySet, capabilities, set_thread_groups};

use super::error::{IsolateError, Result, Step};
use super::privileges::Identity;
use super::system::reach_files_as;

/// As long as it lives, the thread that made it reaches files as its user, group and nobody else.
#[derive(Debug)]
struct Reaching;

impl Drop for Reaching {
    fn drop(&mut self) {
        // Root's own rights come back, or the thread goes on with fewer.
        reach_files_as(0, 0);
    }
}

/// Looks with the rights of `caller`; with those of this process if there is none.
pub fn as_caller<T>(caller: Option<Identity>, look: impl FnOnce() -> T) -> Result<T> {
    let Some(Identity { uid, gid }) = caller else {
        return Ok(look());
    };
    let refused = |what: &str| {
        IsolateError::refused(
            format!("files cannot be reached as uid {uid} gid {gid}: {what}"),
            "run it as root, which is the daemon's user",
        )
    };
    // Groups that whoever started this process gave it, root's among them.
    set_thread_groups(&[]).step("leave the supplementary groups")?;
    let _reaching = Reaching;
    if !reach_files_as(uid, gid) {
        return Err(refused("the kernel does not change them"));
    }
    let over_files =
        CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH | CapabilitySet::FOWNER;
    let left = capabilities(None).step("read the capabilities")?.effective;
    if uid == 0 || left.intersects(over_files) {
        return Err(refused("capabilities about files are left"));
    }
    Ok(look())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    /// Root alone can change whom it reaches files as; `cargo xtask test` runs as root.
    #[test]
    fn a_caller_reaches_nothing_below_a_folder_that_only_root_enters() {
        if !rustix::process::geteuid().is_root() {
            let nobody = Identity {
                uid: 65534,
                gid: 65534,
            };
            assert!(as_caller(Some(nobody), || ()).is_err());
            return;
        }
        let folder = std::env::temp_dir().join(format!("reach-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("file"), "").unwrap();
        let looks = |caller: Option<Identity>| {
            as_caller(caller, || fs::metadata(folder.join("file")).is_ok()).unwrap()
        };
        let nobody = Some(Identity {
            uid: 65534,
            gid: 65534,
        });
        assert!(looks(nobody), "anybody enters");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!looks(nobody));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o070)).unwrap();
        assert!(!looks(nobody), "by no group of root's either");
        assert!(looks(None), "root's rights are back");
        fs::remove_dir_all(folder).unwrap();
    }
}
