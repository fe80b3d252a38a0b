//! The journal of one machine: SQLite in WAL mode, in one folder that several processes share.
//!
//! ```text
//! DATA/journal.db        events, runs, inbox, wrapped keys (`schema`)
//! DATA/locks/            who owns a run: one locked file each while it is owned (`lock`)
//! DATA/wake/             what wakes readers in other processes (`wake`)
//! ANCHORS/               authenticated heads, outside the data folder (`anchor`)
//! ```
//!
//! All writes of a process go through one thread that makes everything that waits durable in one
//! transaction (`writer`); reads have connections of their own beside it (`reader`).

mod anchor;
mod append;
mod claim;
mod db;
mod erase;
mod inbox;
mod lock;
mod owner;
mod read;
mod reader;
mod schema;
mod verify;
mod wake;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use moat_blobs::BlobStore;
use moat_core::{RunId, Seq, TenantId, TenantKey};

use crate::format::Keys;
use crate::{
    Claim, ClaimError, EraseError, Events, Holder, InboxEntry, InboxError, Journal, Listed,
    NewEvent, OpenError, ReadError, RunOwner, StoredEvent, VerifyError, VerifyReport,
};

/// The largest body of one event, in bytes.
pub const MAX_BODY: usize = 64 << 20;
/// The most events of one batch.
pub const MAX_BATCH: usize = 4096;
/// The most inbox entries that may wait for one run.
pub const MAX_WAITING: usize = 10_000;

/// Where an embedded journal is, and under which key.
pub struct SqliteOptions {
    /// The folder of the journal. Made if it is missing, for its owner alone.
    pub data_dir: PathBuf,
    /// The folder of the anchors: beside the key, outside the data folder.
    pub anchors_dir: PathBuf,
    /// The tenant's key.
    pub tenant_key: TenantKey,
    /// Where large bodies go.
    pub blobs: Arc<dyn BlobStore>,
}

/// The embedded journal. Cloning is cheap. Methods are called inside a tokio runtime.
#[derive(Clone)]
pub struct SqliteJournal {
    shared: Arc<Shared>,
}

struct Shared {
    data_dir: PathBuf,
    /// Apart from the rest, so that a write that waits does not keep the writer itself alive.
    keys: Arc<Keys>,
    blobs: Arc<dyn BlobStore>,
    writer: writer::Writer,
    readers: reader::Readers,
    locks: lock::Locks,
    wakes: wake::Wakes,
    anchors: anchor::Anchors,
}

impl SqliteJournal {
    /// Opens the journal in `options.data_dir`, making it if there is none. Blocks, briefly: a
    /// journal that exists is opened and its format is looked at, nothing more.
    pub fn open(options: SqliteOptions) -> Result<Self, OpenError> {
        let SqliteOptions { data_dir, anchors_dir, tenant_key, blobs } = options;
        let first = schema::open_or_create(&data_dir)?;
        let shared = Shared {
            keys: Arc::new(Keys::new(&tenant_key)),
            blobs,
            writer: writer::Writer::new(&data_dir),
            readers: reader::Readers::new(&data_dir, first),
            locks: lock::Locks::new(&data_dir),
            wakes: wake::Wakes::new(&data_dir),
            anchors: anchor::Anchors::new(anchors_dir),
            data_dir,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The folder it is in.
    pub fn data_dir(&self) -> &Path {
        &self.shared.data_dir
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn create(
        &self,
        tenant: &TenantId,
        run: RunId,
        scope: Option<RunId>,
    ) -> Result<Box<dyn RunOwner>, ClaimError> {
        Ok(Box::new(claim::create(&self.shared, tenant, run, scope).await?))
    }

    async fn claim(
        &self,
        tenant: &TenantId,
        run: RunId,
        claim: Claim,
    ) -> Result<Box<dyn RunOwner>, ClaimError> {
        Ok(Box::new(claim::claim(&self.shared, tenant, run, claim).await?))
    }

    async fn holder(&self, tenant: &TenantId, run: RunId) -> Result<Option<Holder>, ReadError> {
        claim::holder(&self.shared, tenant, run).await
    }

    async fn read(
        &self,
        tenant: &TenantId,
        run: RunId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, ReadError> {
        read::read(&self.shared, tenant, run, after, limit).await
    }

    async fn follow(&self, tenant: &TenantId, run: RunId, after: Seq) -> Result<Events, ReadError> {
        read::follow(&self.shared, tenant, run, after).await
    }

    async fn post(
        &self,
        tenant: &TenantId,
        run: RunId,
        entry: InboxEntry,
    ) -> Result<bool, InboxError> {
        inbox::post(&self.shared, tenant, run, entry).await
    }

    async fn list(&self, tenant: &TenantId, limit: usize) -> Result<Vec<Listed>, ReadError> {
        read::list(&self.shared, tenant, limit).await
    }

    async fn verify(
        &self,
        tenant: &TenantId,
        run: Option<RunId>,
    ) -> Result<VerifyReport, VerifyError> {
        verify::verify(&self.shared, tenant, run).await
    }

    async fn erase(
        &self,
        tenant: &TenantId,
        run: RunId,
        consent: &[RunId],
        tombstone: NewEvent,
    ) -> Result<(), EraseError> {
        erase::erase(&self.shared, tenant, run, consent, tombstone).await
    }
}

/// Runs what blocks away from the async threads.
async fn blocking<T, F>(shared: &Arc<Shared>, work: F) -> T
where
    F: FnOnce(&Shared) -> T + Send + 'static,
    T: Send + 'static,
{
    let shared = Arc::clone(shared);
    match tokio::task::spawn_blocking(move || work(&shared)).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Nobody aborts it, so the runtime is shutting down and drops the caller as well.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Milliseconds since the Unix epoch by this machine's clock.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
