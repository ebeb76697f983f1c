//! `skillsandbox audit ship`.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use object_store::local::LocalFileSystem;

use crate::{
    audit::store::{Destination, Writer},
    cli::progress,
};

/// Copy what is sealed to another place, each segment once.
///
/// Segments go to date=DAY/host=HOST/ there, as engines look for them; then the last line of the ledger to
/// checkpoints/, which `audit verify --checkpoint` takes. The ledger says what was shipped where: to begin
/// again copies what is missing. Nothing that is there is overwritten.
#[derive(Args, Debug)]
pub(super) struct ShipArguments {
    /// A folder, which is made if it is not there, or `s3://BUCKET/PREFIX`. Credentials, region and endpoint of S3
    /// are those of the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT`.
    #[arg(long, value_name = "DIR|URL")]
    to: String,
}

pub(super) fn run(folder: &Path, arguments: &ShipArguments) -> anyhow::Result<ExitCode> {
    let to = destination(&arguments.to)?;
    let writer = Writer::of(folder)?;
    let how_far =
        super::seldom(|left: usize| progress(&format!("{left} segments are still to go…")));
    let shipped = crate::cli::block_on(async { Ok(writer.ship(&to, how_far).await?) })?;
    writeln!(
        io::stdout().lock(),
        "{} segments were shipped to {}: {} bytes; {} more were there already",
        shipped.segments,
        to.name,
        shipped.bytes,
        shipped.found,
    )?;
    Ok(ExitCode::SUCCESS)
}

fn destination(to: &str) -> anyhow::Result<Destination> {
    if to.starts_with("s3://") {
        return bucket(to);
    }
    anyhow::ensure!(
        !to.contains("://"),
        "{to} is no place that segments are shipped to: write a folder or s3://BUCKET/PREFIX"
    );
    fs::create_dir_all(to).with_context(|| format!("cannot make {to}"))?;
    let folder = fs::canonicalize(to).with_context(|| format!("cannot find {to}"))?;
    // What the ledger says was shipped is on the disk there.
    let objects = LocalFileSystem::new_with_prefix(&folder)?.with_fsync(true);
    Ok(Destination {
        name: folder.display().to_string(),
        objects: Box::new(objects),
        prefix: object_store::path::Path::default(),
    })
}

#[cfg(feature = "s3")]
fn bucket(url: &str) -> anyhow::Result<Destination> {
    use object_store::aws::AmazonS3Builder;

    let place = url.strip_prefix("s3://").unwrap_or(url);
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    anyhow::ensure!(
        !bucket.is_empty(),
        "{url} names no bucket: write s3://BUCKET/PREFIX"
    );
    // The only one that whoever has installed another could have meant otherwise.
    let _other = rustls::crypto::ring::default_provider().install_default();
    let objects = AmazonS3Builder::from_env().with_bucket_name(bucket).build();
    Ok(Destination {
        name: url.trim_end_matches('/').to_owned(),
        objects: Box::new(objects.with_context(|| format!("cannot use {url}"))?),
        prefix: object_store::path::Path::parse(prefix)
            .with_context(|| format!("{url} is no place in a bucket"))?,
    })
}

#[cfg(not(feature = "s3"))]
fn bucket(url: &str) -> anyhow::Result<Destination> {
    anyhow::bail!("this program was built without what ships to {url}: cargo's feature `s3`")
}
