//! The agent loop's logic, as a pure function over the journal.
//!
//! [`State::apply`] folds one event into the state; [`State::next`] says what to do now. There is
//! no clock, no I/O, no async, no randomness and no user code in here: time and the results of
//! user code enter by event. That is what lets a run be cut at any event and driven on.
//!
//! Semantics follow the peer's (`Agent`, `Runner`) where clients depend on them: the order of
//! outputs, what ends a run, the fixed texts.

mod apply;
mod calls;
mod next;
mod settle;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use moat_core::{
    AgentRecord, BlobId, BootNonce, Cost, Hash, Item, PauseReason, RunId, RunOptions, RunOutcome,
    SandboxSettings, Seq, SessionReport, SnapshotId, Usage,
};
use serde_json::Value;

pub use apply::ApplyError;
pub use calls::{Call, CallState};
pub use next::{Action, CallRun, ModelCall};
pub use text::output_item;

/// Everything that the events so far say about a run.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(crate) run: Option<RunId>,
    /// The run that all others of its line were forked from.
    pub(crate) lineage: Option<RunId>,
    pub(crate) head: Seq,
    pub(crate) agent: Arc<AgentRecord>,
    pub(crate) options: RunOptions,
    pub(crate) model: String,
    pub(crate) conversation: Conversation,
    /// Model calls that were meant, over the whole run.
    pub(crate) turn: u32,
    /// What `turn` was when the latest input came.
    pub(crate) turns_before_input: u32,
    pub(crate) usage: Usage,
    pub(crate) cost: Cost,
    pub(crate) response_id: Option<String>,
    pub(crate) offered: Option<Vec<String>>,
    pub(crate) request: Option<Request>,
    pub(crate) answer: Option<Answer>,
    pub(crate) settled: Option<Settled>,
    pub(crate) ledger: BTreeMap<String, Hash>,
    pub(crate) always: BTreeMap<String, bool>,
    pub(crate) calls_made: u32,
    pub(crate) sandbox: Option<AttachedSandbox>,
    pub(crate) checkpoint: Option<(Seq, SnapshotId)>,
    pub(crate) first_checkpoint: Option<SnapshotId>,
    pub(crate) outputs: Vec<KeptOutput>,
    pub(crate) sessions: BTreeMap<u32, SessionReport>,
    pub(crate) steered: Vec<Item>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) allow_missing: Vec<String>,
    pub(crate) sandbox_settings: SandboxSettings,
    pub(crate) origin: Option<moat_core::Origin>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) cancel: Option<String>,
    pub(crate) status: Status,
}

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Status {
    /// Nothing has happened yet.
    #[default]
    New,
    /// There is something to do.
    Running,
    /// It stopped for now.
    Paused(PauseReason, String),
    /// It reached a limit and goes on when that is raised.
    Limited {
        /// Which limit.
        limit: String,
        /// Its value.
        value: u64,
    },
    /// It ended.
    Finished(RunOutcome),
    /// It was exported to go on elsewhere.
    Moved,
    /// Its bodies were destroyed.
    Erased,
}

/// One thing that happened in the conversation, for the model or for people.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it came from.
    pub origin: Origin,
    /// The item.
    pub item: Item,
    /// What a tool returned, where that was not text.
    pub value: Option<Value>,
}

/// Where an [`Entry`] came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From whoever runs the agent.
    Input,
    /// From the model.
    Model,
    /// From a tool.
    Tool,
}

/// The conversation as the model gets it, append-only, with a running hash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conversation {
    entries: Vec<Entry>,
    hasher: blake3::Hasher,
    /// Index of the first entry after the latest input.
    new_from: usize,
}

impl Conversation {
    pub(crate) fn push(&mut self, origin: Origin, item: Item, value: Option<Value>) {
        self.hasher.update(item.json().as_bytes());
        // A byte that JSON never holds, so that two items are never mistaken for one.
        self.hasher.update(&[0]);
        self.entries.push(Entry { origin, item, value });
    }

    pub(crate) fn push_input(&mut self, items: &[Item]) {
        for item in items {
            self.push(Origin::Input, item.clone(), None);
        }
        self.new_from = self.entries.len();
    }

    pub(crate) fn hash(&self) -> Hash {
        Hash(*self.hasher.finalize().as_bytes())
    }
}

/// A model call that is being made.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) turn: u32,
    pub(crate) attempt: u32,
    /// It failed; try again after this many milliseconds.
    pub(crate) retry_in_ms: Option<u64>,
    pub(crate) failure: Option<Failure>,
}

#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) class: String,
    pub(crate) message: String,
    pub(crate) resumable: bool,
}

/// An answer whose calls are not all done.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) seq: Seq,
    /// The answer's items without those that repeat an earlier call.
    pub(crate) items: Vec<Item>,
    pub(crate) calls: Vec<Call>,
    /// Some of the answer's calls repeated finished ones and were left out.
    pub(crate) repeats: bool,
    /// The answer breaks a rule; the run ends with this.
    pub(crate) error: Option<(String, String)>,
}

/// An answer whose calls are all done: decides whether the run ends.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) had_calls: bool,
    pub(crate) hosted_activity: bool,
    pub(crate) last_message: Option<Item>,
}

