//! How the process that records an attached cgroup is spoken to: a unix socket in the cgroup's place in the registry,
//! which only root can enter. A line of JSON asks, a line answers.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::super::error::RunError;

const SOCKET: &str = "control";
/// Longest line.
const LINE_MAX: u64 = 64 << 10;
/// How long whoever connects may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer may take: a policy is read, and the kernel is waited for.
const ANSWER: Duration = Duration::from_mins(1);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(in crate::supervise) enum Request {
    /// Another policy: the manifest of this file, or of the one that the last came from.
    Reload { manifest: Option<PathBuf> },
    /// An end of it.
    Detach,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::supervise) enum Answer {
    /// It is done.
    Done,
    /// It is not, and everything is as it was.
    Refused(String),
}

/// One that waits for its answer.
pub(in crate::supervise) struct Asked {
    pub(super) request: Request,
    answer: oneshot::Sender<Answer>,
    /// Ends when whoever waits has the answer.
    sent: oneshot::Receiver<()>,
}

impl Asked {
    /// A request, and what waits for its answer.
    pub(in crate::supervise) fn new(request: Request) -> (Self, Waiting) {
        let (answer, answered) = oneshot::channel();
        let (sending, sent) = oneshot::channel();
        let asked = Self {
            request,
            answer,
            sent,
        };
        let waiting = Waiting {
            answered,
            _sending: sending,
        };
        (asked, waiting)
    }

    /// Answers. Whoever asked may be gone: then nobody is told.
    pub(super) async fn answer(self, answer: Answer) {
        let _gone = self.answer.send(answer);
        let _sent = self.sent.await;
    }
}

/// Who waits for an answer. Whoever answers waits until this is dropped.
pub(in crate::supervise) struct Waiting {
    /// Nothing comes from a process, or a task, that ends.
    pub(in crate::supervise) answered: oneshot::Receiver<Answer>,
    _sending: oneshot::Sender<()>,
}

/// Passes on what is asked through this folder, until the value that it returns is dropped.
pub(super) fn listen(folder: &Path, sender: mpsc::Sender<Asked>) -> Result<Listening, RunError> {
    let path = folder.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(RunError::state("remove", &path, error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path);
    let listener = listener.map_err(|error| RunError::state("listen at", &path, error))?;
    let listening = tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, perhaps: there may be some again.
                tokio::time::sleep(PATIENCE).await;
                continue;
            };
            let sender = sender.clone();
            tokio::spawn(async move {
                if let Err(error) = serve(stream, sender).await {
                    tracing::warn!("a request to this process: {error}");
                }
            });
        }
    });
    Ok(Listening(listening))
}

/// Ends with this value.
pub(super) struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(stream: tokio::net::UnixStream, sender: mpsc::Sender<Asked>) -> io::Result<()> {
    let (from, mut to) = stream.into_split();
    let mut line = String::new();
    let mut limited = tokio::io::BufReader::new(from.take(LINE_MAX));
    timeout(PATIENCE, limited.read_line(&mut line)).await??;
    let request: Request = serde_json::from_str(&line)?;
    let (asked, mut waiting) = Asked::new(request);
    let gone = || io::Error::other("this process ends");
    sender.send(asked).await.map_err(|_ends| gone())?;
    let answer = (&mut waiting.answered).await.map_err(|_ends| gone())?;
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    to.write_all(&line).await
}

/// Asks whoever listens in this folder.
pub(super) fn ask(folder: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(folder.join(SOCKET))?;
    stream.set_read_timeout(Some(ANSWER))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::other("it ended without an answer"));
    }
    Ok(serde_json::from_str(&answer)?)
}
