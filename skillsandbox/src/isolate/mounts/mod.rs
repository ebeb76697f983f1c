//! The skill's file tree: only what is granted exists in it.

mod plan;
mod root;

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{Access as Check, CWD, FileType, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

use plan::{DEVICE_LINKS, Planned, Source};
pub use plan::{DEVICES, RUNTIME, RUNTIME_ETC};
use root::{Root, copy_tree, new_filesystem};

use super::error::{IsolateError, Result, Step};
use super::launch::{Launch, SKILL};
use super::paths;
use super::privileges::Identity;
use super::reach::as_caller;
use super::report::{Layer, LayerReport, Status};
use super::system;

/// What is attached at a planned place.
enum Content {
    Tree(OwnedFd),
    Link(OsString),
}

/// Moves this process into a mount namespace and a file tree of the sandbox's own.
///
/// It must be in the new PID namespace already, whose processes `/proc` will show.
pub(super) fn enter(launch: &Launch, skill_dir: BorrowedFd<'_>) -> Result<LayerReport> {
    let plan = plan::plan(launch)?;
    // Mounts of the old namespace can only be copied while in it.
    let mut contents = Vec::new();
    for planned in &plan {
        contents.push(open(planned, launch, skill_dir)?);
    }
    system::unshare(UnshareFlags::NEWNS).step("make a mount namespace")?;
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .step("cut the mounts off from the host's")?;
    let mut root = Root::new()?;
    for (link, target) in DEVICE_LINKS {
        root.link(Path::new(link), target.as_ref())?;
    }
    for (name, content) in &launch.etc_files {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(IsolateError::path(
                Path::new(name),
                "is not the name of a file of /etc",
                "name a file without its folder",
            ));
        }
        root.file(&Path::new("/etc").join(name), content.as_bytes(), 0o644)?;
    }
    let mut mounts = 0;
    for (planned, content) in plan.iter().zip(contents) {
        mounts += usize::from(put(&mut root, planned, content)?);
    }
    for (link, target) in &launch.links {
        root.link(Path::new(link), target)?;
    }
    root.enter()?;
    verify(&plan)?;
    Ok(LayerReport::new(
        Layer::Mounts,
        Status::Enforced,
        format!("{mounts} mounts in a read-only root of its own; the host's is gone"),
    ))
}

/// Opens what will be mounted; `None` when there is nothing, or nothing to open beforehand.
fn open(planned: &Planned, launch: &Launch, skill: BorrowedFd<'_>) -> Result<Option<Content>> {
    let at = planned.at.as_path();
    let doing = || format!("open {}", at.display());
    let path = match planned.source {
        Source::Skill => return tree(skill, at),
        Source::Private { .. } | Source::Proc | Source::Terminals => {
            return Ok(Some(Content::Tree(filesystem(planned, launch)?)));
        }
        Source::Mask => return Ok(None),
        Source::Host | Source::HostOrNew | Source::HostOrNothing | Source::Socket => {
            as_caller(launch.caller(), || paths::open(at))?
        }
    };
    match (path, &planned.source) {
        (Ok(path), Source::HostOrNothing) if is(&path, FileType::Symlink)? => {
            let target = rustix::fs::readlinkat(&path, "", Vec::new()).step(doing())?;
            Ok(Some(Content::Link(OsString::from_vec(target.into_bytes()))))
        }
        (Ok(path), Source::Socket) if !is(&path, FileType::Socket)? => Err(IsolateError::path(
            at,
            "was a socket when the manifest was read, and is none now",
            "look who writes to the folder around it",
        )),
        (Ok(path), _) if !is(&path, FileType::Symlink)? => tree(path.as_fd(), at),
        (Err(Errno::NOENT), Source::HostOrNothing) => Ok(None),
        (Err(Errno::NOENT), Source::HostOrNew) => {
            let owner = Identity {
                uid: launch.uid,
                gid: launch.gid,
            };
            let caller = launch.caller();
            let maker = caller.map_or(0, |caller| caller.uid);
            let made = as_caller(caller, || paths::create_folder(at, owner, maker))?;
            tree(made?.as_fd(), at)
        }
        (Err(Errno::NOENT), _) => Err(IsolateError::path(
            at,
            "the manifest grants it, and it does not exist",
            "create it, or take it out of the manifest",
        )),
        (Ok(_) | Err(Errno::LOOP), _) => Err(IsolateError::path(
            at,
            "became a link after the manifest was read",
            "look who writes to the folder around it",
        )),
        (Err(error), _) => Err(error).step(doing()),
    }
}

fn tree(path: BorrowedFd<'_>, at: &Path) -> Result<Option<Content>> {
    let tree = copy_tree(path).step(format!("copy the mounts of {}", at.display()))?;
    Ok(Some(Content::Tree(tree)))
}

fn is(path: impl AsFd, kind: FileType) -> Result<bool> {
    let status = rustix::fs::fstat(path).step("look at a path")?;
    Ok(FileType::from_raw_mode(status.st_mode) == kind)
}

