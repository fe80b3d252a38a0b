//! Doing what the machine decides: one action at a time, its intent durable before its effect, its
//! outcome appended with whatever follows from it.
//!
//! Events wait in a buffer until the next effect needs them durable, so an answer and the intents
//! that follow from it, or the outcomes of a turn, its checkpoint and the next request, are one
//! append each: two for a turn of any number of calls.

mod calls;
#[cfg(feature = "failpoints")]
mod failpoint;
mod inbox;
mod index;
mod model_call;

use std::sync::Arc;

use moat_core::{
    Epoch, Event, EventBody, EventHeader, PauseReason, Retryable, RunId, RunPaused, Seq, TenantId,
};
use moat_journal::{AppendError, Batch, NewEvent, ReadError, RunOwner};
use moat_model::Delta;
use tokio::sync::watch;

use crate::compute::{Compute, ComputeError};
use crate::harness::HarnessParts;
use crate::machine::{Action, ApplyError, State, Status};

pub use index::status_word;
pub(crate) use index::{Facts, index_row};

/// Hears what happens in a run while it is driven. Must not block.
pub trait Observer: Send + Sync {
    /// An event is durable.
    fn event(&self, event: &Event) {
        let _ = event;
    }
    /// A piece of an answer came. `turn` and `attempt` say of which; a later attempt of the same
    /// turn replaces all pieces of an earlier one.
    fn delta(&self, turn: u32, attempt: u32, delta: &Delta) {
        let _ = (turn, attempt, delta);
    }
    /// Something is left that a person should know of, and that is no part of the run.
    fn left(&self, what: &str) {
        let _ = what;
    }
    /// A command printed something.
    fn output(&self, call_id: &str, bytes: &[u8]) {
        let _ = (call_id, bytes);
    }
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Asks a driver to stop for now, from anywhere.
#[derive(Clone, Debug)]
pub struct Interrupt(watch::Sender<bool>);

impl Default for Interrupt {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Interrupt {
    /// The run pauses as soon as it can, resumably: commands in the sandbox go on for its grace.
    pub fn pause(&self) {
        self.0.send_replace(true);
    }

    fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    async fn wait(&self) {
        let mut receiver = self.0.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = receiver.wait_for(|set| *set).await;
    }
}

/// Why a run could not be driven further. The run is as its journal says and can be resumed.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The journal refused or could not be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The journal holds something that the machine cannot follow.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The sandbox could not be made, found or saved.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// An append failed and its events are gone, while the state has them: the run has to be
    /// opened again.
    #[error("an earlier append failed; open the run again to go on")]
    Stale,
    /// An event could not be written down.
    #[error("cannot encode an event: {0}")]
    Encode(#[from] serde_json::Error),
}

impl Retryable for DriveError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Append(error) => error.is_retryable(),
            Self::Read(error) => error.is_retryable(),
            Self::Compute(error) => error.is_retryable(),
            Self::Apply(_) | Self::Encode(_) | Self::Stale => false,
        }
    }
}

/// The one that drives a run: owns it, knows its state, does what the machine says.
pub struct Driver {
    parts: Arc<HarnessParts>,
    tenant: TenantId,
    run: RunId,
    owner: Box<dyn RunOwner>,
    state: State,
    facts: index::Facts,
    buffer: Buffer,
    compute: Option<Compute>,
    observer: Arc<dyn Observer>,
    interrupt: Interrupt,
}

/// Events that were applied to the state and are not durable yet.
#[derive(Default)]
struct Buffer {
    events: Vec<(Event, NewEvent)>,
    consumed: Vec<String>,
}

impl Driver {
    pub(crate) fn new(
        parts: Arc<HarnessParts>,
        tenant: TenantId,
        owner: Box<dyn RunOwner>,
        state: State,
        facts: index::Facts,
    ) -> Self {
        Self {
            compute: None,
            run: owner.run(),
            parts,
            tenant,
            owner,
            state,
            facts,
            buffer: Buffer::default(),
            observer: Arc::new(Silent),
            interrupt: Interrupt::default(),
        }
    }

    /// Who hears what happens.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// The run.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The state so far.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Stops the drive for now, from anywhere.
    pub fn interrupt(&self) -> Interrupt {
        self.interrupt.clone()
    }

