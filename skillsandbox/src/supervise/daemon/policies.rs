//! The policies of this host, and the cgroups that each is for.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    isolate::cgroup::Hierarchy,
    manifest::{CgroupPattern, Manifest, matches_name},
    supervise::attach::Listed,
};

/// Hexadecimal digits of a cgroup's mark, where a policy can be of several.
const MARK_DIGITS: usize = 8;
/// How long a file has been as it is, to be known by its times.
const SETTLED_AFTER_SECONDS: u64 = 2;
/// How often every file is read again.
const ANEW_EVERY: Duration = Duration::from_mins(1);

/// A cgroup that is to have a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) file: PathBuf,
    /// The policy's text.
    pub(super) text: Arc<str>,
    /// The cgroup, from the root of the hierarchy on.
    pub(super) place: PathBuf,
}

/// What is wanted, by name; and of each file that cannot be taken, why.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Policies {
    pub(super) wanted: BTreeMap<String, Wanted>,
    pub(super) troubles: BTreeMap<PathBuf, String>,
}

/// What files said when they were last read. One that is as it was is not read again for a while: they may be a thousand, and are
/// looked at each second.
#[derive(Debug, Default)]
pub(super) struct Files {
    read: BTreeMap<PathBuf, (Stamp, Policy)>,
    since: Option<Instant>,
}

/// What changes with a file: device, inode, size, and when it was changed.
type Stamp = (u64, u64, u64, (i64, i64));

/// The cgroups that a policy is for, and its text.
#[derive(Clone, Debug)]
struct Policy {
    pattern: CgroupPattern,
    text: Arc<str>,
}

/// Reads the policies of this folder. Nothing is taken for absent that only cannot be looked at.
pub(super) fn read(
    files: &mut Files,
    folder: &Path,
    hierarchy: &Hierarchy,
) -> io::Result<Policies> {
    let mut known = std::mem::take(&mut files.read);
    // Not every change shows in a file's times.
    if files.since.is_none_or(|since| since.elapsed() > ANEW_EVERY) {
        known.clear();
        files.since = Some(Instant::now());
    }
    let mut policies = Policies::default();
    let entries = fs::read_dir(folder)?;
    if !is_roots(&fs::metadata(folder)?) {
        return Err(io::Error::other(
            "it is not a folder of root's that nobody else can write: chown root, chmod 755",
        ));
    }
    for entry in entries {
        let file = entry?.path();
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let wanted = roots(&file).and_then(|found| {
            let (stamp, policy) = policy(&file, &found, known.remove(&file))?;
            let wanted = wanted(&file, &policy, hierarchy)?;
            if let Some(stamp) = stamp {
                files.read.insert(file.clone(), (stamp, policy));
            }
            Ok(wanted)
        });
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(why) => {
                policies.troubles.insert(file, why);
                continue;
            }
        };
        for (name, wanted) in wanted {
            match policies.wanted.entry(name) {
                Entry::Vacant(free) => drop(free.insert(wanted)),
                Entry::Occupied(taken) => {
                    let why = format!(
                        "{} has the name {} as well",
                        taken.get().file.display(),
                        taken.key()
                    );
                    policies.troubles.insert(file.clone(), why);
                }
            }
        }
    }
    Ok(policies)
}

/// A file as it is, if it is root's.
fn roots(file: &Path) -> Result<fs::Metadata, String> {
    let found = fs::symlink_metadata(file).map_err(|error| error.to_string())?;
    if !found.is_file() || !is_roots(&found) {
        return Err("it is not a regular file of root's that nobody else can write".to_owned());
    }
    Ok(found)
}

/// What a file says, and how it is known again, if it is.
fn policy(
    file: &Path,
    found: &fs::Metadata,
    known: Option<(Stamp, Policy)>,
) -> Result<(Option<Stamp>, Policy), String> {
    let changed = (found.ctime(), found.ctime_nsec());
    let stamp = (found.dev(), found.ino(), found.len(), changed);
    if let Some((before, policy)) = known
        && before == stamp
    {
        return Ok((Some(stamp), policy));
    }
    let (manifest, text) = Manifest::load_with_text(file).map_err(|error| error.to_string())?;
    let pattern = manifest
        .cgroup
        .ok_or("it does not say which cgroups it is for: `cgroup: /system.slice/NAME.service`")?;
    let policy = Policy {
        pattern: pattern.value,
        text: text.into(),
    };
    // The clock of files is coarse: one that has just been changed may be again, and not show it.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs()).cast_signed();
    let is_settled = now.abs_diff(found.ctime()) > SETTLED_AFTER_SECONDS;
    Ok((is_settled.then_some(stamp), policy))
}

