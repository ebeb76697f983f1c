//! Where long answers are written: a pager on a terminal, else standard output.

use std::{
    env,
    io::{self, IsTerminal, Write},
    process::{Child, Command, Stdio},
};

/// Shows a screen at a time what is written to it.
pub(super) enum Pager {
    /// There is nobody to turn pages.
    Plain(io::Stdout),
    /// A program that does it.
    Less(Child),
}

impl Pager {
    /// The pager, if standard output is a terminal and `less` is there. It gets no environment that could have it
    /// do more than show, and ends at once where everything fits on the screen.
    pub(super) fn open() -> Self {
        let stdout = io::stdout();
        if !stdout.is_terminal() || env::var_os("PAGER").is_some_and(|pager| pager == "cat") {
            return Self::Plain(stdout);
        }
        let mut less = Command::new("less");
        less.env_remove("LESSOPEN")
            .env_remove("LESSCLOSE")
            .env("LESSSECURE", "1")
            .env("LESSCHARSET", "utf-8")
            .args(["--quit-if-one-screen", "--no-init", "--chop-long-lines"])
            .stdin(Stdio::piped());
        match less.spawn() {
            Ok(child) => Self::Less(child),
            Err(_) => Self::Plain(stdout),
        }
    }

    fn out(&mut self) -> io::Result<&mut dyn Write> {
        match self {
            Self::Plain(stdout) => Ok(stdout),
            Self::Less(child) => match &mut child.stdin {
                Some(stdin) => Ok(stdin),
                None => Err(io::ErrorKind::BrokenPipe.into()),
            },
        }
    }
}

impl Write for Pager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out()?.flush()
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        if let Self::Less(child) = self {
            drop(child.stdin.take());
            // Until its reader has seen enough.
            let _ended = child.wait();
        }
    }
}
