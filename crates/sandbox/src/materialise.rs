//! Host files become the first snapshot of a run.

use std::path::PathBuf;

use moat_core::{Retryable, SnapshotId};
use moat_snapshot::{CommitError, PutError, Snapshots, Tree};

use crate::manifest::{Manifest, ManifestError};

/// Where on the host the sources of a manifest may be.
#[derive(Clone, Debug)]
pub struct HostFolders {
    /// What relative sources are relative to: the agent's folder. Sources beneath it are allowed.
    pub base: PathBuf,
    /// Other folders beneath which sources may lie.
    pub allowed: Vec<PathBuf>,
}

impl HostFolders {
    /// Only this folder.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into(), allowed: Vec::new() }
    }

    /// Also this folder.
    #[must_use]
    pub fn allow(mut self, folder: impl Into<PathBuf>) -> Self {
        self.allowed.push(folder.into());
        self
    }
}

/// How far it is. Told at most every few milliseconds, and never after it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Files of the host are being read.
    Copying {
        /// Files so far.
        files: u64,
        /// Bytes so far.
        bytes: u64,
    },
    /// A repository is being fetched.
    Fetching {
        /// Its address, without credentials.
        url: String,
    },
}

/// The first snapshot of a run.
#[derive(Clone, Debug)]
pub struct Materialised {
    /// The snapshot: durable and verified.
    pub snapshot: SnapshotId,
    /// What is in it.
    pub tree: Tree,
    /// Paths of the workspace whose content, or whose credentials, were left out because they are
    /// likely secrets.
    pub masked: Vec<String>,
    /// Every path that is not as on the host, and why; those of `masked` as well.
    pub left_out: Vec<LeftOut>,
    /// Where the search for secrets in contents stopped, if it did not look at everything.
    pub search_stopped: Option<String>,
    /// The layout of the workspace, for the model.
    pub text: String,
    /// Instructions that the workspace holds for agents.
    pub agents_md: AgentsMd,
    /// The commit that is checked out, if the workspace itself is a git repository.
    pub git_head: Option<String>,
}

/// A path that is not as on the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// Relative to the workspace.
    pub path: String,
    /// Why, for people.
    pub reason: String,
}

/// Instructions that a workspace holds for agents: `AGENTS.md` at its root and at the root of each
/// entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentsMd {
    /// Path relative to the workspace, and content; outer ones first.
    pub files: Vec<(String, String)>,
    /// Says what was cut off to stay within 32 KiB; to be told to the model.
    pub cut: Option<String>,
    /// `AGENTS.md` files further down, at most 50; the model reads them itself.
    pub nested: Vec<String>,
}

/// Makes the first snapshot of a run from its manifest: all of it or nothing.
///
/// Reads of the host stay beneath the allowed folders and follow no link. The same manifest over
/// the same files gives the same snapshot.
pub async fn materialise(
    manifest: &Manifest,
    folders: &HostFolders,
    snapshots: &Snapshots,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Materialised, MaterialiseError> {
    let _ = (manifest, folders, snapshots, progress);
    Err(MaterialiseError::Unfinished)
}

/// Why a manifest could not be made into a workspace.
#[derive(Debug, thiserror::Error)]
pub enum MaterialiseError {
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A content could not be stored.
    #[error("cannot keep a copy of the workspace: {0}")]
    Put(#[from] PutError),
    /// The snapshot could not be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// This is a skeleton.
    #[error("not built yet")]
    Unfinished,
}

impl Retryable for MaterialiseError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Put(error) => error.is_retryable(),
            Self::Commit(error) => error.is_retryable(),
            _ => false,
        }
    }
}
