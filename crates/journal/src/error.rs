use std::error::Error as StdError;
use std::path::PathBuf;

use moat_blobs::{ReadBlobError, WriteBlobError};
use moat_core::{Epoch, Retryable, RunId, Seq};

use crate::Holder;

/// The store beneath a journal failed. What was appended before is not lost.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No space is left. Nothing of the batch was written; the owner may go on once there is some.
    #[error("no space is left for the journal in `{}`; free some and try again", path.display())]
    Full {
        /// The data folder.
        path: PathBuf,
    },
    /// Another process kept the store to itself for too long.
    #[error(
        "another process has kept the journal in `{}` locked for {waited_ms} ms; if one is stopped, let it go on or end it",
        path.display()
    )]
    Busy {
        /// The data folder.
        path: PathBuf,
        /// How long this process waited, in milliseconds.
        waited_ms: u64,
    },
    /// The store may only be read.
    #[error("the journal in `{}` cannot be written: the folder or file is read-only", path.display())]
    ReadOnly {
        /// The data folder.
        path: PathBuf,
    },
    /// The store's file is damaged where it was touched. Other runs may still be readable.
    #[error("the journal in `{}` is damaged: {message}; run `moat verify` to see what is affected", path.display())]
    Damaged {
        /// The data folder.
        path: PathBuf,
        /// What the store said.
        message: String,
    },
    /// The journal is being shut down.
    #[error("the journal in `{}` was closed", path.display())]
    Closed {
        /// The data folder.
        path: PathBuf,
    },
    /// Something else.
    #[error("the journal in `{}` failed: {source}", path.display())]
    Other {
        /// The data folder.
        path: PathBuf,
        /// What the store said.
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl Retryable for StorageError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Busy { .. })
    }
}

/// A journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer Moat wrote it.
    #[error(
        "the journal in `{}` has format {found}, this Moat knows {known} at most; upgrade to use it",
        path.display()
    )]
    Newer {
        /// The data folder.
        path: PathBuf,
        /// The format's number in the file.
        found: i64,
        /// The newest format that this version can use.
        known: i64,
    },
    /// The file is there but is no journal.
    #[error("`{}` is not a journal of Moat; move it away or choose another data folder", path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Retryable for OpenError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Storage(storage) if storage.is_retryable())
    }
}

/// A run could not be made or taken.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// There is a run of that id already.
    #[error("run {run} exists already")]
    Exists {
        /// The run.
        run: RunId,
    },
    /// There is no such run.
    #[error("there is no run {run}")]
    NoSuchRun {
        /// The run.
        run: RunId,
    },
    /// Somebody owns it.
    #[error(
        "run {run} is held by process {}, silent for {} ms; take it over if that process hangs",
        holder.pid,
        holder.silent_ms
    )]
    Held {
        /// The run.
        run: RunId,
        /// Who owns it.
        holder: Holder,
    },
    /// Its bodies were destroyed, so it cannot go on.
    #[error("run {run} was erased")]
    Erased {
        /// The run.
        run: RunId,
    },
    /// The tenant's key is not the one that this run was written under.
    #[error("the tenant's key does not open run {run}: it is another key, or the run was altered")]
    WrongKey {
        /// The run.
        run: RunId,
    },
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Retryable for ClaimError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Held { .. } => true,
            Self::Storage(storage) => storage.is_retryable(),
            _ => false,
        }
    }
}

/// A batch could not be appended. Unless said otherwise, nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The run was taken over: this owner can append nothing any more.
    #[error(
        "run {run} was taken over: epoch {mine} may write nothing since epoch {current} began{}",
        holder.as_ref().map(|holder| format!(", held by process {}", holder.pid)).unwrap_or_default()
    )]
    Stale {
        /// The run.
        run: RunId,
        /// The epoch of this owner.
        mine: Epoch,
        /// The epoch that counts.
        current: Epoch,
        /// Who owns it now, if anybody does.
        holder: Option<Holder>,
    },
    /// The run was erased.
    #[error("run {run} was erased")]
    Erased {
        /// The run.
        run: RunId,
    },
    /// The journal's head is not where this owner left it: somebody altered the store.
    #[error("run {run} was altered: its head is at {found} instead of {expected}")]
    Altered {
        /// The run.
        run: RunId,
        /// The head as this owner knows it.
        expected: Seq,
        /// The head in the store.
        found: Seq,
    },
    /// The batch takes up an inbox entry that does not wait.
    #[error("run {run} has no waiting inbox entry `{id}`")]
    NotInInbox {
        /// The run.
        run: RunId,
        /// The entry's id.
        id: String,
    },
    /// The batch is beyond what a journal takes.
    #[error("the batch cannot be appended: {what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
    /// An earlier append of this owner was given up or failed half-way, so that what the journal
    /// holds is not known here: drop the owner, claim the run again and read.
    #[error("run {run}: whether the last append happened is not known; claim the run again")]
    Uncertain {
        /// The run.
        run: RunId,
    },
    /// A large body could not be stored.
    #[error(transparent)]
    Blob(#[from] WriteBlobError),
    /// The head could not be recorded outside the data folder. The events are durable.
    #[error("cannot record the anchor in `{}`: {source}", path.display())]
    Anchor {
        /// The folder of anchors.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Retryable for AppendError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Storage(storage) => storage.is_retryable(),
            Self::Blob(blob) => blob.is_retryable(),
            Self::Anchor { .. } => true,
            _ => false,
        }
    }
}

