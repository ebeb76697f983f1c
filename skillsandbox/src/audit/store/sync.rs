//! Has the disk have what was written, on a few threads for all logs of a process: nobody waits for a disk who takes events, and
//! a thousand logs are not a thousand threads.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::setpriority_process;

/// How long what was written may lie in memory. Denials do not.
const INTERVAL: Duration = Duration::from_secs(1);
/// A file system serves those who wait at the same time together.
const THREADS_MAX: usize = 16;
/// How long a thread that has nothing to do stays. One stays for as long as there are files.
const STAY: Duration = Duration::from_secs(10);

/// Of all logs of this process.
pub(super) static DISK: Disk = Disk::new(INTERVAL);

pub(super) struct Disk {
    interval: Duration,
    queue: Mutex<Queue>,
    /// Something is due earlier than it was.
    earlier: Condvar,
    /// A file is no longer being synced.
    synced: Condvar,
}

struct Queue {
    /// Files that there were, and that there are.
    numbers: u64,
    files: usize,
    /// By when it is due, and the number of the file.
    due: BTreeMap<(Instant, u64), Arc<Written>>,
    /// The files that are being synced.
    busy: BTreeSet<u64>,
    threads: usize,
    /// Those of them that wait.
    idle: usize,
}

/// How a file is synced.
type Syncing = dyn Fn(&File) -> io::Result<()> + Send + Sync;

/// A file that was written to.
struct Written {
    number: u64,
    file: Arc<File>,
    sync: Box<Syncing>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    due: Option<Instant>,
    failed: Option<io::Error>,
}

impl Disk {
    pub(super) const fn new(interval: Duration) -> Self {
        Self {
            interval,
            queue: Mutex::new(Queue {
                numbers: 0,
                files: 0,
                due: BTreeMap::new(),
                busy: BTreeSet::new(),
                threads: 0,
                idle: 0,
            }),
            earlier: Condvar::new(),
            synced: Condvar::new(),
        }
    }

    /// A file that is to be synced like this after something was written to it.
    pub(super) fn add(
        &'static self,
        file: Arc<File>,
        sync: impl Fn(&File) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Synced> {
        let mut queue = lock(&self.queue);
        if queue.threads == 0 {
            self.start_thread(&mut queue)?;
        }
        queue.files += 1;
        queue.numbers += 1;
        let written = Arc::new(Written {
            number: queue.numbers,
            file,
            sync: Box::new(sync),
            state: Mutex::default(),
        });
        Ok(Synced {
            disk: self,
            written,
        })
    }

    fn start_thread(&'static self, queue: &mut Queue) -> io::Result<()> {
        let thread = thread::Builder::new().name("audit sync".to_owned());
        thread.spawn(|| self.serve())?;
        queue.threads += 1;
        Ok(())
    }

    /// Has one more thread look, if something is due now or later. Where there can be no more, it waits for those there are.
    fn have_another(&'static self, queue: &mut Queue) {
        if queue.next().is_none() {
            return;
        }
        if queue.idle > 0 {
            self.earlier.notify_one();
        } else if queue.threads < THREADS_MAX {
            let _there_is_one = self.start_thread(queue);
        }
    }

    /// Syncs what is due, until there has been nothing for a while.
    fn serve(&'static self) {
        // Whoever started it may have another, which threads inherit.
        let _as_it_is = setpriority_process(None, 0);
        let mut queue = lock(&self.queue);
        let mut used = Instant::now();
        loop {
            let now = Instant::now();
            let next = queue.next();
            if let Some(written) = queue.take(next.filter(|(due, _)| *due <= now)) {
                self.have_another(&mut queue);
                drop(queue);
                let failed = (written.sync)(&written.file).err();
                queue = lock(&self.queue);
                if failed.is_some() {
                    lock(&written.state).failed = failed;
                }
                queue.busy.remove(&written.number);
                self.synced.notify_all();
                used = Instant::now();
                continue;
            }
            if used.elapsed() >= STAY && (queue.idle > 0 || queue.files == 0) {
                queue.threads -= 1;
                // What this was woken for, another looks at.
                self.earlier.notify_one();
                return;
            }
            queue.idle += 1;
            let time = next.map_or(STAY, |(due, _)| due.saturating_duration_since(now));
            let (woken, _) = self
                .earlier
                .wait_timeout(queue, time)
                .unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            queue.idle -= 1;
        }
    }
}

impl Queue {
    /// When the first is due that is not being synced, and which that is.
    fn next(&self) -> Option<(Instant, u64)> {
        let mut due = self.due.keys().copied();
        due.find(|(_, number)| !self.busy.contains(number))
    }