fn filesystem(planned: &Planned, launch: &Launch) -> Result<OwnedFd> {
    let (uid, gid) = (launch.uid.to_string(), launch.gid.to_string());
    match planned.source {
        Source::Private { bytes } => {
            let (bytes, files) = (bytes.to_string(), launch.private.files.to_string());
            let options = [
                ("mode", "0700"),
                ("uid", &uid),
                ("gid", &gid),
                ("size", &bytes),
                ("nr_inodes", &files),
            ];
            new_filesystem("tmpfs", &options, planned.attributes)
        }
        Source::Terminals => {
            let options = [("mode", "0600"), ("ptmxmode", "0666")];
            new_filesystem("devpts", &options, planned.attributes)
        }
        _ => new_filesystem("proc", &[("hidepid", "invisible")], planned.attributes),
    }
}

/// Puts one planned content in its place; says whether it is a mount.
fn put(root: &mut Root, planned: &Planned, content: Option<Content>) -> Result<bool> {
    let at = planned.at.as_path();
    match content {
        Some(Content::Link(target)) => {
            root.link(at, &target)?;
            Ok(false)
        }
        Some(Content::Tree(tree)) => {
            if is(&tree, FileType::Directory)? {
                root.folder(at)?;
            } else {
                root.file(at, b"", 0o644)?;
            }
            root.mount(tree.as_fd(), at, planned.attributes)?;
            if matches!(planned.source, Source::Private { .. }) {
                root.own(&tree)?;
            }
            Ok(true)
        }
        None if planned.source == Source::Mask => mask(root, at),
        None => Ok(false),
    }
}

/// The file that covers masked files; nobody but root may open it.
const MASK: &str = "/.masked";

/// Covers what is at a path by an empty file or folder.
fn mask(root: &Root, at: &Path) -> Result<bool> {
    let there = match root.look(at) {
        Ok(there) => there,
        // A link has no content of its own, and its target is only there if something grants it.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        Err(error) => return Err(error).step(format!("look at {} in the sandbox", at.display())),
    };
    if is(&there, FileType::Symlink)? {
        return Ok(false);
    }
    let cover = if is(&there, FileType::Directory)? {
        let options = [("mode", "0000"), ("size", "4k"), ("nr_inodes", "1")];
        new_filesystem("tmpfs", &options, root::SEALED)?
    } else {
        root.file(Path::new(MASK), b"", 0)?;
        let file = root
            .look(Path::new(MASK))
            .step("open the file that covers others")?;
        copy_tree(file).step("copy the mount of the file that covers others")?
    };
    root.mount(cover.as_fd(), at, root::SEALED)?;
    Ok(true)
}

/// Asks the kernel whether what should be read-only is, as root, whom no file's mode stops.
fn verify(plan: &[Planned]) -> Result<()> {
    let root = rustix::fs::statvfs("/").step("look at the sandbox's root")?;
    let wanted = StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV;
    let access = |at: &Path| {
        rustix::fs::accessat(CWD, at, Check::WRITE_OK, rustix::fs::AtFlags::empty()).is_ok()
    };
    // A socket is written to on whatever mount: what is asked is the mount.
    let flags = |at: &Path| rustix::fs::statvfs(at).map(|mount| mount.f_flag);
    let writable = |planned: &&Planned| match planned.source {
        Source::Socket => {
            !flags(&planned.at).is_ok_and(|flags| flags.contains(StatVfsMountFlags::RDONLY))
        }
        _ => access(&planned.at),
    };
    let mut read_only = plan.iter().filter(|planned| {
        planned
            .attributes
            .contains(MountAttrFlags::MOUNT_ATTR_RDONLY)
    });
    let own = [Path::new("/"), Path::new(SKILL)].into_iter();
    let open = read_only
        .find(writable)
        .map(|planned| planned.at.as_path())
        .or_else(|| own.into_iter().find(|at| access(at)));
    if !root.f_flag.contains(wanted) || open.is_some() {
        return Err(IsolateError::refused(
            format!("the sandbox's files are not read-only: {open:?}"),
            "report this with the kernel's version",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use plan::tests::launch;

    /// Root alone can mount, and change whom it reaches files as; `cargo xtask test` runs as root.
    #[test]
    fn what_a_caller_cannot_reach_when_it_is_to_be_mounted_is_not() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = std::env::temp_dir().join(format!("mounts-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let file = folder.join("file");
        fs::write(&file, "").unwrap();
        let planned = Planned {
            at: file,
            source: Source::Host,
            attributes: MountAttrFlags::empty(),
        };
        let unused = fs::File::open("/").unwrap();
        let opened = |as_caller| {
            let launch = Launch {
                as_caller,
                uid: 65534,
                gid: 65534,
                ..launch(&[])
            };
            open(&planned, &launch, unused.as_fd())
        };
        assert!(opened(true).is_ok(), "anybody enters");
        // As if whoever owns it had closed it after the run was planned.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        let refused = opened(true).err().unwrap().to_string();
        assert!(refused.contains("ermission denied"), "{refused}");
        assert!(opened(false).is_ok(), "root may grant it");
        fs::remove_dir_all(folder).unwrap();
    }
}
