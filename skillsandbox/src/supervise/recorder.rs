//! Takes events off the rings, on a thread of its own, for as long as the sandbox lives.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::setpriority_process,
};
use skillsandbox_common::{header::EventPrefix, slot::FOLDS_MAX};
use tokio::sync::mpsc as async_mpsc;
use zerocopy::FromBytes;

use super::{
    error::RunError,
    judge::ByRules,
    outbox::{Message, Outbox},
};
use crate::{
    audit::{
        clock::Clock,
        collect::{Collector, Resumed, SinkError},
        counts::Summary,
        describe::{Judge, Knowledge, Names, RuleText},
        record::{Ending, Note, Running},
        repeat::Like,
        sink::Sink,
    },
    dns::Grants,
    kernel::{Attached, Drained, KernelError, Rings},
};

/// Events taken before the ring of denials is looked at again.
const BATCH: usize = 8192;
/// How long an event that was allowed may lie on a ring that is not half full; and in an attached cgroup, where its ring
/// outlives its recorder, when none has come for a while. Who looks a hundred times a second in each of a thousand takes a
/// processor.
const LATENCY: Duration = Duration::from_millis(10);
const LATENCY_IDLE: Duration = Duration::from_millis(250);
/// Of this thread alone (`setpriority(2)`): a ring that fills while the skill runs loses events, so the skill
/// waits for whoever empties it.
const NICE: i32 = -10;
/// How often losses are looked for; and there when nothing has come for a while.
const COUNTERS_EVERY: Duration = Duration::from_secs(1);
const COUNTERS_EVERY_IDLE: Duration = Duration::from_secs(5);

/// What the recorder knows of its sandbox.
pub(super) struct About {
    pub(super) sandbox: String,
    pub(super) clock: Clock,
    /// The rules that numbers are about: 1 comes first.
    pub(super) rules: Vec<RuleText>,
    /// What judges calls that were seen after the fact, where it is not their result alone.
    pub(super) judge: Option<ByRules>,
    pub(super) names: Arc<Grants>,
    /// Where an earlier recorder of the same run ended.
    pub(super) resumed: Option<Resumed>,
    /// Whether the run goes on when its recorder does not: then it leaves, with everything still on the rings, when
    /// something cannot be kept, and nobody but who says so ends the record.
    pub(super) outlives_recorder: bool,
    /// Debug messages of the eBPF programs.
    #[cfg(feature = "bpf-log")]
    pub(super) log: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
}

/// What a recorder has come to.
pub(super) struct Finished {
    pub(super) summary: Summary,
    /// What is still running, as far as that is known.
    pub(super) running: Vec<Running>,
}

/// The thread.
pub(super) struct Recorder {
    outbox: Outbox,
    thread: JoinHandle<Result<Option<Finished>, KernelError>>,
}

impl Recorder {
    /// Starts it. It says at once when something asked for can no longer be written, and lets go of `failed` when it ends,
    /// of whatever.
    pub(super) fn start(
        about: About,
        rings: Rings,
        attached: Arc<Attached>,
        sinks: Vec<(&'static str, Box<dyn Sink>)>,
        failed: async_mpsc::Sender<()>,
    ) -> Result<Self, RunError> {
        let mut failures = Failures {
            tell: failed,
            any: false,
            end_it: about.outlives_recorder,
        };
        let (outbox, inbox, woken) =
            Outbox::new().map_err(RunError::process("start the recorder"))?;
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || {
                // Who may not have that is served when it is due.
                let _as_it_is = setpriority_process(None, NICE);
                record(
                    about,
                    rings,
                    &attached,
                    sinks,
                    (&inbox, &woken),
                    &mut failures,
                )
            })
            .map_err(RunError::process("start the recorder"))?;
        Ok(Self { outbox, thread })
    }

    /// Puts something that userspace has to say on record.
    pub(super) fn note(&self, note: Note) {
        self.outbox.send(Message::Note(Box::new(note)));
    }