    /// This one, which is being synced from now on.
    fn take(&mut self, next: Option<(Instant, u64)>) -> Option<Arc<Written>> {
        let written = self.due.remove(&next?)?;
        lock(&written.state).due = None;
        self.busy.insert(written.number);
        Some(written)
    }
}

/// A file, for as long as it is written to.
pub(super) struct Synced {
    disk: &'static Disk,
    written: Arc<Written>,
}

impl Synced {
    /// Something was written, which must not wait for the time to come if it is urgent. Says what went wrong since the last
    /// time: the kernel says so once, and what was written since then may be lost.
    pub(super) fn written(&self, urgent: bool) -> io::Result<()> {
        let mut queue = lock(&self.disk.queue);
        let mut state = lock(&self.written.state);
        state.failed.take().map_or(Ok(()), Err)?;
        let now = Instant::now();
        let due = if urgent {
            now
        } else {
            now + self.disk.interval
        };
        let key = (due, self.written.number);
        let is_later = state.due.is_some_and(|earlier| earlier <= due);
        if !is_later && let Some(later) = state.due.replace(due) {
            queue.due.remove(&(later, self.written.number));
        }
        drop(state);
        if !is_later {
            queue.due.insert(key, Arc::clone(&self.written));
        }
        if queue.idle == 0 || queue.next() == Some(key) {
            self.disk.have_another(&mut queue);
        }
        Ok(())
    }

    /// Nothing is synced any more, and nobody holds the file for that. Says what went wrong since the last time.
    pub(super) fn settle(&self) -> io::Result<()> {
        let mut queue = lock(&self.disk.queue);
        if let Some(due) = lock(&self.written.state).due.take() {
            queue.due.remove(&(due, self.written.number));
        }
        while queue.busy.contains(&self.written.number) {
            let synced = self.disk.synced.wait(queue);
            queue = synced.unwrap_or_else(PoisonError::into_inner);
        }
        let failed = lock(&self.written.state).failed.take();
        failed.map_or(Ok(()), Err)
    }
}

impl Drop for Synced {
    fn drop(&mut self) {
        let _said_by_nobody = self.settle();
        lock(&self.disk.queue).files -= 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    const NEVER: Duration = Duration::from_hours(24);
    const PATIENCE: Duration = Duration::from_mins(1);

    fn disk(interval: Duration) -> &'static Disk {
        Box::leak(Box::new(Disk::new(interval)))
    }

    fn file() -> Arc<File> {
        Arc::new(File::open("/dev/null").unwrap())
    }

    /// A file whose every sync says so, and ends when it is told how.
    fn slow(disk: &'static Disk) -> (Synced, Receiver<()>, Sender<io::Result<()>>) {
        let ((begun, begins), (tell, told)) = (mpsc::channel(), mpsc::channel());
        let told = Mutex::new(told);
        let sync = move |_: &File| {
            let _over = begun.send(());
            let told = lock(&told).recv_timeout(PATIENCE);
            told.unwrap_or_else(|error| Err(io::Error::other(error)))
        };
        (disk.add(file(), sync).unwrap(), begins, tell)
    }

    #[test]
    fn what_is_written_is_synced_in_time_and_as_long_as_nothing_is_written_never() {
        let disk = disk(Duration::from_millis(500));
        let (one, begins, tell) = slow(disk);
        let (_other, never, _) = slow(disk);
        one.written(false).unwrap();
        one.written(false).unwrap();
        begins.recv_timeout(PATIENCE).expect("in time");
        tell.send(Ok(())).unwrap();
        one.settle().unwrap();
        assert!(begins.try_recv().is_err(), "once for what came before");
        assert!(never.try_recv().is_err());
    }

