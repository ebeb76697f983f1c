//! Where a run writes: opened before the skill runs, so that it can plant no link.

use std::{fs::File, io, os::fd::AsFd};

use super::{
    error::RunError,
    run::{Events, Options},
};
use crate::audit::{
    json_lines::JsonLines,
    safe_file::{Owner, Place as FilePlace},
    sink::Sink,
    trace::{Trace, TraceInfo},
    watch::{Colour, Watch},
};

/// Output files, opened before the skill could plant a link.
pub(super) struct Files {
    events: Option<File>,
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
        Ok(Self {
            events,
            trace,
            owner,
        })
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
        if let Some(place) = self.trace {
            sinks.push(("trace", Box::new(Trace::new(info, place, self.owner))));
        }
        sinks
    }
}
