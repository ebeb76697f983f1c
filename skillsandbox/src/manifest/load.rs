//! From a file, or its bytes, to a manifest.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::{ManifestError, Position, Problems, Refusal};
use super::limits::MANIFEST_BYTES_MAX;
use super::reader::Field;
use super::schema::Manifest;
use super::tree::{self, FIRST};
use super::{sections, text};

/// Name of the manifest in a skill's folder.
pub const FILE_NAME: &str = "skillsandbox.yaml";

impl Manifest {
    /// Reads the manifest in the file `path`, a regular one of at most
    /// [`MANIFEST_BYTES_MAX`] bytes. Anything else there is refused without waiting for it.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        Self::load_with_text(path).map(|(manifest, _)| manifest)
    }

    /// The same, and the text that it was read from.
    pub fn load_with_text(path: &Path) -> Result<(Self, String), ManifestError> {
        let source_name = path.to_string_lossy();
        match read_file(path) {
            Ok(bytes) => {
                let manifest = Self::parse(&source_name, &bytes)?;
                Ok((manifest, String::from_utf8_lossy(&bytes).into_owned()))
            }
            Err(refusal) => {
                let mut problems = Problems::new(&source_name);
                problems.add(None, refusal);
                Err(problems.into_error())
            }
        }
    }

    /// Reads a manifest. Problems name it `source_name`.
    pub fn parse(source_name: &str, bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut problems = Problems::new(source_name);
        let manifest = parse(bytes, &mut problems);
        match manifest {
            Some(manifest) if problems.is_empty() => Ok(manifest),
            _ => Err(problems.into_error()),
        }
    }
}

fn parse(bytes: &[u8], problems: &mut Problems) -> Option<Manifest> {
    let text = match decode(bytes) {
        Ok(text) => text,
        Err((position, refusal)) => {
            problems.add(position, refusal);
            return None;
        }
    };
    let root = tree::read(text, problems)?;
    sections::manifest(&Field::root(&root), problems)
}

fn read_file(path: &Path) -> Result<Vec<u8>, Refusal> {
    let cannot = |what: &str, error: &io::Error| {
        Refusal::new(
            format!("cannot {what} the manifest: {error}"),
            "check the path",
        )
    };
    // Without O_NONBLOCK, opening a FIFO would wait for a writer that never comes.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| cannot("open", &error))?;
    let metadata = file.metadata().map_err(|error| cannot("examine", &error))?;
    if !metadata.is_file() {
        return Err(Refusal::new(
            "the manifest is not a regular file",
            format!("name a file, or a skill's folder that holds `{FILE_NAME}`"),
        ));
    }
    read_bounded(file).map_err(|error| cannot("read", &error))
}

/// One byte more than allowed is enough to tell that a file is too large.
pub(super) fn read_bounded(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(MANIFEST_BYTES_MAX).map_err(io::Error::other)? + 1;
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a manifest, once it is sure to be text.
pub(super) fn decode(bytes: &[u8]) -> Result<&str, (Option<Position>, Refusal)> {
    if bytes.len() > MANIFEST_BYTES_MAX {
        let refusal = Refusal::new(
            format!("the manifest has more than {MANIFEST_BYTES_MAX} bytes"),
            "grant folders and networks rather than every file and address in them",
        );
        return Err((None, refusal));
    }
    let text = str::from_utf8(bytes).map_err(|error| {
        let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let refusal = Refusal::new("this byte is not UTF-8", "save the file as UTF-8");
        (Some(end_of(&String::from_utf8_lossy(valid))), refusal)
    })?;
    // A byte order mark at the very start says only that this is UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let invisible = text.char_indices().find(|&(_, character)| {
        text::is_deceptive(character) && !matches!(character, '\n' | '\r' | '\t')
    });
    match invisible {
        Some((index, character)) => {
            let before = text.get(..index).unwrap_or_default();
            Err((Some(end_of(before)), tree::deceptive(character)))
        }
        None => Ok(text),
    }
}

/// The position just behind `text`.
fn end_of(text: &str) -> Position {
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let last_line = text.rsplit('\n').next().unwrap_or_default();
    Position {
        line: FIRST.line + narrow(text.matches('\n').count()),
        column: FIRST.column + narrow(last_line.chars().count()),
    }
}
