use std::pin::Pin;

use async_trait::async_trait;
use futures_util::Stream;
use moat_core::{Epoch, EventHeader, RunId, Seq, TenantId};

use crate::{AppendError, ClaimError, EraseError, InboxError, ReadError, VerifyError};

/// An event that is to be appended. The journal adds tenant, run, sequence number and epoch,
/// and the time where it is absent.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Who caused it.
    pub actor: String,
    /// What happened.
    pub kind: String,
    /// The version of the body's shape.
    pub version: u16,
    /// Whether a reader that does not know the kind has to stop.
    pub must_understand: bool,
    /// When it happened, in milliseconds since the Unix epoch, for what was not appended as it
    /// happened; absent: now.
    pub at: Option<u64>,
    /// The body's bytes.
    pub body: Vec<u8>,
}

/// What one durable append holds. All of it becomes durable, or nothing.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The events, in order.
    pub events: Vec<NewEvent>,
    /// Inbox entries that these events take up.
    pub consumed: Vec<String>,
    /// The run's row in the listing from now on; absent: as it was.
    pub index: Option<IndexRow>,
}

/// A stored event. `body` is absent once it was erased.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// What is said about every event.
    pub header: EventHeader,
    /// The bytes that were appended.
    pub body: Option<Vec<u8>>,
}

/// What a listing says about a run. A view: it can be rebuilt from the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// A stable word: `running`, `waiting`, `paused`, `limited`, `finished`, `failed`, `cancelled`.
    pub status: String,
    /// More facts as a JSON object; the caller's business.
    pub facts: String,
}

/// One row of a listing, newest first.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The run.
    pub run: RunId,
    /// Its last event.
    pub head: Seq,
    /// When it was made: milliseconds since the Unix epoch.
    pub created_at: u64,
    /// When its last event was written.
    pub updated_at: u64,
    /// What the caller last said about it; absent once erased, and where it cannot be opened.
    pub index: Option<IndexRow>,
    /// Whether it was erased. A run whose row cannot be opened was not, and what it needs has to
    /// stay.
    pub erased: bool,
    /// Whether some process owns it now.
    pub owned: bool,
}

/// An entry of a run's inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxEntry {
    /// Unique in the run; putting the same id again changes nothing.
    pub id: String,
    /// What it asks for: `approve`, `reject`, `steer`, `cancel`, …
    pub kind: String,
    /// A JSON object.
    pub body: String,
    /// Who put it there.
    pub who: String,
    /// When: milliseconds since the Unix epoch.
    pub at: u64,
}

/// Who owns a run now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The owner's process id.
    pub pid: u32,
    /// Milliseconds since its last append, or since it took the run.
    pub silent_ms: u64,
}

/// How to get a run that somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Only if nobody holds it.
    IfFree,
    /// Even so: the lock's next generation starts and the old holder can append nothing more.
    TakeOver,
}

/// Events as they are appended, from any process, without polling.
pub type Events = Pin<Box<dyn Stream<Item = Result<StoredEvent, ReadError>> + Send>>;

/// Where the events of all runs are.
///
/// Contract, checked by [`crate::conformance`]:
/// - an append that returned is durable, and every later read sees it;
/// - events of a run have the sequence numbers 1, 2, 3, … without a gap;
/// - of two owners of a run only the one with the highest epoch can append;
/// - a follower sees every event once, in order, whatever dies meanwhile.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Makes a run and takes it. `scope` is the run whose key also protects this one (a fork and
    /// its source are erased together); absent: a scope of its own.
    async fn create(
        &self,
        tenant: &TenantId,
        run: RunId,
        scope: Option<RunId>,
    ) -> Result<Box<dyn RunOwner>, ClaimError>;

    /// Takes an existing run, raising its epoch.
    async fn claim(
        &self,
        tenant: &TenantId,
        run: RunId,
        claim: Claim,
    ) -> Result<Box<dyn RunOwner>, ClaimError>;

    /// Who owns the run now; `None`: nobody.
    async fn holder(&self, tenant: &TenantId, run: RunId) -> Result<Option<Holder>, ReadError>;

    /// Up to `limit` events after `after`, in order. There may be fewer, so as to bound memory or
    /// because the next one is damaged; no events at all means that there are no more.
    async fn read(
        &self,
        tenant: &TenantId,
        run: RunId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, ReadError>;

    /// All events after `after`, then those that come, for as long as the stream is kept.
    async fn follow(&self, tenant: &TenantId, run: RunId, after: Seq) -> Result<Events, ReadError>;

    /// Puts an entry into a run's inbox and wakes its owner. `Ok(false)`: the id was there already.
    async fn post(
        &self,
        tenant: &TenantId,
        run: RunId,
        entry: InboxEntry,
    ) -> Result<bool, InboxError>;

    /// Runs that have an event, newest first.
    async fn list(&self, tenant: &TenantId, limit: usize) -> Result<Vec<Listed>, ReadError>;

    /// Checks a run, or all runs, against the chain and the anchors outside the data folder.
    async fn verify(
        &self,
        tenant: &TenantId,
        run: Option<RunId>,
    ) -> Result<VerifyReport, VerifyError>;

    /// Destroys the bodies and the key of a run's scope, leaving hashes and a tombstone. `consent`
    /// names the living forks that go with it; if it does not name all of them, nothing happens.
    async fn erase(
        &self,
        tenant: &TenantId,
        run: RunId,
        consent: &[RunId],
        tombstone: NewEvent,
    ) -> Result<(), EraseError>;
}

/// The right to append to one run. Dropping it gives the run back.
#[async_trait]
pub trait RunOwner: Send + Sync {
    /// The run.
    fn run(&self) -> RunId;

    /// The epoch that every append carries.
    fn epoch(&self) -> Epoch;

    /// The last event.
    fn head(&self) -> Seq;

    /// Appends a batch and waits until it is durable. Returns the last event's number.
    async fn append(&mut self, batch: Batch) -> Result<Seq, AppendError>;

    /// Inbox entries that no event has taken up, oldest first.
    async fn inbox(&self) -> Result<Vec<InboxEntry>, ReadError>;

    /// Waits until the inbox may hold something new since the last call of [`RunOwner::inbox`],
    /// or until the run was taken over.
    async fn inbox_changed(&self);

    /// Authenticates the head and records it beside the key, outside the data folder. Called at
    /// pause and end; in between the journal does it by itself, at most once a second.
    async fn anchor(&self) -> Result<(), AppendError>;
}

/// What a verification found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// One entry for each run that was looked at.
    pub runs: Vec<RunReport>,
}

/// What a verification found about one run.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// The run.
    pub run: RunId,
    /// Its last event.
    pub head: Seq,
    /// The last event that an anchor covers; what comes after is consistent in itself.
    pub anchored: Option<Seq>,
    /// The bodies were destroyed by an erasure; the chain still holds.
    pub erased: bool,
    /// What is wrong, first place first. Empty: nothing.
    pub problems: Vec<Problem>,
}

/// Something that a verification found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The event at which it shows; absent: the run as a whole.
    pub seq: Option<Seq>,
    /// What is wrong, for a person.
    pub message: String,
}
