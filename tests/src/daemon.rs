//! A daemon.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStderr, Command, Stdio},
};

use rustix::process::Signal;

/// A daemon that has begun, and is killed when this is dropped.
pub struct Daemon {
    /// Its process.
    pub child: Child,
    /// What it says later has room in the pipe.
    _words: BufReader<ChildStderr>,
}

impl Daemon {
    /// Starts it, and waits until it has attached what is there.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("skillsandbox starts");
        let mut words = BufReader::new(child.stderr.take().expect("its words"));
        let mut said = String::new();
        while !said.contains("have their policy") {
            said.clear();
            assert!(words.read_line(&mut said).expect("a line") > 0, "it ended");
        }
        Self {
            child,
            _words: words,
        }
    }

    /// Sends it a signal.
    pub fn send(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process");
        let id = rustix::process::Pid::from_raw(id).expect("a process");
        rustix::process::kill_process(id, signal).expect("a signal");
    }

    /// Ends it by a signal, for its exit code.
    pub fn signal(&mut self, signal: Signal) -> Option<i32> {
        self.send(signal);
        self.child.wait().expect("its end").code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
