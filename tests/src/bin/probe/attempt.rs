//! What can be attempted.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    ptr,
    time::Duration,
};

use skillsandbox_attacks::ring::{self, Request};

use super::{
    change, network, route,
    system::{Result, checked, descriptor, open, text},
};

/// Flags of `memfd_create(2)` that libc may not name.
const MFD_EXEC: u32 = 0x10;

#[derive(Default)]
pub(crate) struct Probe {
    /// The descriptor of `hold`, and `reference`.
    held: Option<OwnedFd>,
}

impl Probe {
    pub(crate) fn attempt(&mut self, verb: &str, words: &[Vec<u8>]) -> Result<()> {
        let word = |index: usize| -> Result<&[u8]> {
            let found = words.get(index).map(Vec::as_slice);
            found.ok_or_else(|| io::Error::other(format!("{verb} needs a word more")))
        };
        match verb {
            "read" => read(open(word(0)?, libc::O_RDONLY)?),
            "write" => write(open(word(0)?, libc::O_WRONLY | libc::O_CREAT)?),
            "list" => open(word(0)?, libc::O_RDONLY | libc::O_DIRECTORY).map(drop),
            "truncating" => open(word(0)?, libc::O_RDONLY | libc::O_TRUNC).map(drop),
            "openat2" => read(openat2(word(0)?)?),
            "uring-open" => uring_open(word(0)?),
            "hold" => self.hold(word(0)?, libc::O_RDONLY),
            "reference" => self.hold(word(0)?, libc::O_PATH),
            "reopen-read" => read(open(&self.held_path()?, libc::O_RDONLY)?),
            "reopen-write" => write(open(&self.held_path()?, libc::O_WRONLY)?),
            "read-below-held" => self.read_below(word(0)?),
            "cd" => simple(word(0)?, |path| {
                // SAFETY: a NUL-terminated path.
                unsafe { libc::chdir(path) }
            }),
            "make-folder" => simple(word(0)?, |path| {
                // SAFETY: a NUL-terminated path.
                unsafe { libc::mkdir(path, 0o777) }
            }),
            "remove-folder" => simple(word(0)?, |path| {
                // SAFETY: a NUL-terminated path.
                unsafe { libc::rmdir(path) }
            }),
            "chmod" => simple(word(0)?, |path| {
                // SAFETY: a NUL-terminated path.
                unsafe { libc::chmod(path, 0o777) }
            }),
            "chown" => simple(word(0)?, |path| {
                // SAFETY: a NUL-terminated path; -1 leaves a number as it is.
                unsafe { libc::chown(path, u32::MAX, u32::MAX) }
            }),
            "unlink" => simple(word(0)?, |path| {
                // SAFETY: a NUL-terminated path.
                unsafe { libc::unlink(path) }
            }),
            "symlink" => std::os::unix::fs::symlink(path(word(0)?), path(word(1)?)),
            "link" => std::fs::hard_link(path(word(0)?), path(word(1)?)),
            "rename" => std::fs::rename(path(word(0)?), path(word(1)?)),
            "exchange" => change::exchange(word(0)?, word(1)?),
            "truncate" => change::truncate(word(0)?),
            "map" => change::map(word(0)?),
            "map-memory-file" => change::map_memory_file(),
            "map-anonymous" => change::map_anonymous(),
            "exec-with-page-zero" => change::exec_with_page_zero(words),
            "nameless" => self.nameless(word(0)?),
            "name-held" => self.name_held(word(0)?),
            "exec" => execute(words),
            "exec-held" => self.exec_held(words),
            "exec-memory" => exec_memory(words),
            "connect" => network::connect(&utf8(word(0)?)?, address(word(1)?, word(2)?)?),
            "bind" => network::bind(&utf8(word(0)?)?, address(word(1)?, word(2)?)?),
            "unix" => network::connect_unix(word(0)?),
            "socket" => network::make(number(word(0)?)?, number(word(1)?)?, number(word(2)?)?),
            "uring-connect" => network::ring_connect(address(word(0)?, word(1)?)?),
            "send" => network::send(&utf8(word(0)?)?, address(word(1)?, word(2)?)?),
            "send-with-options" => route::send(address(word(0)?, word(1)?)?),
            "fast-open" => network::fast_open(address(word(0)?, word(1)?)?),
            "reconnect" => {
                network::reconnect(address(word(0)?, word(1)?)?, address(word(2)?, word(3)?)?)
            }
            "hammer" => hammer(word(0)?, word(1)?, address(word(2)?, word(3)?)?),
            other => Err(io::Error::other(format!("no attempt is called {other}"))),
        }
    }