    /// Drives the run until there is nothing to do: it ended, waits for a person, reached a limit
    /// or was interrupted. Then everything is durable, anchored, and the run is still owned.
    pub async fn drive(&mut self) -> Result<Status, DriveError> {
        self.flush().await?;
        let driven = self.drive_on().await;
        if let Err(DriveError::Compute(error)) = &driven {
            self.pause_for_host(error.to_string()).await?;
        }
        driven?;
        self.owner.anchor().await?;
        self.let_go_of_sandbox().await;
        Ok(self.state.status().clone())
    }

    async fn drive_on(&mut self) -> Result<(), DriveError> {
        loop {
            self.take_inbox().await?;
            if self.interrupt.is_set() && *self.state.status() == Status::Running {
                let message = String::new();
                self.push("harness", RunPaused { reason: PauseReason::User, message })?;
            }
            match self.state.next() {
                Action::Record(events) => {
                    self.save_before_end(&events).await?;
                    for event in events {
                        self.push("harness", event)?;
                    }
                }
                Action::CallModel(call) => self.call_model(call).await?,
                Action::RunCalls(runs) => self.run_calls(runs).await?,
                Action::Wait => {
                    let message = "calls wait for a person".to_owned();
                    self.push("harness", RunPaused { reason: PauseReason::Approval, message })?;
                }
                Action::Rest => return self.flush().await,
            }
        }
    }

    /// Applies an event and puts it into the buffer.
    pub(crate) fn push(
        &mut self,
        actor: &str,
        body: impl Into<EventBody>,
    ) -> Result<(), DriveError> {
        let body = self.redacted(body.into());
        let stored = NewEvent {
            actor: actor.to_owned(),
            kind: body.kind().to_owned(),
            version: body.version(),
            must_understand: body.must_understand(),
            at: None,
            body: body.encode()?,
        };
        let event = Event {
            header: EventHeader {
                tenant: self.tenant.clone(),
                run: self.run,
                seq: self.state.head().next(),
                epoch: self.epoch(),
                at: 0,
                actor: actor.to_owned(),
                kind: stored.kind.clone(),
                version: stored.version,
                must_understand: stored.must_understand,
            },
            body,
        };
        self.state.apply(&event)?;
        self.facts.take_in(&event);
        self.buffer.events.push((event, stored));
        Ok(())
    }

    /// What comes from tools, patches and people is redacted here, where it enters the journal.
    /// What a model said is never touched.
    fn redacted(&self, body: EventBody) -> EventBody {
        let enters = matches!(
            body,
            EventBody::CallFinished(_)
                | EventBody::CallFailed(_)
                | EventBody::Steered(_)
                | EventBody::ApprovalGiven(_)
                | EventBody::CancelRequested(_)
                | EventBody::RunContinued(_)
        );
        if enters { self.parts.redactor.redact_event(body) } else { body }
    }

    /// Makes everything that was pushed durable.
    pub(crate) async fn flush(&mut self) -> Result<(), DriveError> {
        if self.buffer.events.is_empty() && self.buffer.consumed.is_empty() {
            return Ok(());
        }
        let durable = self.owner.head().0.saturating_add(self.buffer.events.len() as u64);
        if durable != self.state.head().0 {
            return Err(DriveError::Stale);
        }
        let buffer = std::mem::take(&mut self.buffer);
        let (events, stored): (Vec<_>, Vec<_>) = buffer.events.into_iter().unzip();
        let index = Some(index_row(&self.state, &self.facts));
        self.owner.append(Batch { events: stored, consumed: buffer.consumed, index }).await?;
        for event in &events {
            self.observer.event(event);
        }
        #[cfg(feature = "failpoints")]
        failpoint::after_append();
        if let Some(compute) = &mut self.compute {
            compute.outcomes_are_durable().await;
        }
        Ok(())
    }

    /// A host that cannot go on leaves the run paused, with the reason in its journal. What was
    /// buffered belongs to work that is not done and is done again.
    async fn pause_for_host(&mut self, message: String) -> Result<(), DriveError> {
        if *self.state.status() == Status::Running {
            self.push("harness", RunPaused { reason: PauseReason::Host, message })?;
            self.flush().await?;
        }
        Ok(())
    }

    fn epoch(&self) -> Epoch {
        self.owner.epoch()
    }

    fn run_head(&self) -> Seq {
        self.state.head()
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("run", &self.run).field("head", &self.run_head()).finish()
    }
}
