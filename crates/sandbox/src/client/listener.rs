//! Output on its way from a guest to whoever reads it.
//!
//! The guest may send as many messages as this side holds places for in the listener's channel:
//! places are reserved first and the guest is told of them after. So the task that reads the
//! connection never waits for a listener, and a listener that does not read stops its process.

use std::collections::VecDeque;
use std::sync::Arc;

use moat_guest::ClientMessage;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::task::AbortHandle;

use super::check::{Check, is_on};
use super::{Shared, convert};
use crate::{GuestError, OutputStream, ProcessEvent};

/// Messages that may be on the way to one listener, of at most 64 KiB each.
pub(super) const WINDOW: u32 = 16;

/// Places that are reserved before the guest is told of them.
const BATCH: usize = 4;

/// Bytes of the largest message of output.
const MAX_OUTPUT: usize = 64 << 10;

/// Where output of one process goes.
pub(super) struct Listener {
    places: VecDeque<OwnedPermit<ProcessEvent>>,
    /// Kept for the last event, so that it always arrives.
    last: OwnedPermit<ProcessEvent>,
    /// Bytes of output so far.
    offset: u64,
    refill: Refill,
}

/// Who reserves places as they become free.
enum Refill {
    /// Nobody yet; they will send through this.
    Wanted(mpsc::Sender<ProcessEvent>),
    Running(AbortHandle),
}

/// Makes a listener from an offset on, and what it is heard by.
pub(super) fn channel(offset: u64) -> Option<(Listener, mpsc::Receiver<ProcessEvent>)> {
    let (sender, receiver) = mpsc::channel(WINDOW as usize + 1);
    let place = || sender.clone().try_reserve_owned().ok();
    let places = (0..WINDOW).map_while(|_| place()).collect();
    let last = place()?;
    Some((Listener { places, last, offset, refill: Refill::Wanted(sender) }, receiver))
}

impl Listener {
    /// Has places reserved again as they become free, until the listener ends.
    pub(super) fn keep_filled(&mut self, id: u64, shared: Arc<Shared>) {
        if let Refill::Wanted(sender) = &self.refill {
            let task = tokio::spawn(refill(id, sender.clone(), shared));
            self.refill = Refill::Running(task.abort_handle());
        }
    }

    /// Takes output.
    pub(super) fn output(
        &mut self,
        offset: u64,
        stream: OutputStream,
        bytes: &[u8],
    ) -> Result<(), GuestError> {
        if is_on(Check::OutputOffset) && (offset != self.offset || bytes.is_empty()) {
            return Err(convert::broken("output does not follow what came before"));
        }
        if is_on(Check::OutputSize) && bytes.len() > MAX_OUTPUT {
            return Err(convert::broken("a piece of output is too large"));
        }
        let place = self.places.pop_front();
        if place.is_none() && !is_on(Check::OutputCredit) {
            self.offset += bytes.len() as u64;
            return Ok(());
        }
        let place = place.ok_or_else(|| convert::broken("it sent more output than allowed"))?;
        self.offset += bytes.len() as u64;
        place.send(ProcessEvent::Output { offset, stream, bytes: bytes.to_vec() });
        Ok(())
    }

    /// Says the last word.
    pub(super) fn end(self, event: ProcessEvent) {
        self.last.send(event);
    }
}

impl Drop for Refill {
    fn drop(&mut self) {
        if let Self::Running(task) = self {
            task.abort();
        }
    }
}

async fn refill(id: u64, sender: mpsc::Sender<ProcessEvent>, shared: Arc<Shared>) {
    loop {
        let mut places = VecDeque::with_capacity(BATCH);
        while places.len() < BATCH {
            match sender.clone().reserve_owned().await {
                Ok(place) => places.push_back(place),
                Err(_) => {
                    // Nobody hears it any more.
                    shared.inbox.forget_listener(id);
                    let _ = shared.link.send(&ClientMessage::Detach { listener: id }, &[]).await;
                    return;
                }
            }
        }
        let frames = u32::try_from(places.len()).unwrap_or(0);
        let told = shared.inbox.with_listener(id, |listener| listener.places.append(&mut places));
        if told.is_none() {
            return;
        }
        let credit = ClientMessage::Credit { listener: id, frames };
        if shared.link.send(&credit, &[]).await.is_err() {
            return;
        }
    }
}