/// Events or rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such run.
    #[error("there is no run {run}")]
    NoSuchRun {
        /// The run.
        run: RunId,
    },
    /// An event is damaged. Everything before it is readable.
    #[error("event {seq} of run {run} is damaged: {message}; everything before it can be read")]
    Damaged {
        /// The run.
        run: RunId,
        /// The first damaged event.
        seq: Seq,
        /// What is wrong with it.
        message: String,
    },
    /// The tenant's key is not the one that this run was written under.
    #[error("the tenant's key does not open run {run}: it is another key, or the run was altered")]
    WrongKey {
        /// The run.
        run: RunId,
    },
    /// A large body could not be read.
    #[error("event {seq} of run {run}: {source}")]
    Blob {
        /// The run.
        run: RunId,
        /// The event.
        seq: Seq,
        /// What is wrong with it.
        source: ReadBlobError,
    },
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Retryable for ReadError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Storage(storage) => storage.is_retryable(),
            Self::Blob { source, .. } => source.is_retryable(),
            _ => false,
        }
    }
}

/// An entry could not be put into an inbox.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// There is no such run.
    #[error("there is no run {run}")]
    NoSuchRun {
        /// The run.
        run: RunId,
    },
    /// The run was erased.
    #[error("run {run} was erased")]
    Erased {
        /// The run.
        run: RunId,
    },
    /// The entry is beyond what an inbox takes.
    #[error("the entry cannot be put into the inbox: {what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
    /// Too many entries wait already.
    #[error("the inbox of run {run} holds {limit} waiting entries and takes no more")]
    Full {
        /// The run.
        run: RunId,
        /// How many may wait.
        limit: usize,
    },
    /// The tenant's key is not the one that this run was written under.
    #[error("the tenant's key does not open run {run}: it is another key, or the run was altered")]
    WrongKey {
        /// The run.
        run: RunId,
    },
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Retryable for InboxError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Storage(storage) => storage.is_retryable(),
            _ => false,
        }
    }
}

/// A verification could not be carried out. What it finds wrong is in its report, not here.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no such run, and no anchor of it.
    #[error("there is no run {run}")]
    NoSuchRun {
        /// The run.
        run: RunId,
    },
    /// The anchors could not be read.
    #[error("cannot read the anchors in `{}`: {source}", path.display())]
    Anchors {
        /// The folder of anchors.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Retryable for VerifyError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Storage(storage) if storage.is_retryable())
    }
}

/// A run could not be erased. Unless said otherwise, nothing was.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// There is no such run.
    #[error("there is no run {run}")]
    NoSuchRun {
        /// The run.
        run: RunId,
    },
    /// It, or a run that would go with it, is owned.
    #[error("run {run} is held by process {}; it has to end first", holder.pid)]
    Held {
        /// The run that is owned.
        run: RunId,
        /// Who owns it.
        holder: Holder,
    },
    /// Living forks share its key and would go with it.
    #[error(
        "{} would be erased as well, because forks share the key of their source; name each to consent",
        forks.iter().map(RunId::to_string).collect::<Vec<_>>().join(", ")
    )]
    Forks {
        /// The runs that were not named.
        forks: Vec<RunId>,
    },
    /// The tombstone is beyond what a journal takes.
    #[error("the tombstone cannot be appended: {what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
    /// The key and the bodies are destroyed, but traces of them could not be cleared from the
    /// store's files yet: erase once more.
    #[error(
        "run {run} is erased, but old bytes are not cleared from the files yet: {reason}; erase it once more"
    )]
    Unfinished {
        /// The run.
        run: RunId,
        /// What was in the way.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Retryable for EraseError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Held { .. } | Self::Unfinished { .. } => true,
            Self::Storage(storage) => storage.is_retryable(),
            _ => false,
        }
    }
}
