//! The kernels of the virtual machines: Debian's, the newest of each series.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::{Suite, Unfinished};
use crate::setup::Outcome;
use crate::{paths, process, version};

/// The series of kernels that everything is tested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Series {
    /// The oldest: `lsm_cgroup` came with 6.0.
    #[value(name = "6.1")]
    V6_1,
    /// The one of Debian's current release.
    #[value(name = "6.12")]
    V6_12,
    /// The newest that Debian has.
    #[value(name = "7")]
    V7,
}

/// All series, the oldest first.
pub(crate) const ALL: [Series; 3] = [Series::V6_1, Series::V6_12, Series::V7];

/// How Debian packs the kernels of a series. A package's name is `prefix`, `version`, `suffix`.
struct Packages {
    suite: &'static str,
    prefix: &'static str,
    version: &'static str,
    suffix: &'static str,
    /// The prefixes of the packages with the rest, where one does not hold all.
    rest: &'static [&'static str],
}

impl Series {
    fn packages(self) -> Packages {
        match self {
            Self::V6_1 => Packages {
                suite: "bookworm",
                prefix: "linux-image-",
                version: "6.1.",
                suffix: "-unsigned",
                rest: &[],
            },
            Self::V6_12 => Packages {
                suite: "trixie",
                prefix: "linux-image-",
                version: "6.12.",
                suffix: "-unsigned",
                rest: &[],
            },
            Self::V7 => Packages {
                suite: "sid",
                prefix: "linux-binary-",
                version: "7.",
                suffix: "",
                rest: &["linux-base-", "linux-modules-"],
            },
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7 => "7",
        })
    }
}

/// An unpacked kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// What `uname -r` says.
    pub(crate) release: String,
    folder: PathBuf,
}

impl Kernel {
    /// What to boot.
    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// The folder that holds this release's folder of modules.
    pub(crate) fn modules(&self) -> PathBuf {
        self.folder.join("modules")
    }
}

/// The newest kernel of the series that is in the cache, downloaded if there is none.
pub(crate) fn find(series: Series) -> Result<Kernel> {
    match cached(series)? {
        Some(kernel) => Ok(kernel),
        None => update(series).map(|(kernel, _)| kernel),
    }
}

/// Brings the newest kernel of every series.
pub(crate) fn ensure_newest() -> Result<Outcome> {
    let mut outcome = Outcome::AlreadyThere;
    for series in ALL {
        let update = update(series).or_else(|error| {
            let kernel = cached(series)?.ok_or(error)?;
            eprintln!("no news of Linux {series}: staying with {}", kernel.release);
            anyhow::Ok((kernel, Outcome::AlreadyThere))
        });
        if let (_, Outcome::Done) = update? {
            outcome = Outcome::Done;
        }
    }
    Ok(outcome)
}

/// Looks up the newest kernel of the series and downloads it unless it is in the cache.
fn update(series: Series) -> Result<(Kernel, Outcome)> {
    let packages = series.packages();
    let suite = Suite::open(packages.suite)?;
    suite.refresh()?;
    let names = suite.names(&format!("{}{}", packages.prefix, packages.version))?;
    let release = newest(releases(&packages, &names))
        .with_context(|| format!("Debian {} has no Linux {series}", packages.suite))?;

    let kernel = Kernel {
        folder: folder(series)?.join(&release),
        release,
    };
    if kernel.folder.exists() {
        return Ok((kernel, Outcome::AlreadyThere));
    }
    let unfinished = Unfinished::start(&kernel.folder)?;
    let root = unfinished.path();
    suite.unpack(
        &format!("{}{}{}", packages.prefix, kernel.release, packages.suffix),
        root,
    )?;
    for prefix in packages.rest {
        suite.unpack(&format!("{prefix}{}", kernel.release), root)?;
    }
    let content = arrange(&kernel.release, root)?;
    unfinished.finish(&content)?;
    Ok((kernel, Outcome::Done))
}

/// Brings the packages' layouts, of which there are three, to one: `vmlinuz` and `modules/`.
fn arrange(release: &str, root: &Path) -> Result<PathBuf> {
    let moved = root.join("usr/lib/modules");
    let modules = if moved.exists() {
        moved
    } else {
        root.join("lib/modules")
    };
    let images = [
        root.join(format!("boot/vmlinuz-{release}")),
        modules.join(release).join("vmlinuz"),
    ];
    let image = images.into_iter().find(|path| path.exists());
    let image = image.with_context(|| format!("the package of Linux {release} holds no image"))?;

    eprintln!("indexing the modules of Linux {release}…");
    let content = root.join("content");
    fs::create_dir_all(content.join("lib"))?;
    fs::rename(image, content.join("vmlinuz"))?;
    fs::rename(modules, content.join("lib/modules"))?;
    // Where kmod is installed but the user's path has no folders of the superuser.
    process::run(
        Command::new("/sbin/depmod")
            .arg("--basedir")
            .arg(&content)
            .arg(release),
    )?;
    fs::rename(content.join("lib/modules"), content.join("modules"))?;
    fs::remove_dir(content.join("lib"))?;
    Ok(content)
}

