//! Copies of segments in another place: each once, whatever interrupts it.
//!
//! | object | what |
//! | --- | --- |
//! | `date=DAY/host=HOST/RUN.N.parquet` | a segment, byte by byte |
//! | `checkpoints/host=HOST/NUMBER.json` | the ledger's last line when that had been shipped: with it a ledger whose end was cut off is found out |
//! | `checkpoints/host=HOST/key.pub` | the key that signs the ledger |

use std::{
    collections::BTreeSet,
    io::{self, Read},
};

use object_store::{
    Error, GetOptions, ObjectStore, PutMode, PutOptions, PutPayload,
    path::{Path, PathPart},
};

use super::{
    Store, StoreError, Writer,
    hex::Hex,
    ledger::{self, SealedSegment, What},
    seal::Stated,
};

/// Where segments are shipped to.
#[derive(Debug)]
pub struct Destination {
    /// As the ledger has it.
    pub name: String,
    /// The place.
    pub objects: Box<dyn ObjectStore>,
    /// The folder in it.
    pub prefix: Path,
}

/// What was shipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Segments that are there now and were not before.
    pub segments: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Segments that had been there, and the ledger did not know.
    pub found: usize,
}

/// Why segments are not shipped.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// What is here is not to leave the host.
    #[error("segments/{file} is not shipped: it is not what was written; see `audit verify`")]
    Changed {
        /// The segment.
        file: String,
    },
    /// Something else has its name there.
    #[error("{object} is there already and is something else: nothing was changed")]
    Foreign {
        /// The object.
        object: Path,
    },
    /// The place does not take it.
    #[error("cannot ship to {object}: {source}")]
    Destination {
        /// The object.
        object: Path,
        /// Why.
        source: Box<Error>,
    },
    /// Our own store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Writer {
    /// Ships every segment that the ledger does not say was shipped there, and then a checkpoint. Says how many segments are still to go.
    pub async fn ship(
        &self,
        to: &Destination,
        mut progress: impl FnMut(usize) + Send,
    ) -> Result<Shipped, ShipError> {
        let store = self.store();
        let bytes = store.ledger()?;
        let (statements, wrong) = ledger::read(&bytes, &store.key()?);
        if !wrong.is_empty() {
            return Err(store.failed("ship segments")(io::Error::other(
                "the ledger is not as it was written: see `audit verify`",
            )))?;
        }
        let known: BTreeSet<&str> = statements
            .iter()
            .filter_map(|statement| match &statement.what {
                What::Shipped { file, to: there } if *there == to.name => Some(file.as_str()),
                _ => None,
            })
            .collect();
        let stated = Stated::of(&statements).segments;
        let left = stated.iter().filter(|(file, _)| !known.contains(**file));
        let left: Vec<_> = left.collect();
        let (mut shipped, mut host) = (Shipped::default(), None);
        for (at, (file, sealed)) in left.iter().enumerate() {
            progress(left.len() - at);
            let content = content(store, sealed)?;
            let of = host_of(store, file)?;
            let (day, name) = file.split_once('/').unwrap_or(("", file));
            let object = object(to, [day, &format!("host={of}"), name]);
            let length = content.len();
            if put(to, &object, content).await? {
                shipped.segments += 1;
                shipped.bytes += length;
            } else {
                shipped.found += 1;
            }
            let what = What::Shipped {
                file: (**file).to_owned(),
                to: to.name.clone(),
            };
            let stated = self.state_now("", what);
            stated.map_err(store.failed("say in the ledger what was shipped"))?;
            host = Some(of);
        }
        if let Some(host) = host {
            self.checkpoint(to, &host).await?;
        }
        Ok(shipped)
    }

    async fn checkpoint(&self, to: &Destination, host: &str) -> Result<(), ShipError> {
        let store = self.store();
        let ledger = store.ledger()?;
        let (statements, _) = ledger::read(&ledger, &store.key()?);
        let last = ledger.split_inclusive(|byte| *byte == b'\n').next_back();
        let number = statements.last().map_or(0, |statement| statement.number);
        let folder = format!("host={host}");
        let name = format!("{number:012}.json");
        let line = last.unwrap_or_default().to_vec();
        put(to, &object(to, ["checkpoints", &folder, &name]), line).await?;
        let key = format!("{}\n", Hex(&store.key()?.bytes())).into_bytes();
        put(to, &object(to, ["checkpoints", &folder, "key.pub"]), key).await?;
        Ok(())
    }
}

/// The bytes of a segment, which are those that were sealed.
fn content(store: &Store, sealed: &SealedSegment) -> Result<Vec<u8>, ShipError> {
    let mut content = Vec::new();
    let mut file = store.segment_file(&sealed.file)?;
    let read = file.read_to_end(&mut content);
    read.map_err(store.failed("read a segment"))?;
    if Hex(blake3::hash(&content).as_bytes()).to_string() != sealed.hash {
        return Err(ShipError::Changed {
            file: sealed.file.clone(),
        });
    }
    Ok(content)
}

/// The host that a segment's runs were on, without what means something in a path.
fn host_of(store: &Store, file: &str) -> Result<String, StoreError> {
    let segment = store.segment(file)?;
    let host = segment.runs().first().map(|part| part.about.host.clone());
    let plain = |one: char| one.is_ascii_alphanumeric() || "-_.".contains(one);
    let host: String = host
        .unwrap_or_default()
        .chars()
        .map(|one| if plain(one) { one } else { '_' })
        .collect();
    Ok(host)
}

fn object<'a>(to: &Destination, parts: [&'a str; 3]) -> Path {
    let prefix = to.prefix.parts();
    prefix.chain(parts.map(PathPart::<'a>::from)).collect()
}

/// Whether it was not there before. What is there and is something else stays.
async fn put(to: &Destination, object: &Path, content: Vec<u8>) -> Result<bool, ShipError> {
    let failed = |source| ShipError::Destination {
        object: object.clone(),
        source: Box::new(source),
    };
    let hash = blake3::hash(&content);
    let options = PutOptions::from(PutMode::Create);
    let put = to
        .objects
        .put_opts(object, PutPayload::from(content), options);
    match put.await {
        Ok(_) => Ok(true),
        // An earlier attempt that was interrupted, or whose answer was lost.
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
            let there = to.objects.get_opts(object, GetOptions::default());
            let there = there.await.map_err(failed)?.bytes().await.map_err(failed)?;
            if blake3::hash(&there) != hash {
                return Err(ShipError::Foreign {
                    object: object.clone(),
                });
            }
            Ok(false)
        }
        Err(error) => Err(failed(error)),
    }
}
