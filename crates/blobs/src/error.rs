use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use moat_core::{BlobId, Retryable};

use crate::ObjectError;

/// A blob could not be stored, made durable or deleted.
#[derive(Debug, thiserror::Error)]
pub enum WriteBlobError {
    /// No space, or no quota, is left. Nothing that was durable is lost.
    #[error("no space is left in `{}`; free some and try again", path.display())]
    Full {
        /// Where the space is missing.
        path: PathBuf,
    },
    /// The storage failed otherwise.
    #[error("cannot write to the blob store at `{}`: {source}", path.display())]
    Io {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store of objects beneath failed.
    #[error(transparent)]
    Objects(Arc<ObjectError>),
}

impl WriteBlobError {
    /// Whether space is missing, so that freeing some helps.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { .. } => false,
            Self::Objects(error) => {
                matches!(**error, ObjectError::Full { .. } | ObjectError::Floor { .. })
            }
        }
    }

    pub(crate) fn at(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, source },
        }
    }
}

impl Retryable for WriteBlobError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::Interrupted,
            Self::Objects(error) => error.is_retryable(),
        }
    }
}

/// A blob could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadBlobError {
    /// The store does not hold it.
    #[error("blob {id} is not in the store")]
    Missing {
        /// The blob that was asked for.
        id: BlobId,
    },
    /// The store holds other bytes under that name.
    #[error("blob {id} is damaged: its bytes do not have that hash under this key")]
    Damaged {
        /// The blob that was asked for.
        id: BlobId,
    },
    /// It is larger than the caller is ready to take.
    #[error("blob {id} holds {size} bytes, more than the {limit} that are allowed here")]
    TooLarge {
        /// The blob that was asked for.
        id: BlobId,
        /// Its size in bytes.
        size: u64,
        /// What the caller allowed, in bytes.
        limit: u64,
    },
    /// The storage failed otherwise.
    #[error("cannot read blob {id}: {source}")]
    Io {
        /// The blob that was asked for.
        id: BlobId,
        /// What the system said.
        source: io::Error,
    },
    /// The store of objects beneath failed.
    #[error("cannot read blob {id}: {source}")]
    Objects {
        /// The blob that was asked for.
        id: BlobId,
        /// What failed.
        source: Box<ObjectError>,
    },
}

impl ReadBlobError {
    pub(crate) fn at(id: BlobId, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { id },
            _ => Self::Io { id, source },
        }
    }
}

impl Retryable for ReadBlobError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::Interrupted,
            Self::Objects { source, .. } => source.is_retryable(),
            Self::Missing { .. } | Self::Damaged { .. } | Self::TooLarge { .. } => false,
        }
    }
}