/// The sandbox that a run is attached to, as the journal knows it.
#[derive(Clone, Debug)]
pub struct AttachedSandbox {
    /// The provider's name.
    pub provider: String,
    /// What the provider needs to find it again.
    pub handle: Value,
    /// Which boot of the guest.
    pub nonce: BootNonce,
    /// Fences that its host lacks and that were allowed to be missing.
    pub missing_fences: Vec<String>,
    /// What else is special about it, by name.
    pub notes: Vec<String>,
    /// What it was made by is not what makes the run's sandboxes any more: it is left for another.
    pub left: bool,
}

/// A whole output that the model was told a path of.
#[derive(Clone, Debug)]
pub struct KeptOutput {
    /// The path inside the sandbox.
    pub path: String,
    /// The bytes.
    pub blob: BlobId,
}

impl State {
    /// The run, once its first event was applied.
    pub fn run(&self) -> Option<RunId> {
        self.run
    }
    /// The last event that was applied.
    pub fn head(&self) -> Seq {
        self.head
    }
    /// The agent.
    pub fn agent(&self) -> &AgentRecord {
        &self.agent
    }
    /// How the run is driven.
    pub fn options(&self) -> &RunOptions {
        &self.options
    }
    /// The model that is asked.
    pub fn model(&self) -> &str {
        &self.model
    }
    /// Where the run stands.
    pub fn status(&self) -> &Status {
        &self.status
    }
    /// Nothing more happens to it here, unless it gets more input.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.status, Status::Finished(_) | Status::Moved | Status::Erased)
    }
    /// Everything said so far, oldest first.
    pub fn conversation(&self) -> &[Entry] {
        &self.conversation.entries
    }
    /// What came after the latest input.
    pub fn new_entries(&self) -> &[Entry] {
        self.conversation.entries.get(self.conversation.new_from..).unwrap_or_default()
    }
    /// Items and hash of the next model request.
    pub fn request_prefix(&self) -> (Vec<Item>, Hash) {
        let items = self.conversation.entries.iter().map(|entry| entry.item.clone()).collect();
        (items, self.conversation.hash())
    }
    /// How many items the next model request holds, and their hash.
    pub fn prefix(&self) -> (u64, Hash) {
        (self.conversation.entries.len() as u64, self.conversation.hash())
    }
    /// Model calls since the latest input.
    pub fn turns(&self) -> u32 {
        self.turn.saturating_sub(self.turns_before_input)
    }
    /// Model calls over the whole run.
    pub fn total_turns(&self) -> u32 {
        self.turn
    }
    /// Tokens used.
    pub fn usage(&self) -> Usage {
        self.usage
    }
    /// Money spent, as far as prices are known.
    pub fn cost(&self) -> Cost {
        self.cost
    }
    /// The provider's id of the latest answer.
    pub fn response_id(&self) -> Option<&str> {
        self.response_id.as_deref()
    }
    /// Calls of the open answer that wait for a person.
    pub fn waiting(&self) -> Vec<&Call> {
        let calls = self.answer.iter().flat_map(|answer| &answer.calls);
        calls.filter(|call| matches!(call.state, CallState::Asked)).collect()
    }
    /// The open answer's items and calls, if an answer is open.
    pub fn open_answer(&self) -> Option<(Seq, &[Item], &[Call])> {
        self.answer.as_ref().map(|a| (a.seq, a.items.as_slice(), a.calls.as_slice()))
    }
    /// The sandbox, as the journal knows it.
    pub fn sandbox(&self) -> Option<&AttachedSandbox> {
        self.sandbox.as_ref()
    }
    /// The latest checkpoint.
    pub fn checkpoint(&self) -> Option<(Seq, SnapshotId)> {
        self.checkpoint
    }
    /// The files that the run began with.
    pub fn first_checkpoint(&self) -> Option<SnapshotId> {
        self.first_checkpoint
    }
    /// Commands that outlived the call that started them.
    pub fn sessions(&self) -> &BTreeMap<u32, SessionReport> {
        &self.sessions
    }
    /// Whole outputs that the model was told a path of.
    pub fn outputs(&self) -> &[KeptOutput] {
        &self.outputs
    }

    /// The run that this one and all others of its line were forked from.
    pub fn lineage(&self) -> Option<RunId> {
        self.lineage
    }

    /// How the run's sandboxes are made.
    pub fn sandbox_settings(&self) -> &SandboxSettings {
        &self.sandbox_settings
    }

    /// Environment of the run's commands.
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }
    /// Fences that may be missing on the host.
    pub fn allow_missing(&self) -> &[String] {
        &self.allow_missing
    }
    /// The host folder that the files came from.
    pub fn origin(&self) -> Option<&moat_core::Origin> {
        self.origin.as_ref()
    }
    /// Facts for people.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }
    /// A fork numbers its own events from one, behind the past that it shares.
    pub(crate) fn rewind_for_fork(&mut self) {
        self.head = Seq(0);
    }
    /// The text of the last message, if the run has one.
    pub fn last_message(&self) -> Option<String> {
        self.conversation
            .entries
            .iter()
            .rev()
            .filter(|entry| entry.origin == Origin::Model)
            .find_map(|entry| entry.item.message_text())
    }
}

#[cfg(test)]
mod tests;
