//! Which file a command is, as the sandbox sees it, and what the kernel will start with it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::environment::PATH;
use super::error::{IsolateError, Result, Step};
use super::launch::{Runtime, SKILL};
use super::mounts::RUNTIME;
use super::paths::names;

/// Links and interpreters that one program may go through.
const MAX_STEPS: usize = 40;
/// Bytes of a program that the kernel looks at for its format (`BINPRM_BUF_SIZE`).
const HEAD: usize = 256;

/// What of the host is where in the sandbox.
#[derive(Clone, Debug, Default)]
pub struct View(Vec<(PathBuf, PathBuf)>);

/// A program, and the files that start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its path in the sandbox, without links.
    pub path: PathBuf,
    /// If it is a script, its interpreter (`#!`), and that one's if it is a script too: the
    /// kernel executes each, in the sandbox, without links.
    pub script_interpreters: Vec<PathBuf>,
    /// The dynamic loader that the last of these names (`PT_INTERP`). The kernel opens it as it
    /// opens a program; it decides on no execution of it.
    pub loader: Option<PathBuf>,
}

impl View {
    /// The view of a sandbox: the runtime, the skill's folder, and the granted paths.
    pub fn new<'a>(
        runtime: Runtime,
        skill_dir: &Path,
        grants: impl IntoIterator<Item = &'a Path>,
    ) -> Self {
        let mut view = vec![(PathBuf::from(SKILL), skill_dir.to_owned())];
        if runtime == Runtime::System {
            view.extend(RUNTIME.map(|folder| (folder.into(), folder.into())));
        }
        view.extend(
            grants
                .into_iter()
                // What is in the skill's folder is where that folder is.
                .filter(|grant| !grant.starts_with(SKILL))
                .map(|grant| (grant.to_owned(), grant.to_owned())),
        );
        // The longest first: it is what lies on top.
        view.sort_by_key(|(inside, _)| std::cmp::Reverse(inside.components().count()));
        Self(view)
    }

    /// The view of whoever looks, without a sandbox of its own.
    #[must_use]
    pub fn of_everything() -> Self {
        Self(vec![(PathBuf::from("/"), PathBuf::from("/"))])
    }

    /// Finds the program that `command` names: a path, from `workdir` on if it is relative, or a
    /// bare name, in the folders of [`PATH`] that exist in the sandbox.
    pub fn program(&self, command: &OsStr, workdir: &Path) -> Result<Program> {
        if command.as_bytes().contains(&b'/') {
            return self.describe(&workdir.join(command));
        }
        let found = PATH
            .split(':')
            .map(|folder| Path::new(folder).join(command))
            .find(|path| self.executable(path).is_some());
        match found {
            Some(path) if !command.is_empty() => self.describe(&path),
            _ => Err(IsolateError::path(
                Path::new(command),
                format!("no such program in {PATH} of the sandbox"),
                "install it there, or name its path",
            )),
        }
    }

    fn describe(&self, command: &Path) -> Result<Program> {
        let missing = |path: &Path| {
            IsolateError::path(
                path,
                "is not an executable file that the sandbox has",
                "look at its mode, or grant its folder",
            )
        };
        let (path, mut host) = self.executable(command).ok_or_else(|| missing(command))?;
        let mut script_interpreters: Vec<PathBuf> = Vec::new();
        loop {
            let found = interpreter(&host).step(format!("read {}", host.display()))?;
            let next = match &found {
                Interpreter::None => {
                    return Ok(Program {
                        path,
                        script_interpreters,
                        loader: None,
                    });
                }
                Interpreter::OfScript(next) | Interpreter::Loader(next) => next,
            };
            let (inside, outside) = self.executable(next).ok_or_else(|| missing(next))?;
            if matches!(found, Interpreter::Loader(_)) {
                return Ok(Program {
                    path,
                    script_interpreters,
                    loader: Some(inside),
                });
            }
            if script_interpreters.len() == MAX_STEPS || script_interpreters.contains(&inside) {
                return Err(missing(&inside));
            }
            script_interpreters.push(inside);
            host = outside;
        }
    }

    /// The path without links, and that of the host, of a file that may be executed.
    fn executable(&self, path: &Path) -> Option<(PathBuf, PathBuf)> {
        let (inside, outside) = self.walk(path)?;
        let status = outside.symlink_metadata().ok()?;
        let executable = status.is_file() && status.permissions().mode() & 0o111 != 0;
        executable.then_some((inside, outside))
    }

    /// Resolves a path as the kernel would in the sandbox.
    fn walk(&self, path: &Path) -> Option<(PathBuf, PathBuf)> {
        let mut inside = PathBuf::from("/");
        let mut ahead = names(path);
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                inside.pop();
                continue;
            }
            let next = inside.join(&name);
            let Some(outside) = self.outside(&next) else {
                // A folder that only exists to hold something granted.
                let holds = self.0.iter().any(|(granted, _)| granted.starts_with(&next));
                inside = holds.then_some(next)?;
                continue;
            };
            match std::fs::read_link(&outside) {
                Ok(target) => {
                    links += 1;
                    if links > MAX_STEPS {
                        return None;
                    }
                    if target.is_absolute() {
                        inside = PathBuf::from("/");
                    }
                    for name in names(&target).into_iter().rev() {
                        ahead.push_front(name);
                    }
                }
                Err(_) => inside = next,
            }
        }
        let outside = self.outside(&inside)?;
        Some((inside, outside))
    }

    fn outside(&self, inside: &Path) -> Option<PathBuf> {
        self.0.iter().find_map(|(granted, host)| {
            let rest = inside.strip_prefix(granted).ok()?;
            Some(if rest.as_os_str().is_empty() {
                host.clone()
            } else {
                host.join(rest)
            })
        })
    }
}