/// The newest kernel of the series in the cache.
fn cached(series: Series) -> Result<Option<Kernel>> {
    let folder = folder(series)?;
    let Ok(entries) = fs::read_dir(&folder) else {
        return Ok(None);
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let newest = newest(names.filter(|name| !name.starts_with('.')));
    Ok(newest.map(|release| Kernel {
        folder: folder.join(&release),
        release,
    }))
}

fn folder(series: Series) -> Result<PathBuf> {
    Ok(paths::cache()?.join("kernels").join(series.to_string()))
}

/// The releases for which there is a package of the flavour that virtual machines boot.
fn releases(packages: &Packages, names: &[String]) -> Vec<String> {
    let release = |name: &String| {
        let release = name
            .strip_prefix(packages.prefix)?
            .strip_suffix(packages.suffix)?;
        release
            .ends_with("-cloud-amd64")
            .then(|| release.to_owned())
    };
    names.iter().filter_map(release).collect()
}

fn newest(releases: impl IntoIterator<Item = String>) -> Option<String> {
    releases
        .into_iter()
        .max_by(|left, right| version::compare(left, right))
}

/// The files of these modules and of all that they need, each after what it needs. A module that
/// the index does not know is part of the kernel's image.
pub(crate) fn load_order(index: &str, wanted: &[&str]) -> Vec<String> {
    let mut order = Vec::new();
    for line in index.lines() {
        let Some((file, needs)) = line.split_once(':') else {
            continue;
        };
        if wanted.contains(&module_name(file)) {
            // `modules.dep` lists the needs of a module so that the last one comes first.
            for file in needs.split_whitespace().rev().chain([file]) {
                if !order.iter().any(|known| known == file) {
                    order.push(file.to_owned());
                }
            }
        }
    }
    order
}

fn module_name(file: &str) -> &str {
    let name = Path::new(file)
        .file_name()
        .and_then(OsStr::to_str)
        .unwrap_or_default();
    name.split_once('.').map_or(name, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest_of(series: Series, names: &[&str]) -> Option<String> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        newest(releases(&series.packages(), &names))
    }

    #[test]
    fn the_newest_release_of_the_cloud_flavour_is_chosen() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64-unsigned",
            "linux-image-6.1.0-50-cloud-amd64-unsigned",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.1.0-51-amd64-unsigned",
            "linux-image-6.1.0-52-cloud-amd64-dbg",
        ];
        assert_eq!(
            newest_of(Series::V6_1, &names).as_deref(),
            Some("6.1.0-50-cloud-amd64")
        );

        let names = [
            "linux-image-6.12.94+deb13-cloud-amd64-unsigned",
            "linux-image-6.12.107+deb13-cloud-amd64-unsigned",
        ];
        let newest = newest_of(Series::V6_12, &names);
        assert_eq!(newest.as_deref(), Some("6.12.107+deb13-cloud-amd64"));

        let names = [
            "linux-binary-7.2.13+deb14-cloud-amd64",
            "linux-binary-7.2.13+deb14-amd64",
        ];
        let newest = newest_of(Series::V7, &names);
        assert_eq!(newest.as_deref(), Some("7.2.13+deb14-cloud-amd64"));
        assert_eq!(newest_of(Series::V7, &[]), None);
    }

    #[test]
    fn modules_load_after_what_they_need() {
        let index = "kernel/fs/fuse/virtiofs.ko: kernel/fs/fuse/fuse.ko kernel/v/virtio.ko\n\
                     kernel/fs/fuse/fuse.ko:\n\
                     kernel/fs/overlayfs/overlay.ko.xz:\n\
                     kernel/v/virtio.ko:\n";
        assert_eq!(
            load_order(index, &["virtiofs", "overlay", "virtio_pci"]),
            [
                "kernel/v/virtio.ko",
                "kernel/fs/fuse/fuse.ko",
                "kernel/fs/fuse/virtiofs.ko",
                "kernel/fs/overlayfs/overlay.ko.xz",
            ]
        );
    }
}
