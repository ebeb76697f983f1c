//! What a host's operator lets manifests ask for: `/etc/skillsandbox/ceiling.yaml`. Its words are those of a manifest; what it
//! does not mention, it does not bound.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use super::{
    AbsolutePath, Egress, ManifestError, Mode, PersistentName, PortRange, Runtime, Spanned,
    SystemCallProfile, VariableName,
    error::{Problems, Refusal},
    load::{decode, read_bounded},
    reader::Field,
    sections, tree,
};

/// Where it is, if there is one.
pub const CEILING_FILE: &str = "/etc/skillsandbox/ceiling.yaml";

/// A list with the line that it begins on, where there is one.
pub type Bound<T> = Option<Spanned<Vec<T>>>;

/// What manifests may ask for. `None` is no bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// The file that it was read from.
    pub file: String,
    /// Whether a policy may be audited only: not if there is a ceiling that does not say `mode: audit`.
    pub mode: Mode,
    /// Destinations.
    pub egress: Bound<Spanned<Egress>>,
    /// Ports of its own.
    pub listen: Bound<Spanned<PortRange>>,
    /// Unix sockets, or folders of them.
    pub unix: Bound<Spanned<AbsolutePath>>,
    /// What may be read: these, and what is below.
    pub read: Bound<Spanned<AbsolutePath>>,
    /// What may be written.
    pub write: Bound<Spanned<AbsolutePath>>,
    /// Names that others obey, which may be written.
    pub persist: Bound<Spanned<PersistentName>>,
    /// The most of the host's own files.
    pub runtime: Option<Spanned<Runtime>>,
    /// What may be executed, the entrypoint's program included.
    pub exec: Bound<Spanned<AbsolutePath>>,
    /// Environment variables that may be passed on.
    pub variables: Bound<Spanned<VariableName>>,
    /// The profile that lets most system calls through.
    pub profile: Option<Spanned<SystemCallProfile>>,
    /// The most of each resource.
    pub resources: Most,
}

/// The most of each resource, in the units of [`Resources`](super::Resources).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in `Resources`")]
pub struct Most {
    pub memory_mb: Option<Spanned<u64>>,
    pub cpu_shares: Option<Spanned<u64>>,
    pub max_runtime_seconds: Option<Spanned<u64>>,
    pub max_output_bytes: Option<Spanned<u64>>,
    pub max_processes: Option<Spanned<u64>>,
    pub max_open_files: Option<Spanned<u64>>,
}

impl Ceiling {
    /// Reads the ceiling in this file: one of root's that nobody else can write. `None` if there is no such file.
    pub fn load(path: &Path) -> Result<Option<Self>, ManifestError> {
        let name = path.to_string_lossy();
        let refused = |message: String, remedy: &str| {
            let mut problems = Problems::new(&name);
            problems.add(None, Refusal::new(message, remedy));
            problems.into_error()
        };
        let cannot = |error: io::Error| {
            let remedy = "mend it: without knowing what it says nothing is permitted";
            refused(format!("the ceiling cannot be read: {error}"), remedy)
        };
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW)
            .open(path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(&cannot)?,
        };
        let found = file.metadata().map_err(&cannot)?;
        if !found.is_file() || found.uid() != 0 || found.mode() & 0o022 != 0 {
            return Err(refused(
                "the ceiling is not a regular file of root's that nobody else can write".to_owned(),
                "chown root, chmod 644",
            ));
        }
        let bytes = read_bounded(file).map_err(&cannot)?;
        Self::parse(&name, &bytes).map(Some)
    }

    /// Reads a ceiling. Problems name it `source_name`.
    pub fn parse(source_name: &str, bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut problems = Problems::new(source_name);
        let ceiling = match decode(bytes) {
            Ok(text) => tree::read(text, &mut problems).and_then(|root| {
                sections::ceiling(source_name, &Field::root(&root), &mut problems)
            }),
            Err((position, refusal)) => {
                problems.add(position, refusal);
                None
            }
        };
        match ceiling {
            Some(ceiling) if problems.is_empty() => Ok(ceiling),
            _ => Err(problems.into_error()),
        }
    }
}
