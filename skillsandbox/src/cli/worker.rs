//! The daemon's worker for one caller, and what ends what the daemon does not: it starts these itself.

use std::{ffi::OsString, io, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser;

use super::{audit, exit, run};
use crate::supervise::service::{REFUSED, Served, Worker};

/// Serve the caller whose connection is standard input.
#[derive(Parser)]
struct Arguments {
    /// Make a sandbox first, and serve the caller whose connection then comes through standard input.
    #[arg(long)]
    ahead: bool,
    #[arg(long)]
    audit_dir: PathBuf,
    #[arg(long)]
    socket: PathBuf,
    #[arg(long, value_parser = run::resolver)]
    resolver: Vec<SocketAddr>,
}

/// Serves, as the daemon says in the arguments.
pub(super) fn run(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    let arguments = Arguments::try_parse_from(arguments)?;
    let worker = Worker {
        store: arguments.audit_dir,
        resolvers: arguments.resolver,
        socket: arguments.socket,
        code_of: exit::code_of_run,
    };
    let served = if arguments.ahead {
        worker.serve_ahead()
    } else {
        worker.serve()
    };
    match served? {
        Served::Run => {}
        Served::Refused => return Ok(ExitCode::from(REFUSED)),
        Served::Nobody => return Ok(ExitCode::SUCCESS),
    }
    if let Err(error) = audit::seal_in_background(&worker.store) {
        tracing::error!("the audit store's logs are not sealed: {error:#}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends when its standard input does, and with that closes the connections that it was started with: the end of a process waits
/// for none of them, whatever was sent over it.
pub(super) fn close() -> anyhow::Result<ExitCode> {
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(ExitCode::SUCCESS)
}
