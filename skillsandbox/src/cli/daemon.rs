//! `skillsandbox daemon`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;
use sd_notify::NotifyState;

use super::{attach, audit, run};
use crate::supervise::{
    attach::Told,
    daemon::{self, DaemonRequest, Said},
    service::SOCKET,
};

/// Who asks for runs.
const GROUP: &str = "skillsandbox";
/// Where policies are.
const POLICIES: &str = "/etc/skillsandbox/policies";

/// Keep the policies of this host attached, and record what happens in their cgroups.
///
/// Each file NAME.yaml of the folder is a manifest with the key `cgroup`: the cgroup that it is for or, with `*`, several. A
/// cgroup that comes later gets its policy when it is found, within a second. A file that changes takes effect; one that is
/// removed has its policy taken away; one that is refused leaves what is in force. What was attached stays in force when
/// this ends, and this goes on with it when it starts again. SIGHUP has it look at once.
#[derive(Args)]
pub(super) struct DaemonArguments {
    /// The folder of policies.
    #[arg(long, value_name = "DIR", default_value = POLICIES)]
    policies: PathBuf,
    /// Keep every access in the audit store of this folder, made if it is not there.
    #[arg(long, value_name = "DIR", default_value = audit::FOLDER)]
    audit_dir: PathBuf,
    /// Where callers who are not root ask for runs.
    #[arg(long, value_name = "FILE", default_value = SOCKET)]
    socket: PathBuf,
    /// The group whose members may ask.
    #[arg(long, value_name = "NAME", default_value = GROUP)]
    group: String,
    /// Attach also where the kernel lets no eBPF program decide on files and programs, or (before Linux 6.12) on the names of
    /// files: the other rules hold.
    #[arg(long)]
    accept_fallback: bool,
    /// Look names up at this resolver, ADDRESS or ADDRESS:PORT [default: those of /etc/resolv.conf]. Can be given more
    /// than once.
    #[arg(long, value_name = "ADDRESS", value_parser = run::resolver)]
    resolver: Vec<SocketAddr>,
}

/// How long the next of many cgroups may take until a service manager that waits for all of them gives up.
const NEXT_WITHIN_USEC: u32 = 60_000_000;

pub(super) fn run(arguments: &DaemonArguments) -> anyhow::Result<ExitCode> {
    let request = DaemonRequest {
        policies: std::path::absolute(&arguments.policies)?,
        store: std::path::absolute(&arguments.audit_dir)?,
        socket: std::path::absolute(&arguments.socket)?,
        group: arguments.group.clone(),
        accept_fallback: arguments.accept_fallback,
        resolvers: arguments.resolver.clone(),
    };
    let store = request.store.clone();
    let tell = move |said| {
        if matches!(said, Said::Ready(..)) {
            seal(&store);
        }
        say(said);
    };
    super::block_on(async { Ok(daemon::daemon(request, Arc::new(tell)).await?) })?;
    Ok(ExitCode::SUCCESS)
}

/// Ends, in the store, what was running when the host went down, and seals what is over.
fn seal(store: &Path) {
    if !store.exists() {
        return;
    }
    if let Err(error) = audit::start_sealing(store) {
        tracing::error!("the audit store's logs are not sealed: {error:#}");
    }
}

/// Says it to whoever started this: the journal, and the service manager where there is one.
fn say(said: Said) {
    let status = |attached: usize, failed: usize| match failed {
        0 => format!("{attached} cgroups have their policy"),
        _ => format!(
            "{attached} cgroups have their policy, {failed} COULD NOT BE ATTACHED: see the log"
        ),
    };
    match said {
        Said::Of(name, told) => {
            if matches!(told, Told::InForce(..)) {
                notify(&[NotifyState::ExtendTimeoutUsec(NEXT_WITHIN_USEC)]);
            }
            attach::say_of(&format!("{name}: "), told);
        }
        Said::Ready(attached, failed) => {
            let status = status(attached, failed);
            attach::say_line(&status);
            notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
        }
        // Each takes its time, at the start and later.
        Said::Detaching => notify(&[
            NotifyState::ExtendTimeoutUsec(NEXT_WITHIN_USEC),
            NotifyState::Watchdog,
        ]),
        Said::Alive(attached, failed) => {
            let status = status(attached, failed);
            notify(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
        }
        Said::Ends => {
            attach::say_line("policies stay in force; nobody records them until this starts again");
            notify(&[NotifyState::Stopping]);
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