/// The cgroups that one policy is for, by the names that they get.
fn wanted(
    file: &Path,
    policy: &Policy,
    hierarchy: &Hierarchy,
) -> Result<Vec<(String, Wanted)>, String> {
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let stem = stem
        .filter(|stem| stem.len() <= 30 && stem.bytes().all(plain))
        .ok_or("its name is not of at most 30 letters, digits, - and _, and .yaml")?;
    let places = places(&policy.pattern, hierarchy.root())
        .map_err(|error| format!("its cgroups cannot be listed: {error}"))?;
    let wanted = places.into_iter().map(|place| {
        let name = if policy.pattern.is_of_many() {
            marked(stem, &place)
        } else {
            stem.to_owned()
        };
        let wanted = Wanted {
            file: file.to_owned(),
            text: Arc::clone(&policy.text),
            place,
        };
        (name, wanted)
    });
    Ok(wanted.collect())
}

/// Whether it is root's, and nobody else can write it.
fn is_roots(found: &fs::Metadata) -> bool {
    found.uid() == 0 && found.mode() & 0o022 == 0
}

/// The name of one of the cgroups of a policy that is for several.
fn marked(stem: &str, place: &Path) -> String {
    let hash = blake3::hash(place.as_os_str().as_encoded_bytes()).to_hex();
    let mark: String = hash.chars().take(MARK_DIGITS).collect();
    format!("{stem}-{mark}")
}

/// The policy of this folder by which a daemon has attached this: it has the name that daemons give it.
pub(super) fn file_of(folder: &Path, listed: &Listed) -> Option<PathBuf> {
    let file = PathBuf::from(listed.manifest.as_ref()?);
    let stem = file.file_stem()?.to_str()?;
    let place = listed.cgroup.as_ref()?;
    let is_ours = listed.name == stem || listed.name == marked(stem, place);
    (is_ours && file.parent() == Some(folder)).then_some(file)
}

/// The cgroups that are there and that a pattern is of, from the root of the hierarchy on.
fn places(pattern: &CgroupPattern, root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut places = vec![PathBuf::from("/")];
    for name in pattern.names() {
        let mut below = Vec::new();
        for place in places {
            let folder = root.join(place.strip_prefix("/").unwrap_or(&place));
            if !name.contains('*') {
                let found = there(fs::symlink_metadata(folder.join(name)))?;
                if found.is_some_and(|found| found.is_dir()) {
                    below.push(place.join(name));
                }
                continue;
            }
            // One that went meanwhile has nothing below.
            let Some(entries) = there(fs::read_dir(folder))? else {
                continue;
            };
            for entry in entries {
                let entry = entry?;
                let found = entry.file_name();
                let is_of_it = found
                    .to_str()
                    .is_some_and(|found| matches_name(name, found));
                if is_of_it && entry.file_type()?.is_dir() {
                    below.push(place.join(found));
                }
            }
        }
        places = below;
    }
    Ok(places)
}

/// `None` for what is not there.
fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_when_it_has_changed_and_only_then() {
        let file = std::env::temp_dir().join(format!("skillsandbox-{}.yaml", std::process::id()));
        let text = |name: &str| {
            format!(
                "cgroup: /{name}\nskill: {{name: a, version: '1'}}\npermissions: {{}}\nentrypoint: {{command: /x}}\n"
            )
        };
        let look = |known| {
            let found = fs::metadata(&file).unwrap();
            let (stamp, policy) = policy(&file, &found, known).unwrap();
            (stamp, policy.text.to_string(), found)
        };
        fs::write(&file, text("one")).unwrap();
        // It may be changed again at what looks like the same time.
        let (stamp, read, found) = look(None);
        assert_eq!((stamp, read), (None, text("one")));
        let changed = (found.ctime(), found.ctime_nsec());
        let stamp = (found.dev(), found.ino(), found.len(), changed);
        let kept = Policy {
            pattern: "/kept".parse().unwrap(),
            text: "as it was kept".into(),
        };
        let (again, read, _) = look(Some((stamp, kept.clone())));
        assert_eq!((again, &*read), (Some(stamp), "as it was kept"));
        let earlier = (stamp.0, stamp.1, stamp.2, (changed.0, changed.1 - 1));
        assert_eq!(look(Some((earlier, kept))).1, text("one"));
        fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_pattern_is_of_the_folders_that_are_there() {
        let root = std::env::temp_dir().join(format!("skillsandbox-places-{}", std::process::id()));
        for place in [
            "a.slice/agent-1",
            "a.slice/agent-2/below",
            "a.slice/other",
            "b.slice",
        ] {
            fs::create_dir_all(root.join(place)).unwrap();
        }
        fs::write(root.join("a.slice/agent-file"), "").unwrap();
        let of = |pattern: &str| {
            let mut places = places(&pattern.parse().unwrap(), &root).unwrap();
            places.sort();
            places
        };
        assert_eq!(
            of("/a.slice/agent-*"),
            [Path::new("/a.slice/agent-1"), Path::new("/a.slice/agent-2")]
        );
        assert_eq!(of("/*/agent-2/*"), [Path::new("/a.slice/agent-2/below")]);
        assert_eq!(of("/b.slice"), [Path::new("/b.slice")]);
        assert!(of("/c.slice").is_empty());
        fs::remove_dir_all(root).unwrap();
    }
}
