//! Who waits for what.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use moat_guest::{GuestMessage, Reply};
use tokio::sync::{Notify, oneshot};

use super::check::{Check, is_on};
use super::convert;
use super::exchange::Exchange;
use super::listener::Listener;
use super::listing::Listing;
use crate::{GuestError, ProcessEvent, ScanEntry};

/// An answer and the bytes that belong to it.
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) payload: Vec<u8>,
}

/// Somebody who waits for an answer.
pub(super) enum Waiting {
    Answer(oneshot::Sender<Result<Answer, Exchange>>),
    Listing(Box<Listing>, oneshot::Sender<Result<Vec<ScanEntry>, Exchange>>),
}

impl Waiting {
    fn fail(self, error: Exchange) {
        // Whoever does not wait any more needs no answer.
        match self {
            Self::Answer(sender) => drop(sender.send(Err(error))),
            Self::Listing(_, sender) => drop(sender.send(Err(error))),
        }
    }
}

/// Everybody who waits on one connection.
#[derive(Default)]
pub(super) struct Inbox {
    next: AtomicU64,
    state: Mutex<State>,
    over: Notify,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, Waiting>,
    listeners: HashMap<u64, Listener>,
    end: Option<GuestError>,
}

/// Forgets a request when whoever made it goes away.
pub(super) struct Forget<'a>(&'a Inbox, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.state().waiting.remove(&self.1);
    }
}

impl Inbox {
    pub(super) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the answer to a request delivered.
    pub(super) fn expect(&self, id: u64, waiting: Waiting) -> Result<Forget<'_>, GuestError> {
        let mut state = self.state();
        if let Some(end) = &state.end {
            return Err(convert::copy(end));
        }
        state.waiting.insert(id, waiting);
        Ok(Forget(self, id))
    }

    /// Has the output of a process delivered.
    pub(super) fn listen(&self, id: u64, listener: Listener) -> Result<(), GuestError> {
        let mut state = self.state();
        if let Some(end) = &state.end {
            return Err(convert::copy(end));
        }
        state.listeners.insert(id, listener);
        Ok(())
    }

    /// Changes a listener; `None` if it has ended.
    pub(super) fn with_listener<T>(
        &self,
        id: u64,
        change: impl FnOnce(&mut Listener) -> T,
    ) -> Option<T> {
        self.state().listeners.get_mut(&id).map(change)
    }

    pub(super) fn forget_listener(&self, id: u64) -> Option<Listener> {
        self.state().listeners.remove(&id)
    }

    /// Delivers one message. An error ends the connection.
    pub(super) fn deliver(&self, message: GuestMessage, payload: &[u8]) -> Result<(), GuestError> {
        let mut state = self.state();
        match message {
            GuestMessage::Reply { id, body } => state.reply(id, body, payload),
            GuestMessage::Failed { id, failure } => {
                if let Some(waiting) = state.waiting.remove(&id) {
                    waiting.fail(Exchange::Failed(failure));
                } else {
                    // The process of a listener was released: its channel closes.
                    state.listeners.remove(&id);
                }
                Ok(())
            }
            GuestMessage::Output { listener, offset, stream } => {
                // An unknown one is not an error: it may have been dropped a moment ago.
                state.listeners.get_mut(&listener).map_or(Ok(()), |listener| {
                    listener.output(offset, convert::stream(stream), payload)
                })
            }
            GuestMessage::Exited { listener, exit } => {
                if let Some(listener) = state.listeners.remove(&listener) {
                    listener.end(ProcessEvent::Exited(convert::exit(exit)));
                }
                Ok(())
            }
            GuestMessage::Welcome(_) if !is_on(Check::Greeting) => Ok(()),
            GuestMessage::Welcome(_) | GuestMessage::Refused(_) => {
                Err(convert::broken("it welcomed twice"))
            }
        }
    }

    /// Tells everyone that nothing more will come.
    pub(super) fn end(&self, reason: impl Fn() -> GuestError) {
        let mut state = self.state();
        if state.end.is_some() {
            return;
        }
        state.end = Some(reason());
        let waiting = std::mem::take(&mut state.waiting);
        let listeners = std::mem::take(&mut state.listeners);
        drop(state);
        waiting.into_values().for_each(|waiting| waiting.fail(reason().into()));
        listeners.into_values().for_each(|listener| listener.end(ProcessEvent::Disconnected));
        self.over.notify_waiters();
    }

    /// Returns once nothing more will come.
    pub(super) async fn closed(&self) {
        let over = self.over.notified();
        let mut over = std::pin::pin!(over);
        // Before looking, so that an end between looking and waiting is not missed.
        over.as_mut().enable();
        if self.state().end.is_none() {
            over.await;
        }
    }

    /// Why nothing more will come.
    pub(super) fn end_reason(&self) -> GuestError {
        let state = self.state();
        state.end.as_ref().map_or_else(
            || GuestError::Disconnected("the request was given up".to_owned()),
            convert::copy,
        )
    }
}

impl State {
    fn reply(&mut self, id: u64, reply: Reply, payload: &[u8]) -> Result<(), GuestError> {
        let Some(waiting) = self.waiting.remove(&id) else {
            // Its time was over.
            return Ok(());
        };
        match (waiting, reply) {
            (Waiting::Answer(sender), reply) => {
                let _ = sender.send(Ok(Answer { reply, payload: payload.to_vec() }));
            }
            (Waiting::Listing(mut listing, sender), Reply::Entries { last }) => {
                listing.add(payload)?;
                if last {
                    let _ = sender.send(Ok(listing.finish()));
                } else {
                    self.waiting.insert(id, Waiting::Listing(listing, sender));
                }
            }
            (waiting @ Waiting::Listing(..), _) => waiting.fail(Exchange::mismatch("a listing")),
        }
        Ok(())
    }
}
