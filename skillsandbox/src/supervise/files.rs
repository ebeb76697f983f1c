//! Where a run writes: opened before the skill runs, so that it can plant no link.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
};

use super::{
    error::RunError,
    run::{Events, Options},
    streams::{Outlet, Streams, again},
};
use crate::audit::{
    clock::Time,
    json_lines::JsonLines,
    safe_file::{Owner, Place as FilePlace},
    sink::Sink,
    store::{About, Log, Writer},
    trace::{Trace, TraceInfo},
    watch::{Colour, Watch},
};

/// A sink, and what errors call it.
type Named = (&'static str, Box<dyn Sink>);

/// Output files, opened before the skill could plant a link.
pub(super) struct Files {
    events: Option<Box<dyn Write + Send>>,
    store: Option<Writer>,
    log: Option<Log>,
    trace: Option<FilePlace>,
    owner: Option<Owner>,
}

impl Files {
    /// Opens them for whoever is behind sudo, else for us.
    pub(super) fn open(options: &Options) -> Result<Self, RunError> {
        let number = |name| {
            std::env::var(name)
                .ok()
                .and_then(|value| value.parse().ok())
        };
        let owner = match (number("SUDO_UID"), number("SUDO_GID")) {
            (Some(uid), Some(gid)) => Some(Owner { uid, gid }),
            _ => None,
        };
        let events: Option<Box<dyn Write + Send>> = match &options.events {
            None => None,
            Some(Events::Stdout) => {
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                let stdout = stdout.map_err(RunError::process("use standard output"))?;
                Some(Box::new(File::from(stdout)))
            }
            Some(Events::Pipe(pipe)) => Some(Box::new(outlet(pipe)?)),
            Some(Events::File(path)) => Some(Box::new(FilePlace::open(path)?.replace(owner)?)),
        };
        let trace = options
            .trace_output
            .as_deref()
            .map(FilePlace::open)
            .transpose()?;
        let store = options.audit_dir.as_deref().map(Writer::open).transpose()?;
        Ok(Self {
            events,
            store,
            log: None,
            trace,
            owner,
        })
    }

    /// Begins the log of the run in the audit store. Nothing of the skill has run yet.
    pub(super) fn begin(&mut self, about: &About, started: Time) -> Result<(), RunError> {
        if let Some(store) = self.store.take() {
            let log = Log::begin(store, about, started);
            self.log = Some(log.map_err(RunError::process("begin the log of the run"))?);
        }
        Ok(())
    }

    /// The sinks of the record, that which is kept first: it waits for nobody.
    pub(super) fn sinks(self, options: &Options, info: TraceInfo) -> Result<Vec<Named>, RunError> {
        let mut sinks: Vec<Named> = Vec::new();
        if let Some(log) = self.log {
            sinks.push(("audit store", Box::new(log)));
        }
        if let Some(file) = self.events {
            sinks.push(("events", Box::new(JsonLines::new(file))));
        }
        if options.watch {
            let watch: Box<dyn Sink> = match &options.streams {
                Streams::Ours => {
                    let stderr = io::stderr();
                    let colour = Colour::of(&stderr);
                    Box::new(Watch::new(stderr, colour))
                }
                Streams::Theirs { stderr, .. } => {
                    Box::new(Watch::new(outlet(stderr)?, Colour::None))
                }
            };
            sinks.push(("watch", watch));
        }
        if let Some(place) = self.trace {
            sinks.push(("trace", Box::new(Trace::new(info, place, self.owner))));
        }
        Ok(sinks)
    }
}

fn outlet(pipe: &File) -> Result<Outlet, RunError> {
    Outlet::start(again(pipe)?).map_err(RunError::process("start a thread"))
}
