//! Packages of a Debian suite other than the machine's own, looked up and unpacked without
//! touching the machine's package sources.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{paths, process};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where Debian's packages are when the machine's own sources name no mirror.
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian/";

/// One suite, with package lists of its own in the cache.
pub(crate) struct Suite {
    name: &'static str,
    options: Vec<OsString>,
}

impl Suite {
    /// Prepares the lists of the suite, without any download.
    pub(crate) fn open(name: &'static str) -> Result<Self> {
        let folder = paths::cache()?.join("apt").join(name);
        let lists = folder.join("lists");
        fs::create_dir_all(lists.join("partial"))
            .with_context(|| format!("could not create {}", lists.display()))?;
        let sources = folder.join("sources.list");
        fs::write(
            &sources,
            format!("deb [signed-by={KEYRING}] {} {name} main\n", mirror()?),
        )
        .with_context(|| format!("could not write {}", sources.display()))?;

        let set = |key: &str, value: &Path| {
            let mut option = OsString::from(format!("{key}="));
            option.push(value);
            option
        };
        let paths = [
            set("Dir::Etc::sourcelist", &sources),
            set("Dir::Etc::sourceparts", Path::new("-")),
            set("Dir::State::lists", &lists),
            set("Dir::State::status", Path::new("/dev/null")),
            set("Dir::Cache", &folder),
        ];
        // The download user cannot read a cache in somebody's home, and a source that does not
        // answer is to be an error, not a warning.
        let plain = [
            "APT::Sandbox::User=root",
            "APT::Update::Error-Mode=any",
            "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "Acquire::http::Timeout=20",
            "Acquire::Retries=1",
        ];
        let values = paths.into_iter().chain(plain.map(OsString::from));
        let options = values
            .flat_map(|value| [OsString::from("-o"), value])
            .collect();
        Ok(Self { name, options })
    }

    /// Downloads the newest lists.
    pub(crate) fn refresh(&self) -> Result<()> {
        eprintln!("looking up the packages of Debian {}…", self.name);
        process::run(self.command("apt-get").args(["-q", "-q", "update"]))
            .with_context(|| format!("the packages of Debian {} are out of reach", self.name))
    }

    /// The names of all packages that begin so.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = process::stdout(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The versions of a package that the suite has.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>> {
        let table = process::stdout(self.command("apt-cache").args(["madison", package]))?;
        Ok(versions(&table))
    }

    /// Downloads `package`, a name or `name=version`, and unpacks it into `folder`.
    pub(crate) fn unpack(&self, package: &str, folder: &Path) -> Result<()> {
        let downloads = folder.join("download");
        fs::create_dir_all(&downloads)
            .with_context(|| format!("could not create {}", downloads.display()))?;
        eprintln!("downloading {package} from Debian {}…", self.name);
        process::run(
            self.command("apt-get")
                .args(["-q", "-q", "download", package])
                .current_dir(&downloads),
        )?;
        for archive in fs::read_dir(&downloads)? {
            process::run(
                Command::new("dpkg-deb")
                    .arg("-x")
                    .arg(archive?.path())
                    .arg(folder),
            )?;
        }
        Ok(fs::remove_dir_all(&downloads)?)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }
}

/// The mirror that the machine's own package sources name for its own release.
pub(crate) fn mirror() -> Result<String> {
    let os = fs::read_to_string("/etc/os-release").context("this needs Debian")?;
    let release = os
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let targets = process::stdout(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(RELEASE) $(REPO_URI)",
    ]))?;
    Ok(mirror_of(release.unwrap_or_default(), &targets)
        .unwrap_or(DEFAULT_MIRROR)
        .to_owned())
}

fn mirror_of<'a>(release: &str, targets: &'a str) -> Option<&'a str> {
    let mut targets = targets.lines().filter_map(|line| line.split_once(' '));
    targets
        .find(|(name, _)| *name == release)
        .map(|(_, uri)| uri)
}

/// The second column of `apt-cache madison`.
fn versions(table: &str) -> Vec<String> {
    let column = |line: &str| {
        line.split('|')
            .nth(1)
            .map(|version| version.trim().to_owned())
    };
    table.lines().filter_map(column).collect()
}

/// A folder that becomes visible under its name only when it is complete.
pub(crate) struct Unfinished {
    folder: PathBuf,
    finished: PathBuf,
}

impl Unfinished {
    /// Starts a folder that is to be `finished`.
    pub(crate) fn start(finished: &Path) -> Result<Self> {
        let mut name = OsString::from(".unfinished-");
        name.push(finished.file_name().context("a folder needs a name")?);
        name.push(format!("-{}", std::process::id()));
        let folder = finished.with_file_name(name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("could not create {}", folder.display()))?;
        Ok(Self {
            folder,
            finished: finished.to_owned(),
        })
    }

    /// Where to put the content.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Makes `content`, a folder within this one, the finished folder.
    pub(crate) fn finish(self, content: &Path) -> Result<()> {
        fs::rename(content, &self.finished)
            .or_else(|error| {
                if self.finished.exists() {
                    Ok(())
                } else {
                    Err(error)
                }
            })
            .with_context(|| format!("could not create {}", self.finished.display()))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What is left is clutter, which no later step takes for something finished.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_the_release() {
        let targets = "nodistro https://example.org/node/\n\
                       bookworm-updates http://a.example/debian/\n\
                       bookworm http://b.example/debian/\n";
        assert_eq!(
            mirror_of("bookworm", targets),
            Some("http://b.example/debian/")
        );
        assert_eq!(mirror_of("noble", targets), None);
    }

    #[test]
    fn versions_are_the_second_column() {
        let table = "  rust-src | 1.96.0+dfsg1-1 | http://a.example sid/main amd64 Packages\n\
                     \x20 rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://a.example sid/main Packages\n";
        assert_eq!(
            versions(table),
            ["1.96.0+dfsg1-1", "1.95.0+dfsg1-2~bpo13+1"]
        );
    }
}
