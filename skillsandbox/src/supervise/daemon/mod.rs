//! Keeps the policies of a host attached: those of files in a folder, to the cgroups that they are for, now and when such a
//! cgroup comes. What it attached stays in force when it ends, and it goes on with it when it starts again.

mod clean_up;
mod policies;

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinSet, LocalSet},
    time::{MissedTickBehavior, interval},
};

use super::{
    attach::{Answer, Asked, AttachRequest, Recorded, Request, Told, record, requests},
    error::RunError,
    interruptions::Interruptions,
    service::Door,
};
use crate::isolate::cgroup::Hierarchy;
use policies::{Files, Policies, Wanted};

/// How often policies and cgroups are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long it takes until something that failed is tried again: ever longer.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
const AGAIN_AT_MOST: Duration = Duration::from_mins(1);

/// What the daemon does.
#[derive(Clone, Debug)]
pub struct DaemonRequest {
    /// The folder of policies.
    pub policies: PathBuf,
    /// Where records are kept.
    pub store: PathBuf,
    /// Where it is asked for runs.
    pub socket: PathBuf,
    /// Whose members may ask, beside root.
    pub group: String,
    /// Attach where nothing decides on files and programs, too.
    pub accept_fallback: bool,
    /// Whom name servers ask; this host's own resolvers if there is none.
    pub resolvers: Vec<SocketAddr>,
}

/// What is said while it runs.
#[derive(Clone, Debug)]
pub enum Said {
    /// Of an attached cgroup, by its name.
    Of(String, Told),
    /// It has detached something that nobody wants any more, or tried to: that takes its time.
    Detaching,
    /// Everything that is there has been looked at: so many cgroups are attached, and so many could not be.
    Ready(usize, usize),
    /// It goes on: so many are attached, so many could not be.
    Alive(usize, usize),
    /// It ends. Policies stay in force.
    Ends,
}

type Tell = Arc<dyn Fn(Said) + Send + Sync>;

/// Keeps policies attached until a signal ends that.
pub async fn daemon(request: DaemonRequest, tell: Tell) -> Result<(), RunError> {
    LocalSet::new()
        .run_until(Daemon::new(request, tell)?.run())
        .await
}

struct Daemon {
    request: DaemonRequest,
    tell: Tell,
    hierarchy: Hierarchy,
    kept: HashMap<String, Kept>,
    failed: HashMap<String, Failure>,
    tasks: JoinSet<(String, Result<Recorded, RunError>)>,
    leaving: watch::Sender<bool>,
    files: Files,
    /// What the last look found.
    last: Policies,
    /// Whether something may be attached since that nobody wants and no task has.
    may_be_left: bool,
    /// What was said of the folder, which could not be looked at.
    trouble: Option<String>,
    /// What was said of what could not be detached.
    undetached: Option<String>,
}

/// A cgroup that a task attaches and records, until it is known that the task has ended.
struct Kept {
    wanted: Wanted,
    asks: mpsc::Sender<Asked>,
    standing: Standing,
    /// Set by the task when the policy is in force.
    in_force: Arc<AtomicBool>,
}

/// How it is with a cgroup that a task has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its policy is to be held.
    Wanted,
    /// No policy was for it when it was last looked. A file may be about to come back: an editor takes it away and
    /// makes it anew.
    Missed,
    /// Its task was asked to detach it.
    Leaving,
}

impl Kept {
    fn is_in_force(&self) -> bool {
        self.in_force.load(Ordering::Relaxed)
    }
}

/// One that could not be attached.
struct Failure {
    again: Instant,
    wait: Duration,
}

impl Daemon {
    fn new(request: DaemonRequest, tell: Tell) -> Result<Self, RunError> {
        Ok(Self {
            request,
            tell,
            hierarchy: Hierarchy::find()?,
            kept: HashMap::new(),
            failed: HashMap::new(),
            tasks: JoinSet::new(),
            leaving: watch::Sender::new(false),
            files: Files::default(),
            last: Policies::default(),
            may_be_left: true,
            trouble: None,
            undetached: None,
        })
    }