    /// The same where that can be done at once; gives it back where too much is waiting.
    pub(super) fn offer(&self, note: Box<Note>) -> Result<(), Box<Note>> {
        match self.outbox.offer(Message::Note(note)) {
            Err(Message::Note(note)) => Err(note),
            _ => Ok(()),
        }
    }

    /// A way for another thread to do the same.
    pub(super) fn noting(&self) -> impl Fn(Note) + Send + Sync + 'static {
        let outbox = self.outbox.clone();
        move |note| outbox.send(Message::Note(Box::new(note)))
    }

    /// Takes what is left on the rings and closes the record. Nothing may run in the sandbox.
    pub(super) fn finish(self, ending: Ending) -> Result<Finished, RunError> {
        self.outbox.send(Message::End(Box::new(ending)));
        let failed = |why| RunError::process("record events")(io::Error::other(why));
        let finished = self.joined()?;
        finished.ok_or_else(|| failed("it left when something could not be kept"))
    }

    /// Takes what is on the rings and leaves the record open, for the next recorder.
    pub(super) fn leave(self) -> Result<(), RunError> {
        self.outbox.send(Message::Leave);
        self.joined().map(drop)
    }

    fn joined(self) -> Result<Option<Finished>, RunError> {
        match self.thread.join() {
            Ok(finished) => Ok(finished?),
            Err(_panic) => Err(RunError::process("record events")(io::Error::other(
                "it panicked",
            ))),
        }
    }
}

