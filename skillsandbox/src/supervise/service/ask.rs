//! The caller's side: asks the daemon for a run, and passes its streams on.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
};

use super::protocol::{Answer, Asked, AskedRun, Connection, ServiceError, VERSION};
use crate::{
    audit::safe_file::Place as FilePlace,
    supervise::{
        Events, Options, Request,
        error::RunError,
        output::{Budget, Pump},
    },
};

/// A run that was asked for, and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit code to pass on; `None` when the deadline ended it.
    pub exit_code: Option<u8>,
    /// Whether its record is complete.
    pub recorded: bool,
}

/// Asks the daemon at this socket for a run, and waits for its end. When this process ends before, so does the run.
pub fn ask(
    socket: &Path,
    text: String,
    request: &Request,
    options: &Options,
) -> Result<Ended, RunError> {
    refuse_what_only_root_chooses(options)?;
    let asked = asked(text, request, options)?;
    let events = match &options.events {
        Some(Events::File(path)) => Some(FilePlace::open(path)?.replace(None)?),
        _ => None,
    };
    let connection = connect(socket)?;
    // Who refuses without having heard it has said why.
    let said = connection.say(&asked, &[]);

    let mut pumps: Vec<Pump> = Vec::new();
    let end = |pumps: Vec<Pump>| {
        for pump in pumps {
            pump.join(None);
        }
    };
    loop {
        let (message, descriptors) = match (connection.hear(None), &said) {
            (Err(_), Err(_)) => {
                said?;
                return Err(ServiceError::Closed.into());
            }
            (heard, _) => heard?,
        };
        match serde_json::from_slice(&message).map_err(ServiceError::from)? {
            Answer::Accepted {} => {
                pumps = pass_on(descriptors, &asked.run, events.as_ref(), options)?;
            }
            Answer::Ended {
                exit_code,
                recorded,
            } => {
                end(pumps);
                return Ok(Ended {
                    exit_code,
                    recorded,
                });
            }
            Answer::Refused { code, why } => {
                end(pumps);
                return Err(RunError::Refused { code, why });
            }
        }
    }
}

fn connect(socket: &Path) -> Result<Connection, RunError> {
    let failed = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "only root and members of its group, which `ls -l` shows, may ask it: `usermod -aG GROUP USER`"
            }
            _ => "run this as root, or have root start `skillsandbox daemon`",
        };
        let problem = format!(
            "a run needs root or the daemon, which cannot be asked at {}: {error}",
            socket.display()
        );
        RunError::NobodyToAsk { problem, remedy }
    };
    UnixStream::connect(socket)
        .map(Connection::of)
        .map_err(failed)
}

fn refuse_what_only_root_chooses(options: &Options) -> Result<(), RunError> {
    let chosen = [
        ("--user", options.user.is_some()),
        ("--audit-dir", options.audit_dir.is_some()),
        ("--trace-output", options.trace_output.is_some()),
        ("--record-refused", options.record_refused),
        ("--resolver", !options.resolvers.is_empty()),
    ];
    match chosen.iter().find(|(_, is_chosen)| *is_chosen) {
        None => Ok(()),
        Some((option, _)) => Err(RunError::attachment(
            format!("{option} is root's to choose, and this run is asked of the daemon"),
            "leave it out, or run this as root",
        )),
    }
}

fn asked(manifest: String, request: &Request, options: &Options) -> Result<Asked, RunError> {
    let text = |what: &OsString| {
        let text = what.to_str().map(str::to_owned);
        text.ok_or_else(|| {
            let problem = format!("{} is not text in UTF-8", what.display());
            RunError::attachment(problem, "the daemon takes no other arguments and variables")
        })
    };
    let texts = |all: &[OsString]| all.iter().map(text).collect::<Result<Vec<_>, _>>();
    let skill_dir = fs::canonicalize(&request.skill_dir)
        .map_err(|error| RunError::state("find the folder", &request.skill_dir, error))?;
    let allowed = &request.manifest.permissions.env_vars.allow;
    let mut environment = BTreeMap::new();
    for (name, value) in &request.environment {
        let is_passed = allowed
            .iter()
            .any(|allowed| OsStr::new(allowed.value.as_str()) == name);
        // What is withheld goes no further than here.
        let value = if is_passed {
            text(value)?
        } else {
            String::new()
        };
        if let Some(name) = name.to_str() {
            environment.insert(name.to_owned(), value);
        }
    }
    Ok(Asked {
        version: VERSION,
        run: AskedRun {
            manifest,
            manifest_file: request.manifest_file.clone(),
            skill_dir,
            command: request.command.as_deref().map(texts).transpose()?,
            arguments: texts(&request.extra_arguments)?,
            environment,
            stdin: options.stdin,
            watch: options.watch,
            events: options.events.is_some(),
            require_kernel: options.require_kernel,
        },
    })
}

/// Passes the skill's streams on, to their ends.
fn pass_on(
    descriptors: Vec<OwnedFd>,
    asked: &AskedRun,
    events: Option<&File>,
    options: &Options,
) -> Result<Vec<Pump>, RunError> {
    let mut descriptors = descriptors.into_iter().map(File::from);
    let mut next = || descriptors.next().ok_or(ServiceError::Streams);
    let whole = || Budget::new(u64::MAX);
    let mut pumps = vec![
        Pump::start(next()?, io::stdout(), whole())?,
        Pump::start(next()?, io::stderr(), whole())?,
    ];
    if asked.stdin {
        // Ends with our own standard input, or with this process.
        let _passing = Pump::start(io::stdin(), next()?, whole())?;
    }
    if asked.events {
        let to: Box<dyn Write + Send> = match (events, &options.events) {
            (Some(file), _) => Box::new(file.try_clone().map_err(ServiceError::from)?),
            (None, _) => Box::new(io::stdout()),
        };
        pumps.push(Pump::start(next()?, to, whole())?);
    }
    Ok(pumps)
}
