//! What is said to the recorder's thread.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
};

use rustix::event::{EventfdFlags, eventfd};

use crate::audit::record::{Ending, Note};

/// Notes that may wait. Whoever has one more waits with it: none is lost.
const MESSAGES_MAX: usize = 1024;

/// The places of those that may wait are all there from the start: small ones, as a thousand recorders have them.
pub(super) enum Message {
    Note(Box<Note>),
    End(Box<Ending>),
    Leave,
}

/// What is to be said to the thread.
#[derive(Clone)]
pub(super) struct Outbox {
    messages: mpsc::SyncSender<Message>,
    /// An eventfd(2) that wakes it.
    wake: Arc<OwnedFd>,
}

impl Outbox {
    /// An empty one, what comes out of it, and what wakes whoever takes that.
    pub(super) fn new() -> io::Result<(Self, mpsc::Receiver<Message>, Arc<OwnedFd>)> {
        let (messages, inbox) = mpsc::sync_channel(MESSAGES_MAX);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let wake = Arc::new(wake);
        let woken = Arc::clone(&wake);
        Ok((Self { messages, wake }, inbox, woken))
    }

    /// Says it where there is room; gives it back where there is none.
    pub(super) fn offer(&self, message: Message) -> Result<(), Message> {
        match self.messages.try_send(message) {
            Err(mpsc::TrySendError::Full(message)) => return Err(message),
            // As for `send`.
            Ok(()) | Err(mpsc::TrySendError::Disconnected(_)) => {}
        }
        let _asleep = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        Ok(())
    }

    pub(super) fn send(&self, message: Message) {
        // A recorder that is gone says why when it is joined.
        let _gone = self.messages.send(message);
        // If it cannot be woken, it looks soon.
        let _asleep = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_where_there_is_no_room_is_given_back() {
        let (messages, inbox) = mpsc::sync_channel(1);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let outbox = Outbox {
            messages,
            wake: Arc::new(wake),
        };
        outbox.send(Message::Leave);
        let back = outbox.offer(Message::End(Box::default()));
        assert!(matches!(back, Err(Message::End(_))));
        assert!(matches!(inbox.recv(), Ok(Message::Leave)));
        assert!(outbox.offer(Message::End(Box::default())).is_ok());
        assert!(matches!(inbox.recv(), Ok(Message::End(_))));
        drop(inbox);
        assert!(outbox.offer(Message::Leave).is_ok());
    }
}
