//! Work on all processors whose results come in order.

use std::{
    io,
    num::NonZero,
    sync::{
        Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

/// Results of a job that may wait for those of earlier ones.
const WAITING: usize = 2;

/// Does the jobs, and takes what each tells, those of the first job first. A job that is told an error has nobody
/// to tell any more, and should end.
pub(super) fn in_order<J: Sync, T: Send>(
    jobs: &[J],
    work: impl Fn(&J, &mut dyn FnMut(T) -> io::Result<()>) + Sync,
    mut take: impl FnMut(&J, T) -> io::Result<()>,
) -> io::Result<()> {
    let (senders, receivers): (Vec<SyncSender<T>>, Vec<_>) =
        jobs.iter().map(|_| sync_channel(WAITING)).unzip();
    // Whoever waits for room has a job before those that nobody has begun.
    let next = Mutex::new(jobs.iter().zip(senders));
    let worker = || {
        let _jobs = Abandon(&next);
        loop {
            let job = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((job, sender)) = job else { return };
            work(job, &mut |told| {
                let sent = sender.send(told);
                sent.map_err(|_gone| io::ErrorKind::BrokenPipe.into())
            });
        }
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers.min(jobs.len()) {
            scope.spawn(worker);
        }
        for (job, told) in jobs.iter().zip(receivers) {
            for one in told {
                take(job, one)?;
            }
        }
        Ok(())
    })
}

/// Lets go of the jobs that nobody has begun when a worker panics: who takes the results would wait for theirs.
struct Abandon<'n, J: Iterator>(&'n Mutex<J>);

impl<J: Iterator> Drop for Abandon<'_, J> {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            next.by_ref().for_each(drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_told_comes_in_the_order_of_the_jobs() {
        let jobs: Vec<u64> = (0..40).collect();
        let mut taken = Vec::new();
        let work = |job: &u64, tell: &mut dyn FnMut(u64) -> io::Result<()>| {
            // The first are the slowest.
            thread::sleep(Duration::from_millis(10_u64.saturating_sub(*job)));
            for of_it in 0..5 {
                tell(job * 5 + of_it).unwrap();
            }
        };
        let done = in_order(&jobs, work, |job, told| {
            assert_eq!(told / 5, *job);
            taken.push(told);
            Ok(())
        });
        done.unwrap();
        assert_eq!(taken, (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn who_is_not_listened_to_is_told() {
        let work = |(): &(), tell: &mut dyn FnMut(()) -> io::Result<()>| while tell(()).is_ok() {};
        let done = in_order(&[(); 9], work, |(), ()| Err(io::Error::other("enough")));
        assert_eq!(done.unwrap_err().to_string(), "enough");
    }

    #[test]
    fn who_waits_for_jobs_that_panic_waits_no_longer() {
        let (tell, told) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let work =
                |(): &(), _: &mut dyn FnMut(()) -> io::Result<()>| panic!("it is meant to panic");
            // More than there are processors anywhere.
            let done = std::panic::catch_unwind(|| in_order(&[(); 9999], work, |(), ()| Ok(())));
            tell.send(done.is_err())
        });
        assert_eq!(told.recv_timeout(Duration::from_mins(1)), Ok(true));
    }
}