fn record(
    mut about: About,
    mut rings: Rings,
    attached: &Attached,
    sinks: Vec<(&'static str, Box<dyn Sink>)>,
    (inbox, wake): (&mpsc::Receiver<Message>, &OwnedFd),
    failures: &mut Failures,
) -> Result<Option<Finished>, KernelError> {
    #[cfg(feature = "bpf-log")]
    let mut program_log = about.log.take();
    let knowledge = Knowledge {
        sandbox: about.sandbox.clone(),
        clock: about.clock,
        rules: &about.rules,
        names: Some(&*about.names as &dyn Names),
        judge: about.judge.as_ref().map(|judge| judge as &dyn Judge),
    };
    let mut collector = match about.resumed.take() {
        Some(resumed) => Collector::resume(knowledge, resumed),
        None => Collector::new(knowledge),
    };
    for (name, sink) in sinks {
        collector.add(name, sink);
    }
    let mut counted = Instant::now();
    let mut latency = LATENCY;
    let longest = if about.outlives_recorder {
        LATENCY_IDLE
    } else {
        LATENCY
    };
    loop {
        #[cfg(feature = "bpf-log")]
        if let Some(log) = &mut program_log {
            log.flush();
        }
        if failures.end_the_recorder() {
            return Ok(None);
        }
        let ending = match inbox.try_recv() {
            Ok(Message::Note(note)) => {
                take(&mut rings, &mut collector, failures);
                failures.report(collector.note(&note));
                continue;
            }
            Ok(Message::End(ending)) => Some(ending),
            Err(mpsc::TryRecvError::Empty) => None,
            // Whoever had it gave up without a word: of a run that goes on that says nothing.
            Err(mpsc::TryRecvError::Disconnected) if !about.outlives_recorder => {
                Some(Box::default())
            }
            Ok(Message::Leave) | Err(mpsc::TryRecvError::Disconnected) => {
                while take(&mut rings, &mut collector, failures).more {}
                return Ok(None);
            }
        };
        if let Some(ending) = ending {
            while take(&mut rings, &mut collector, failures).any {}
            if failures.end_the_recorder() {
                return Ok(None);
            }
            repeats(&mut rings, &mut collector, failures)?;
            collector.skipped(attached.skipped()?);
            let running = collector.running();
            let (summary, errors) = collector.finish(&attached.counters()?, *ending);
            for error in errors {
                failures.report(Err(error));
            }
            return Ok(Some(Finished { summary, running }));
        }
        let taken = take(&mut rings, &mut collector, failures);
        latency = if taken.any {
            LATENCY
        } else {
            (latency * 2).min(longest)
        };
        if !taken.more {
            wait(&rings, wake, latency);
        }
        let every = if latency < LATENCY_IDLE {
            COUNTERS_EVERY
        } else {
            COUNTERS_EVERY_IDLE
        };
        if counted.elapsed() > every {
            counted = Instant::now();
            repeats(&mut rings, &mut collector, failures)?;
            collector.skipped(attached.skipped()?);
            failures.report(collector.counters(&attached.counters()?));
        }
    }
}

/// What was taken off the rings.
struct Taken {
    any: bool,
    /// Whether there is more that must not wait.
    more: bool,
}

fn take(rings: &mut Rings, collector: &mut Collector<'_>, failures: &mut Failures) -> Taken {
    let first = drain(rings, collector, failures);
    let mut taken = Taken {
        any: first.events + first.denials > 0,
        more: first.events == BATCH,
    };
    if !rings.are_several() {
        collector.settle(u64::MAX);
    } else if taken.more {
        // Denials were made after what is still on the rings.
        collector.settle(first.last);
    } else {
        collector.settle(u64::MAX);
        let second = drain(rings, collector, failures);
        taken.any |= second.events + second.denials > 0;
        taken.more = second.events == BATCH || second.denials > 0;
    }
    failures.report(collector.end_batch());
    // Of a run that outlives its recorder, not before every sink has it: who is killed before leaves it to the next.
    if !failures.end_the_recorder() {
        rings.release();
    }
    taken
}

fn drain(rings: &mut Rings, collector: &mut Collector<'_>, failures: &mut Failures) -> Drained {
    rings.drain(BATCH, |event| failures.report(collector.push(event)))
}

/// Puts on record what the kernel side counted with earlier accesses. Counts of threads that are gone make room, where it is needed.
fn repeats(
    rings: &mut Rings,
    collector: &mut Collector<'_>,
    failures: &mut Failures,
) -> Result<(), KernelError> {
    let Some(folds) = rings.folds() else {
        return Ok(());
    };
    let mut counted = folds.each()?;
    let mut gone = Vec::new();
    if counted.len() > FOLDS_MAX / 2 {
        gone.extend(counted.iter().map(|(like, _)| *like).filter(is_gone));
        // Nobody counts more for who was gone before the counts are read.
        counted = folds.each()?;
    }
    failures.report(collector.repeats(&counted));
    for like in gone {
        folds.forget(&like)?;
        collector.forget(&like);
    }
    Ok(())
}

/// Whether the thread of this event is no more.
fn is_gone(like: &Like) -> bool {
    EventPrefix::read_from_prefix(like).is_ok_and(|(prefix, _)| {
        let process = format!("/proc/{}", prefix.actor.pid);
        Path::new(&process).try_exists().is_ok_and(|there| !there)
    })
}

/// Who is told that something can no longer be written.
struct Failures {
    tell: async_mpsc::Sender<()>,
    any: bool,
    /// Whether one is the end of the recorder, who leaves to another what was not kept.
    end_it: bool,
}

impl Failures {
    fn end_the_recorder(&self) -> bool {
        self.end_it && self.any
    }

    fn report(&mut self, outcome: Result<(), SinkError>) {
        if let Err(error) = outcome {
            tracing::error!("{error}");
            self.any = true;
            // It has been said, or nobody is there to be told as the run is over.
            let _said = self.tell.try_send(());
        }
    }
}

/// Waits until something urgent comes, or until it is time to look.
fn wait(rings: &Rings, wake: &OwnedFd, latency: Duration) {
    let descriptors = rings.descriptors().chain([wake.as_fd()]);
    let polled = descriptors.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
    let mut polled: Vec<_> = polled.collect();
    let latency = Timespec {
        tv_sec: 0,
        tv_nsec: latency.subsec_nanos().into(),
    };
    // An interrupted wait is a short one.
    let _interrupted = poll(&mut polled, Some(&latency));
    let _not_woken = rustix::io::read(wake, &mut [0; 8]);
}