    async fn run(mut self) -> Result<(), RunError> {
        let mut interruptions = Interruptions::listen()?;
        let DaemonRequest {
            socket,
            store,
            resolvers,
            group,
            ..
        } = &self.request;
        // Where another daemon serves, everything stays as it is.
        let mut door = Door::open(socket, store, resolvers, group)?;
        let policies = self.policies()?;
        self.detach_what_nobody_wants(&[&policies], Duration::MAX)?;
        self.keep(policies);
        while self.kept.values().any(|kept| !kept.is_in_force()) {
            tokio::task::yield_now().await;
            while let Some(ended) = self.tasks.try_join_next() {
                self.ended(ended);
            }
        }
        let (attached, failed) = self.numbers();
        (self.tell)(Said::Ready(attached, failed));
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                number = interruptions.next() => {
                    // Whoever changes policies may ask for a look at once.
                    if number == libc::SIGHUP {
                        look.reset_immediately();
                        continue;
                    }
                    break;
                }
                Some(ended) = self.tasks.join_next() => self.ended(ended),
                () = door.next() => {}
                _ = look.tick() => {
                    self.look();
                    let (attached, failed) = self.numbers();
                    (self.tell)(Said::Alive(attached, failed));
                }
            }
        }
        (self.tell)(Said::Ends);
        self.leaving.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            self.ended(ended);
        }
        Ok(())
    }

    /// How many have their policy, and how many could not be attached.
    fn numbers(&self) -> (usize, usize) {
        let attached = self.kept.values().filter(|kept| kept.is_in_force());
        (attached.count(), self.failed.len())
    }

    fn look(&mut self) {
        match self.policies() {
            Ok(policies) => {
                self.trouble = None;
                self.clean_up(&policies);
                self.keep(policies);
            }
            // What is in force stays.
            Err(error) => {
                let trouble = error.to_string();
                if self.trouble.as_ref() != Some(&trouble) {
                    tracing::error!("nothing changes until this is mended: {trouble}");
                    self.trouble = Some(trouble);
                }
            }
        }
    }

    fn policies(&mut self) -> Result<Policies, RunError> {
        let folder = &self.request.policies;
        policies::read(&mut self.files, folder, &self.hierarchy)
            .map_err(|error| RunError::state("read the policies in", folder, error))
    }

    /// Has every policy attached, and no other.
    fn keep(&mut self, policies: Policies) {
        for (file, why) in &policies.troubles {
            if self.last.troubles.get(file) != Some(why) {
                let file = file.display();
                tracing::error!(%file, "a policy cannot be taken, and what it had attached stays as it is: {why}");
            }
        }
        for (name, kept) in &mut self.kept {
            let wanted = policies.wanted.get(name);
            let stays = wanted.is_some_and(|wanted| wanted.place == kept.wanted.place)
                || policies.troubles.contains_key(&kept.wanted.file);
            kept.standing = match (stays, kept.standing) {
                (_, Standing::Leaving) => Standing::Leaving,
                (true, _) => Standing::Wanted,
                (false, Standing::Wanted) => Standing::Missed,
                (false, Standing::Missed) => {
                    // Of one whose cgroup is gone the task ends by itself as well, and completes its record.
                    ask(name, &kept.asks, Request::Detach);
                    Standing::Leaving
                }
            };
        }
        let kept = &self.kept;
        self.failed.retain(|name, _| {
            policies.wanted.contains_key(name) && !kept.get(name).is_some_and(Kept::is_in_force)
        });
        for (name, wanted) in &policies.wanted {
            match self.kept.get_mut(name) {
                None => self.attach(name.clone(), wanted.clone()),
                Some(kept) if kept.standing == Standing::Wanted && kept.wanted != *wanted => {
                    let manifest = Some(wanted.file.clone());
                    ask(name, &kept.asks, Request::Reload { manifest });
                    kept.wanted = wanted.clone();
                }
                Some(_) => {}
            }
        }
        self.may_be_left |= self.last != policies;
        self.last = policies;
    }

    fn attach(&mut self, name: String, wanted: Wanted) {
        let now = Instant::now();
        if self
            .failed
            .get(&name)
            .is_some_and(|failure| failure.again > now)
        {
            return;
        }
        let request = AttachRequest {
            name: name.clone(),
            cgroup: Some(wanted.place.clone()),
            manifest: Some(wanted.file.clone()),
            store: self.request.store.clone(),
            mode: None,
            accept_fallback: self.request.accept_fallback,
            resolvers: self.request.resolvers.clone(),
            watch: false,
        };
        let (asks, asked) = requests();
        let in_force = Arc::new(AtomicBool::new(false));
        let kept = Kept {
            wanted,
            asks: asks.clone(),
            standing: Standing::Wanted,
            in_force: Arc::clone(&in_force),
        };
        self.kept.insert(name.clone(), kept);
        let (tell, mut leaving) = (Arc::clone(&self.tell), self.leaving.subscribe());
        self.tasks.spawn_local(async move {
            let of = name.clone();
            let say = move |told| {
                if matches!(told, Told::InForce(..)) {
                    in_force.store(true, Ordering::Relaxed);
                }
                tell(Said::Of(of.clone(), told));
            };
            let left = async {
                // Nobody to say so is the same.
                let _gone = leaving.wait_for(|leaves| *leaves).await;
            };
            let recorded = record(&request, &say, (asks, asked), left).await;
            (name, recorded)
        });
    }

    fn ended(
        &mut self,
        ended: Result<(String, Result<Recorded, RunError>), tokio::task::JoinError>,
    ) {
        let (name, recorded) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "a recorder ended by a fault of ours: its policy stays in force");
                // It has let go of its end.
                self.may_be_left = true;
                self.kept.retain(|_, kept| !kept.asks.is_closed());
                return;
            }
        };
        self.kept.remove(&name);
        self.may_be_left = true;
        match recorded {
            Ok(Recorded::Left | Recorded::Detached | Recorded::Gone) => {
                self.failed.remove(&name);
                return;
            }
            Ok(Recorded::Failed) => {
                tracing::error!(name, "its records cannot be kept: they wait on the rings");
            }
            Err(error) => tracing::error!(name, %error, "it is not attached, or not recorded"),
        }
        let last = self.failed.get(&name).map(|failure| failure.wait);
        let wait = last.map_or(AGAIN_AFTER, |last| (last * 2).min(AGAIN_AT_MOST));
        let again = Instant::now() + wait;
        self.failed.insert(name, Failure { again, wait });
    }
}

/// Asks the task of a cgroup, and logs what comes of it.
fn ask(name: &str, asks: &mpsc::Sender<Asked>, request: Request) {
    let (name, asks) = (name.to_owned(), asks.clone());
    tokio::task::spawn_local(async move {
        let what = match request {
            Request::Reload { .. } => "another policy",
            Request::Detach => "its end",
        };
        let (asked, mut waiting) = Asked::new(request);
        // A task that ends has said why.
        let _ends = asks.send(asked).await;
        match (&mut waiting.answered).await {
            Ok(Answer::Refused(why)) => tracing::error!(name, "{what} is refused: {why}"),
            Ok(Answer::Done) => tracing::info!(name, "{what}: done"),
            Err(_ends) => {}
        }
    });
}