    fn hold(&mut self, path: &[u8], flags: i32) -> Result<()> {
        self.held = Some(open(path, flags)?);
        Ok(())
    }

    fn held(&self) -> Result<&OwnedFd> {
        let held = self.held.as_ref();
        held.ok_or_else(|| io::Error::other("nothing is held"))
    }

    fn held_path(&self) -> Result<Vec<u8>> {
        Ok(format!("/proc/self/fd/{}", self.held()?.as_raw_fd()).into_bytes())
    }

    fn read_below(&self, name: &[u8]) -> Result<()> {
        let name = text(name)?;
        // SAFETY: a descriptor of ours and a NUL-terminated path.
        let opened = unsafe {
            libc::openat(
                self.held()?.as_raw_fd(),
                name.as_ptr(),
                libc::O_RDONLY | libc::O_CLOEXEC,
            )
        };
        read(descriptor(opened.into())?)
    }

    fn nameless(&mut self, folder: &[u8]) -> Result<()> {
        let file = open(folder, libc::O_TMPFILE | libc::O_RDWR)?;
        self.held = Some(file.try_clone()?);
        write(file)
    }

    fn name_held(&self, name: &[u8]) -> Result<()> {
        let (from, name) = (text(&self.held_path()?)?, text(name)?);
        // SAFETY: two NUL-terminated paths.
        let result = unsafe {
            libc::linkat(
                libc::AT_FDCWD,
                from.as_ptr(),
                libc::AT_FDCWD,
                name.as_ptr(),
                libc::AT_SYMLINK_FOLLOW,
            )
        };
        checked(result.into()).map(drop)
    }

    fn exec_held(&self, words: &[Vec<u8>]) -> Result<()> {
        let held = self.held()?.as_raw_fd();
        exec(words, |_, arguments| exec_descriptor(held, arguments))
    }
}

fn path(word: &[u8]) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt;
    std::path::Path::new(std::ffi::OsStr::from_bytes(word))
}

fn utf8(word: &[u8]) -> Result<String> {
    String::from_utf8(word.to_vec()).map_err(io::Error::other)
}

fn address(ip: &[u8], port: &[u8]) -> Result<SocketAddr> {
    let ip: IpAddr = utf8(ip)?.parse().map_err(io::Error::other)?;
    let port = utf8(port)?.parse().map_err(io::Error::other)?;
    Ok(SocketAddr::new(ip, port))
}

fn number(word: &[u8]) -> Result<i32> {
    utf8(word)?.parse().map_err(io::Error::other)
}

fn simple(word: &[u8], call: impl Fn(*const libc::c_char) -> i32) -> Result<()> {
    let path = text(word)?;
    checked(call(path.as_ptr()).into()).map(drop)
}

fn read(file: OwnedFd) -> Result<()> {
    File::from(file).read(&mut [0; 1]).map(drop)
}

fn write(file: OwnedFd) -> Result<()> {
    File::from(file).write_all(b"written")
}

fn openat2(path: &[u8]) -> Result<OwnedFd> {
    let path = text(path)?;
    // `struct open_how`: flags, mode, resolve.
    let how = [(libc::O_RDONLY | libc::O_CLOEXEC) as u64, 0, 0];
    // SAFETY: a NUL-terminated path, and a structure of the size that is passed.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw const how,
            size_of_val(&how),
        )
    })
}

