use std::io;
use std::path::PathBuf;

use moat_archive::ArchiveError;
use moat_core::Retryable;
use moat_snapshot::{CommitError, InvalidTree, LoadError, PutError};

use crate::manifest::ManifestError;

/// Why a manifest could not be made into a workspace. There is no snapshot then.
#[derive(Debug, thiserror::Error)]
pub enum MaterialiseError {
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A source lies where sources may not be read.
    #[error(
        "`{}` is not beneath a folder that may be read; sources lie in the agent's folder unless another is allowed",
        path.display()
    )]
    NotAllowed {
        /// The source.
        path: PathBuf,
    },
    /// A file or folder of the host could not be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Host {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the host kept changing while it was read.
    #[error("`{}` kept changing while it was being read; try again when it rests", path.display())]
    Changing {
        /// Which.
        path: PathBuf,
    },
    /// A repository could not be fetched.
    #[error("cannot fetch `{url}`: {source}")]
    Git {
        /// Its address, without credentials.
        url: String,
        /// What went wrong.
        source: GitError,
    },
    /// The sources are more than a workspace is made of.
    #[error(
        "`{}` is too much: the sources would have more than {limit} {what} together; leave some out with `.moatignore`, or mount them",
        path.display()
    )]
    TooMuch {
        /// The path of a source at which it was too much.
        path: PathBuf,
        /// Of what there is too much.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// An archive is refused.
    #[error("`{}`: {source}", path.display())]
    Archive {
        /// Which.
        path: PathBuf,
        /// Why, with the member that is to blame.
        source: ArchiveError,
    },
    /// Storage elsewhere could not be copied.
    #[error("cannot copy `{remote}`: {message}")]
    Remote {
        /// Which.
        remote: String,
        /// What went wrong, and what to do about it.
        message: String,
    },
    /// What was found makes no tree.
    #[error("cannot make the workspace: {0}")]
    Tree(#[from] InvalidTree),
    /// A content could not be stored.
    #[error("cannot keep a copy of the workspace: {0}")]
    Put(#[from] PutError),
    /// The snapshot could not be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// What was just stored could not be read again.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The walk ended without saying how: the runtime is shutting down.
    #[error("the work was given up")]
    GivenUp,
}

impl Retryable for MaterialiseError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Put(error) => error.is_retryable(),
            Self::Commit(error) => error.is_retryable(),
            Self::Load(error) => error.is_retryable(),
            Self::Git { source, .. } => source.is_retryable(),
            Self::Changing { .. } | Self::Remote { .. } => true,
            Self::Manifest(_)
            | Self::NotAllowed { .. }
            | Self::Host { .. }
            | Self::TooMuch { .. }
            | Self::Archive { .. }
            | Self::Tree(_)
            | Self::GivenUp => false,
        }
    }
}

/// Why a repository could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git.
    #[error("git could not be started: {0}")]
    Start(io::Error),
    /// Git failed.
    #[error("git {step} failed: {message}")]
    Failed {
        /// Which command.
        step: &'static str,
        /// The end of what git said, without credentials.
        message: String,
    },
    /// It took too long.
    #[error("git {step} took longer than {seconds} seconds")]
    TimedOut {
        /// Which command.
        step: &'static str,
        /// How long it was allowed to take.
        seconds: u64,
    },
    /// It has more than a workspace is made of.
    #[error("it is refused at `{at}`: it has more than {limit} {what}")]
    TooMuch {
        /// The path at which it was too much; what was being fetched, where no path is known.
        at: String,
        /// Of what there is too much.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// The reference is another commit than the manifest says.
    #[error("it is at commit {found}, and the manifest asks for {wanted}")]
    OtherCommit {
        /// What the manifest asks for.
        wanted: String,
        /// What was found.
        found: String,
    },
    /// A submodule is refused.
    #[error("the submodule `{name}` {reason}")]
    Submodule {
        /// Its name.
        name: String,
        /// Why, as the rest of a sentence.
        reason: String,
    },
    /// A credential could not be read.
    #[error("the credential `{name}`: {reason}")]
    Credential {
        /// Its name.
        name: String,
        /// What went wrong, and what to do about it.
        reason: String,
    },
    /// The cache of repositories could not be used.
    #[error("cannot use the cache of repositories: {0}")]
    Cache(io::Error),
    /// What the cache has of it is of no use.
    #[error("what the cache has of it is damaged")]
    CacheUnusable,
    /// The commit has no such folder.
    #[error("it has no folder `{0}`")]
    NoSubpath(String),
}

impl Retryable for GitError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Failed { step: "fetch", .. } | Self::TimedOut { .. })
    }
}
