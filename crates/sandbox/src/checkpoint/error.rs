use std::path::PathBuf;

use moat_core::{Retryable, SnapshotId};
use moat_snapshot::{CommitError, InvalidTree, LoadError, PutError};

use crate::GuestError;

/// Why there is no new checkpoint. The one before stays valid.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The sandbox failed, or said what cannot be.
    #[error("cannot save the sandbox's files: {0}")]
    Guest(#[from] GuestError),
    /// The sandbox named files that no tree can hold.
    #[error("cannot save the sandbox's files: {0}")]
    Tree(#[from] InvalidTree),
    /// A file kept changing while it was read.
    #[error(
        "`{}` kept changing while it was being saved ({tries} tries); stop what writes to it and try again",
        path.display()
    )]
    Changing {
        /// The file, beneath its root.
        path: PathBuf,
        /// How often it was tried.
        tries: u32,
    },
    /// There is more than a checkpoint takes.
    #[error(
        "{bytes} bytes are new since the last checkpoint, more than the {limit} that one takes; the largest file is `{}`",
        largest.display()
    )]
    TooLarge {
        /// New bytes.
        bytes: u64,
        /// What a checkpoint takes, in bytes.
        limit: u64,
        /// The largest of the new files.
        largest: PathBuf,
    },
    /// A content could not be stored.
    #[error("cannot save the sandbox's files: {0}")]
    Put(#[from] PutError),
    /// The snapshot could not be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Retryable for CheckpointError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Guest(error) => error.is_retryable(),
            Self::Changing { .. } => true,
            Self::Tree(_) | Self::TooLarge { .. } => false,
            Self::Put(error) => error.is_retryable(),
            Self::Commit(error) => error.is_retryable(),
        }
    }
}

/// Why a sandbox could not be filled. What is in it now is unknown: replace it.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot cannot be read.
    #[error("cannot restore: {0}")]
    Load(#[from] LoadError),
    /// A file's content is missing or damaged.
    #[error(
        "cannot restore `{}` of the snapshot {snapshot}: {source}; go on from an earlier snapshot, or put back what the store lost",
        path.display()
    )]
    Content {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The file, beneath its root.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<LoadError>,
    },
    /// The sandbox failed.
    #[error("cannot restore: {0}")]
    Guest(#[from] GuestError),
    /// The sandbox does not show what was put into it.
    #[error("cannot restore: `{}` did not come out as it was", path.display())]
    Differs {
        /// The first path that differs, beneath its root.
        path: PathBuf,
    },
}

impl Retryable for RestoreError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Load(error) => error.is_retryable(),
            Self::Content { source, .. } => source.is_retryable(),
            Self::Guest(error) => error.is_retryable(),
            Self::Differs { .. } => false,
        }
    }
}
