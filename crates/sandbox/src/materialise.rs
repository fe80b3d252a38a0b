//! Host files become the first snapshot of a run.
//!
//! The manifest's entries are checked as a whole before anything is read. A thread then walks each
//! source and sends what it finds through a bounded channel; contents are stored side by side, and
//! at the end one commit makes the snapshot. If anything fails there is no snapshot.

mod agents_md;
mod copy;
mod error;
mod git;
mod git_config;
mod host;
mod plan;
mod secrets;
mod tokens;
mod walk;

use std::path::{Path, PathBuf};

use moat_core::{Secret, SnapshotId};
use moat_snapshot::{Listing, Meta, Snapshots, Tree};

use crate::Root;
use crate::manifest::{DEFAULT_DEPTH, DEFAULT_MAX_CHARS, Manifest};

pub use agents_md::AgentsMd;
pub use error::{GitError, MaterialiseError};
pub use secrets::{SECRET_NAMES, SecretName};

use plan::Collected;
use tokens::Search;

/// Where on the host the sources of a manifest may be.
#[derive(Clone, Debug)]
pub struct HostFolders {
    /// What relative sources are relative to: the agent's folder. Sources beneath it are allowed.
    pub base: PathBuf,
    /// Other folders beneath which sources may lie.
    pub allowed: Vec<PathBuf>,
    /// Where repositories are fetched to before they are copied; `/tmp` by default.
    pub scratch: PathBuf,
    /// Values that no copied file may hold: the caller's own keys.
    pub secrets: Vec<Secret>,
}

impl HostFolders {
    /// Only this folder.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        let (base, scratch) = (base.into(), "/tmp".into());
        Self { base, allowed: Vec::new(), scratch, secrets: Vec::new() }
    }

    /// Also this folder.
    #[must_use]
    pub fn allow(mut self, folder: impl Into<PathBuf>) -> Self {
        self.allowed.push(folder.into());
        self
    }

    /// Files that hold one of these values are left out.
    #[must_use]
    pub fn without(mut self, secrets: &[Secret]) -> Self {
        self.secrets.extend_from_slice(secrets);
        self
    }

    /// Repositories are fetched to a private folder in this one.
    #[must_use]
    pub fn scratch(mut self, folder: impl Into<PathBuf>) -> Self {
        self.scratch = folder.into();
        self
    }
}

/// How far it is. Told every few hundred files and before each fetch.
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

/// Makes the first snapshot of a run from its manifest: all of it or nothing.
///
/// Reads of the host stay beneath the allowed folders and follow no link out of them. Local folders
/// that are as they were give the snapshot that they gave.
///
/// # Errors
///
/// If the manifest is wrong, a source is missing or lies elsewhere, a file keeps changing while it
/// is read, a repository cannot be fetched, or the snapshot cannot be stored.
pub async fn materialise(
    manifest: &Manifest,
    folders: &HostFolders,
    snapshots: &Snapshots,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Materialised, MaterialiseError> {
    let (sources, layout) = plan::check(manifest)?;
    let search = Search::new(&folders.secrets);
    let mut collected = Collected { search, ..Collected::default() };
    for source in sources {
        plan::collect(source, folders, snapshots, progress, &mut collected).await?;
    }
    let Collected { root, entries, entry_roots, mut masked, mut left_out, search, .. } = collected;
    let workspace = Listing::from_entries(root.unwrap_or_else(Meta::folder), entries)?;
    let tree = Tree { workspace, home: Listing::new(Meta::folder()) };
    let snapshot = snapshots.commit(&tree).await?.snapshot;

    masked.sort();
    masked.dedup();
    left_out.sort();
    let mut layout = layout;
    plan::show_top(&mut layout, manifest, &tree);
    let root = Root::Workspace.path().to_string_lossy();
    Ok(Materialised {
        text: layout.render(&root, Some(DEFAULT_DEPTH), DEFAULT_MAX_CHARS)?,
        agents_md: agents_md::find(&tree, &entry_roots, snapshots).await?,
        git_head: git::head_of(&tree, snapshots).await?,
        search_stopped: search.stopped(),
        snapshot,
        tree,
        masked,
        left_out,
    })
}

/// A path for people.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