    #[test]
    fn what_is_urgent_does_not_wait_for_the_time_to_come() {
        let disk = disk(NEVER);
        let (other, never, _) = slow(disk);
        let (one, begins, tell) = slow(disk);
        other.written(false).unwrap();
        one.written(false).unwrap();
        one.written(true).unwrap();
        begins.recv_timeout(PATIENCE).expect("at once");
        tell.send(Ok(())).unwrap();
        drop(one);
        assert!(never.try_recv().is_err());
    }

    #[test]
    fn nobody_waits_for_the_syncs_of_others() {
        let disk = disk(NEVER);
        let files: Vec<_> = (0..THREADS_MAX).map(|_| slow(disk)).collect();
        for (file, ..) in &files {
            file.written(true).unwrap();
        }
        for (_, begins, _) in &files {
            begins.recv_timeout(PATIENCE).expect("beside the others");
        }
        let (one_more, begins, tell) = slow(disk);
        one_more.written(true).unwrap();
        assert!(begins.try_recv().is_err(), "there are no more threads");
        for (_, _, tell) in &files {
            tell.send(Ok(())).unwrap();
        }
        begins.recv_timeout(PATIENCE).expect("after one of them");
        tell.send(Ok(())).unwrap();
    }

    #[test]
    fn what_is_due_later_does_not_wait_for_the_syncs_of_others_either() {
        let disk = disk(Duration::from_millis(500));
        let (later, begins, tell) = slow(disk);
        later.written(false).unwrap();
        let (urgent, urgent_begins, tell_urgent) = slow(disk);
        urgent.written(true).unwrap();
        urgent_begins.recv_timeout(PATIENCE).expect("at once");
        begins.recv_timeout(PATIENCE).expect("in time");
        tell.send(Ok(())).unwrap();
        tell_urgent.send(Ok(())).unwrap();
    }

    #[test]
    fn a_file_is_not_synced_twice_at_once_and_what_is_written_meanwhile_is_synced_after() {
        let disk = disk(NEVER);
        let (one, begins, tell) = slow(disk);
        one.written(true).unwrap();
        begins.recv_timeout(PATIENCE).expect("at once");
        one.written(true).unwrap();
        let (other, begins_too, tell_too) = slow(disk);
        other.written(true).unwrap();
        begins_too.recv_timeout(PATIENCE).expect("beside the first");
        tell_too.send(Ok(())).unwrap();
        other.settle().unwrap();
        assert!(begins.try_recv().is_err());
        tell.send(Ok(())).unwrap();
        begins.recv_timeout(PATIENCE).expect("again");
        tell.send(Ok(())).unwrap();
    }

    #[test]
    fn a_failure_is_said_once_at_the_next_word() {
        let disk = disk(NEVER);
        let (one, begins, tell) = slow(disk);
        one.written(true).unwrap();
        begins.recv_timeout(PATIENCE).expect("at once");
        tell.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        assert_eq!(one.settle().unwrap_err().kind(), io::ErrorKind::StorageFull);
        one.settle().unwrap();
        one.written(true).unwrap();
        begins.recv_timeout(PATIENCE).expect("at once");
        tell.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        let failed = || one.written(false).is_err();
        while !failed() {
            thread::yield_now();
        }
        assert!(!failed());
    }

    #[test]
    fn nobody_holds_a_file_that_is_settled() {
        let disk = disk(NEVER);
        let file = file();
        let one = disk.add(Arc::clone(&file), |_| Ok(())).unwrap();
        one.written(false).unwrap();
        drop(one);
        assert_eq!(Arc::strong_count(&file), 1);
        let (begun, begins) = mpsc::channel();
        let sync = move |_: &File| {
            begun.send(()).map_err(io::Error::other)?;
            thread::sleep(Duration::from_millis(50));
            Ok(())
        };
        let one = disk.add(Arc::clone(&file), sync).unwrap();
        one.written(true).unwrap();
        begins.recv_timeout(PATIENCE).expect("at once");
        drop(one);
        assert_eq!(Arc::strong_count(&file), 1);
    }
}