/// The file that the kernel starts in order to run a program.
enum Interpreter {
    None,
    OfScript(PathBuf),
    Loader(PathBuf),
}

fn interpreter(program: &Path) -> std::io::Result<Interpreter> {
    let mut file = File::open(program)?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        return Ok(script_interpreter(line).map_or(Interpreter::None, Interpreter::OfScript));
    }
    // The program headers follow the ELF header at once in all that linkers make.
    file.take(1 << 16).read_to_end(&mut head)?;
    Ok(elf_interpreter(&head).map_or(Interpreter::None, Interpreter::Loader))
}

fn script_interpreter(line: &[u8]) -> Option<PathBuf> {
    let line = line.split(|&byte| byte == b'\n').next()?.trim_ascii_start();
    let name = line.split(u8::is_ascii_whitespace).next()?;
    (!name.is_empty()).then(|| Path::new(OsStr::from_bytes(name)).to_owned())
}

/// `PT_INTERP` of a 64-bit little-endian ELF file, elf(5).
fn elf_interpreter(file: &[u8]) -> Option<PathBuf> {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = file.get(at..at.checked_add(length)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |value, &byte| value << 8 | u64::from(byte)),
        )
    };
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(number(32, 8)?).ok()?;
    let size = usize::try_from(number(54, 2)?).ok()?;
    let count = usize::try_from(number(56, 2)?).ok()?;
    let headers = (0..count).map_while(|index| table.checked_add(index.checked_mul(size)?));
    let header = headers
        .into_iter()
        .find(|&at| number(at, 4) == Some(PT_INTERP))?;
    let offset = usize::try_from(number(header.checked_add(8)?, 8)?).ok()?;
    let length = usize::try_from(number(header.checked_add(32)?, 8)?).ok()?;
    let name = file
        .get(offset..offset.checked_add(length)?)?
        .strip_suffix(b"\0")?;
    Some(PathBuf::from(OsString::from(OsStr::from_bytes(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View::new(Runtime::System, Path::new("/nonexistent-skill"), [])
    }

    #[test]
    fn a_bare_name_is_found_in_the_system_and_its_links_are_followed() {
        let shell = view().program(OsStr::new("sh"), Path::new(SKILL)).unwrap();
        assert!(shell.path.starts_with("/usr"), "{shell:?}");
        assert!(!shell.path.is_symlink());
        assert!(shell.script_interpreters.is_empty());
        assert!(!shell.loader.unwrap().is_symlink());
    }

    #[test]
    fn what_the_sandbox_does_not_have_is_not_found() {
        for command in [
            "",
            "no-such-program",
            "/root/.bashrc",
            "/proc/self/exe",
            "..",
            "/usr",
        ] {
            assert!(
                view()
                    .program(OsStr::new(command), Path::new(SKILL))
                    .is_err(),
                "{command}"
            );
        }
    }

    #[test]
    fn a_program_of_the_skills_is_found_also_where_it_is_granted_by_its_name() {
        // Of this host's programs one that is no link, as if it were the skill's.
        let grant = Path::new("/skill/true");
        let view = View::new(Runtime::System, Path::new("/usr/bin"), [grant]);
        let program = view.program(OsStr::new("/skill/true"), Path::new(SKILL));
        assert_eq!(program.unwrap().path, grant);
    }

    #[test]
    fn a_script_names_its_interpreter() {
        let interpreter = |line: &[u8]| script_interpreter(line);
        assert_eq!(
            interpreter(b" /usr/bin/env python3\n"),
            Some("/usr/bin/env".into())
        );
        assert_eq!(interpreter(b"/bin/sh"), Some("/bin/sh".into()));
        assert_eq!(interpreter(b"\n"), None);
    }

    #[test]
    fn a_broken_program_has_no_loader() {
        let mut file = std::fs::read("/usr/bin/true").unwrap();
        assert!(elf_interpreter(&file).is_some());
        for length in 0..64 {
            assert_eq!(elf_interpreter(&file[..length]), None);
        }
        file[32..40].fill(0xff);
        assert_eq!(elf_interpreter(&file), None);
    }
}
