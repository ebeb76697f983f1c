//! Where a run writes: opened before the skill runs, so that it can plant no link.

use std::{fs::File, io, os::fd::AsFd};

use super::{
    error::RunError,
    run::{Events, Options},
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

/// Output files, opened before the skill could plant a link.
pub(super) struct Files {
    events: Option<File>,
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
        let events = match &options.events {
            None => None,
            Some(Events::Stdout) => {
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                Some(
                    stdout
                        .map_err(RunError::process("use standard output"))?
                        .into(),
                )
            }
            Some(Events::File(path)) => Some(FilePlace::open(path)?.replace(owner)?),
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

    /// The sinks of the record.
    pub(super) fn sinks(self, watch: bool, info: TraceInfo) -> Vec<(&'static str, Box<dyn Sink>)> {
        let mut sinks: Vec<(&'static str, Box<dyn Sink>)> = Vec::new();
        if let Some(file) = self.events {
            sinks.push(("events", Box::new(JsonLines::new(file))));
        }
        if watch {
            let stderr = io::stderr();
            let colour = Colour::of(&stderr);
            sinks.push(("watch", Box::new(Watch::new(stderr, colour))));
        }
        if let Some(log) = self.log {
            sinks.push(("audit store", Box::new(log)));
        }
        if let Some(place) = self.trace {
            sinks.push(("trace", Box::new(Trace::new(info, place, self.owner))));
        }
        sinks
    }
}