fn uring_open(path: &[u8]) -> Result<()> {
    let path = text(path)?;
    let request = Request {
        opcode: ring::OPENAT,
        fd: libc::AT_FDCWD,
        addr: path.as_ptr() as u64,
        op_flags: libc::O_RDONLY as u32,
        ..Request::default()
    };
    // SAFETY: the path outlives the call.
    let opened = unsafe { ring::submit(request) }?;
    read(descriptor(opened.into())?)
}

/// Runs a program by its path.
pub(crate) fn execute(words: &[Vec<u8>]) -> Result<()> {
    exec(words, |path, arguments| {
        // SAFETY: the arguments end with NULL.
        unsafe { libc::execv(path, arguments) };
    })
}

/// Runs a program in a child; an error is that of `execve`, not the program's.
fn exec(
    words: &[Vec<u8>],
    call: impl FnOnce(*const libc::c_char, *const *const libc::c_char),
) -> Result<()> {
    let words = words.iter().map(text).collect::<Result<Vec<_>>>()?;
    let mut arguments: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    arguments.push(ptr::null());
    let program = words.first().map_or(ptr::null(), |word| word.as_ptr());
    let mut status = 0;
    let mut pipe = [0; 2];
    // SAFETY: this process has one thread; the child only executes, or writes and ends.
    unsafe {
        checked(libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC).into())?;
        let child = checked(libc::fork().into())?;
        if child == 0 {
            let null = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY);
            libc::dup2(null, 1);
            call(program, arguments.as_ptr());
            let error = *libc::__errno_location();
            libc::write(pipe[1], (&raw const error).cast(), 4);
            libc::_exit(1);
        }
        libc::close(pipe[1]);
        let mut error = 0_i32;
        let told = libc::read(pipe[0], (&raw mut error).cast(), 4);
        libc::close(pipe[0]);
        checked(libc::waitpid(child, &raw mut status, 0).into())?;
        if told == 4 {
            return Err(io::Error::from_raw_os_error(error));
        }
    }
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "the program ended with status {status:#x}"
        )))
    }
}

fn exec_descriptor(descriptor: i32, arguments: *const *const libc::c_char) {
    let environment = [ptr::null::<libc::c_char>()];
    // SAFETY: the arguments and the environment end with NULL.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            descriptor,
            c"".as_ptr(),
            arguments,
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
}

/// Copies a program into memory and runs it from there.
fn exec_memory(words: &[Vec<u8>]) -> Result<()> {
    let program = words.first().map_or(&[][..], Vec::as_slice);
    let mut from = File::from(open(program, libc::O_RDONLY)?);
    let create = |flags: u32| {
        // SAFETY: a NUL-terminated name.
        descriptor(libc::c_long::from(unsafe {
            libc::memfd_create(c"program".as_ptr(), libc::MFD_CLOEXEC | flags)
        }))
    };
    // The flag came with Linux 6.3; before, every memory file was executable.
    let memory = create(MFD_EXEC).or_else(|_| create(0))?;
    io::copy(&mut from, &mut File::from(memory.try_clone()?))?;
    let number = memory.as_raw_fd();
    exec(words, |_, arguments| exec_descriptor(number, arguments))
}

/// Tries what is denied until it is killed. Appends to `log` a `d` for a denial and an `A` for an
/// access that went through.
fn hammer(log: &[u8], denied: &[u8], address: SocketAddr) -> Result<()> {
    let mut log = OpenOptions::new().append(true).open(path(log))?;
    loop {
        let accesses = [
            open(denied, libc::O_RDONLY).map(drop),
            network::connect("tcp", address),
        ];
        for access in accesses {
            log.write_all(if access.is_ok() { b"A" } else { b"d" })?;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
