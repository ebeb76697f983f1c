//! A cgroup that is there already: a policy decides in it, whether anybody of ours lives or not.
//!
//! What decides is pinned, and so are the rings. A process of ours takes the records off them; when it is gone they stay
//! there, as long as there is room, and the next one goes on where it stopped. Only the cgroup's programs hold here: what
//! `run` puts around a skill (mounts, seccomp, limits, iptables) cannot be put around processes that run already.

mod chapter;
mod control;
mod end;
mod fresh;
mod list;
mod open_files;
mod post;
mod rules;
mod state;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    error::RunError,
    interruptions::Interruptions,
    registry::{Claim, Registry},
};
use crate::manifest::Mode;
use post::{Post, Which};

pub(super) use control::{Answer, Asked, Request};

pub use list::{Listed, Standing, list};
pub use open_files::OpenFile;

/// How often it is looked whether the cgroup is still there, and the run is long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is to be attached, or recorded on.
#[derive(Clone, Debug)]
pub struct AttachRequest {
    /// The name that it has.
    pub name: String,
    /// The cgroup; `None` for one that is attached.
    pub cgroup: Option<PathBuf>,
    /// The manifest; `None` for that which was in force.
    pub manifest: Option<PathBuf>,
    /// Where records are kept.
    pub store: PathBuf,
    /// Whether to deny, in the place of what the manifest says.
    pub mode: Option<Mode>,
    /// Attach where nothing decides on files, programs or names of files, too.
    pub accept_fallback: bool,
    /// Whom the name server asks; this host's own resolvers if there is none.
    pub resolvers: Vec<SocketAddr>,
    /// Show events on standard error as they happen.
    pub watch: bool,
}

/// Why recording has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It was asked to leave: the policy is in force.
    Left,
    /// It was detached.
    Detached,
    /// The cgroup is gone.
    Gone,
    /// Something could not be kept: the policy is in force, and what was not kept is still on the rings.
    Failed,
}

/// What is to be said while it is attached.
#[derive(Clone, Debug)]
pub enum Told {
    /// Its policy is in force: the name, the cgroup, and what nothing decides on, if there is such.
    InForce(String, PathBuf, Option<String>),
    /// Files stay open that the policy denies.
    StayOpen(Vec<OpenFile>),
    /// A run has ended, whose log in this store can be sealed.
    RunEnded(PathBuf),
}

/// Attaches a cgroup, or goes on with one that is attached and that nobody records, and records it until something ends
/// that, or a signal asks to leave.
pub async fn attach(
    request: &AttachRequest,
    tell: &(dyn Fn(Told) + Sync),
) -> Result<Recorded, RunError> {
    let mut interruptions = Interruptions::listen()?;
    let left = async {
        interruptions.next().await;
    };
    record(request, tell, requests(), left).await
}

/// The same, for as long as `left` is not over. `requests` are taken as well as those that come through the registry.
pub(super) async fn record(
    request: &AttachRequest,
    tell: &(dyn Fn(Told) + Sync),
    (sender, mut requests): (mpsc::Sender<Asked>, mpsc::Receiver<Asked>),
    left: impl Future<Output = ()>,
) -> Result<Recorded, RunError> {
    let (mut post, mut chapter) = Post::take(request, tell)?;
    let _listening = control::listen(post.place.folder(), sender)?;
    tell(Told::InForce(
        post.state.name.clone(),
        post.state.cgroup.clone(),
        post.state.unheld.clone(),
    ));
    let store = post.state.store.clone();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut left = std::pin::pin!(left);
    loop {
        tokio::select! {
            () = &mut left => {
                chapter.leave()?;
                return Ok(Recorded::Left);
            }
            _ = chapter.failed.recv() => {
                // It says why when it is joined, or has said so.
                chapter.leave()?;
                return Ok(Recorded::Failed);
            }
            Some(asked) = requests.recv() => match asked.request.clone() {
                Request::Detach => {
                    let detached = post.detach(chapter);
                    asked.answer(answer_of(detached.as_ref())).await;
                    detached?;
                    tell(Told::RunEnded(store));
                    return Ok(Recorded::Detached);
                }
                Request::Reload { manifest } => {
                    let which = Which::File(manifest.as_deref());
                    let (next, done) = post.reload(chapter, which, tell);
                    asked.answer(answer_of(done.as_ref())).await;
                    chapter = next?;
                    if done.is_ok() {
                        tell(Told::RunEnded(store.clone()));
                    }
                }
            },
            _ = look.tick() => {
                match post.is_gone() {
                    Ok(false) => {}
                    Ok(true) => {
                        post.detach(chapter)?;
                        tell(Told::RunEnded(store));
                        return Ok(Recorded::Gone);
                    }
                    // Nothing is taken away for that.
                    Err(error) => tracing::error!(%error, "its policy stays in force"),
                }
                if chapter.is_long()? {
                    let (next, done) = post.reload(chapter, Which::Kept, tell);
                    chapter = next?;
                    match done {
                        Ok(()) => tell(Told::RunEnded(store.clone())),
                        Err(error) => {
                            tracing::error!(%error, "the run goes on: no other can begin");
                            chapter.goes_on();
                        }
                    }
                }
            }
        }
    }
}

/// A way to ask who records a cgroup, and its other end.
pub(super) fn requests() -> (mpsc::Sender<Asked>, mpsc::Receiver<Asked>) {
    mpsc::channel(1)
}

fn answer_of(outcome: Result<&(), &RunError>) -> Answer {
    match outcome {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Refused(error.to_string()),
    }
}

/// Gives an attached cgroup another policy, or the same from its file anew.
pub fn reload(name: &str, manifest: Option<&Path>) -> Result<(), RunError> {
    let manifest = manifest.map(std::path::absolute).transpose();
    let manifest = manifest.map_err(RunError::process("find the manifest"))?;
    let registry = Registry::lock()?;
    let folder = match registry.claim(name)? {
        Claim::Taken => registry.folder_of(name)?,
        Claim::Absent => return Err(nothing_attached(name)),
        Claim::Free(_) => {
            return Err(RunError::attachment(
                format!("nobody records {name}, so nobody can change its policy"),
                format!(
                    "start `skillsandbox attach --name {name} --manifest FILE`: it goes on with that policy"
                ),
            ));
        }
    };
    // Whoever is asked takes it, too.
    drop(registry);
    let answer = control::ask(&folder, &Request::Reload { manifest });
    done(name, answer)
}

/// Takes the policy of an attached cgroup away, and completes its record.
pub fn detach(name: &str) -> Result<(), RunError> {
    let registry = Registry::lock()?;
    match registry.claim(name)? {
        Claim::Taken => {
            let folder = registry.folder_of(name)?;
            drop(registry);
            done(name, control::ask(&folder, &Request::Detach))
        }
        Claim::Free(place) => end::detach_left(&registry, place),
        Claim::Absent => end::detach_remains(&registry, name),
    }
}

fn done(name: &str, answer: std::io::Result<Answer>) -> Result<(), RunError> {
    match answer {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Refused(why)) => Err(RunError::attachment(
            why,
            format!("{name} has the policy that it had"),
        )),
        Err(error) => Err(RunError::attachment(
            format!("the process that records {name} does not answer: {error}"),
            "look with `skillsandbox ps` whether it is still there, and try again",
        )),
    }
}

fn nothing_attached(name: &str) -> RunError {
    RunError::attachment(
        format!("no cgroup is attached under the name {name}"),
        "`skillsandbox ps` lists those that are",
    )
}
