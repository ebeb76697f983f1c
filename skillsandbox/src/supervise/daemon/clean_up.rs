//! Takes away what is attached by a policy that is there no more.

use std::time::{Duration, Instant};

use super::{
    Daemon, Said,
    policies::{self, Policies},
};
use crate::supervise::{
    attach::{Standing, detach, list},
    error::RunError,
};

/// How long nobody is served meanwhile; the next look goes on with it.
const DETACH_FOR: Duration = Duration::from_secs(1);

impl Daemon {
    /// Detaches what neither the last look nor this one found a policy for, if there may be something.
    pub(super) fn clean_up(&mut self, policies: &Policies) {
        if !self.may_be_left {
            return;
        }
        let looks = [&self.last, policies];
        let (all, undetached) = match self.detach_what_nobody_wants(&looks, DETACH_FOR) {
            Ok(all) => (all, None),
            Err(error) => (false, Some(error.to_string())),
        };
        self.may_be_left = !all;
        if let Some(why) = &undetached
            && self.undetached != undetached
        {
            tracing::error!("what nobody wants any more may stay in force: {why}");
        }
        self.undetached = undetached;
    }

    /// Detaches what is attached by a policy that none of these looks found, and that no task of ours has: an earlier
    /// daemon's, or of a task that failed. Whether it came to the end of them in that time; of those that cannot be detached,
    /// why the last cannot.
    pub(super) fn detach_what_nobody_wants(
        &self,
        looks: &[&Policies],
        time: Duration,
    ) -> Result<bool, RunError> {
        let started = Instant::now();
        let mut failed = None;
        for listed in list()? {
            let Some(file) = policies::file_of(&self.request.policies, &listed) else {
                continue;
            };
            let left = listed.state != Standing::Recorded;
            let unwanted = looks.iter().all(|look| {
                let wanted = look.wanted.get(&listed.name);
                // One that cannot be read keeps what it had.
                wanted.is_none_or(|wanted| Some(&wanted.place) != listed.cgroup.as_ref())
                    && !look.troubles.contains_key(&file)
            });
            if !(left && unwanted) {
                continue;
            }
            if started.elapsed() > time {
                return Ok(false);
            }
            // The others go, whatever becomes of this one.
            match detach(&listed.name) {
                Ok(()) => {
                    tracing::info!(name = listed.name, "detached: no policy is for it any more");
                }
                Err(error) => failed = Some(error),
            }
            (self.tell)(Said::Detaching);
        }
        failed.map_or(Ok(true), Err)
    }
}
