use std::io;
use std::path::PathBuf;

use moat_core::Retryable;
use moat_snapshot::LoadError;

/// Why changes could not be planned, written or taken back. What was done so far is on record:
/// resume or undo it.
#[derive(Debug, thiserror::Error)]
pub enum WriteBackError {
    /// The folder, or something in it, could not be read or written.
    #[error("cannot {verb} `{}`: {source}", path.display())]
    Host {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A snapshot or a content could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The record of an earlier write could not be read.
    #[error("the record `{}` is damaged: {source}", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A folder that is to be made is there already, with something in it.
    #[error("`{}` is there already and not empty; name a folder that is not", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// Another process writes for this run just now.
    #[error("another process is writing this run's changes; wait for it")]
    Busy,
    /// An earlier write was interrupted.
    #[error("an earlier write of this run was interrupted; resume it or undo it first")]
    Interrupted,
    /// Commits could not be taken over. Files are not affected.
    #[error("cannot take over the commits of the run: git {step} failed: {message}")]
    Git {
        /// Which command.
        step: &'static str,
        /// What git said, or the system about git.
        message: String,
    },
    /// The runtime is shutting down.
    #[error("the work was given up")]
    GivenUp,
}

impl WriteBackError {
    pub(crate) fn host(
        verb: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Host { verb, path: path.into(), source: source.into() }
    }
}

impl Retryable for WriteBackError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Load(error) => error.is_retryable(),
            Self::Host { source, .. } => {
                matches!(source.kind(), io::ErrorKind::Interrupted | io::ErrorKind::StorageFull)
            }
            Self::Busy => true,
            Self::Occupied { .. }
            | Self::Record { .. }
            | Self::Interrupted
            | Self::Git { .. }
            | Self::GivenUp => false,
        }
    }
}
