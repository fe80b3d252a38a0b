//! Host files become the first snapshot of a run.
//!
//! The manifest's entries are checked as a whole before anything is read. A thread then walks each
//! source and sends what it finds through a bounded channel; contents are stored side by side, and
//! at the end one commit makes the snapshot. If anything fails there is no snapshot.

mod agents_md;
mod archive;
mod check;
mod collect;
mod copy;
mod error;
mod git;
mod git_config;
mod host;
mod limits;
mod mounts;
mod remote;
mod secrets;
mod skill;
mod tokens;
mod walk;

use std::path::{Path, PathBuf};

use moat_core::{EphemeralFiles, MountRecord, Secret, SnapshotId};
use moat_snapshot::{Entry, Listing, Meta, Node, Snapshots, Tree};

use crate::manifest::{DEFAULT_DEPTH, DEFAULT_MAX_CHARS, Manifest, ManifestError};

pub use agents_md::AgentsMd;
pub use error::{GitError, MaterialiseError};
pub use git::{CredentialSource, Credentials};
pub use limits::SourceLimits;
pub use remote::{RemoteCopier, Remotes};
pub use secrets::{SECRET_NAMES, SecretName};

use collect::{Collected, Context};
use tokens::Search;

/// Where the workspace is in a sandbox.
const WORKSPACE: &str = "/workspace";

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
    /// What copies storage elsewhere.
    pub remotes: RemoteCopier,
    /// What reads the secrets that entries name.
    pub credentials: CredentialSource,
    /// The socket of the caller's SSH agent, for repositories.
    pub ssh_agent: Option<PathBuf>,
    /// Where repositories are kept between runs; `None`: each is fetched anew.
    pub git_cache: Option<PathBuf>,
    /// How much all sources may bring.
    pub limits: SourceLimits,
}

impl HostFolders {
    /// Only this folder.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        let (base, scratch) = (base.into(), "/tmp".into());
        Self {
            base,
            allowed: Vec::new(),
            scratch,
            secrets: Vec::new(),
            remotes: RemoteCopier::default(),
            credentials: CredentialSource::default(),
            ssh_agent: None,
            git_cache: None,
            limits: SourceLimits::default(),
        }
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

/// How far it is. Told every few hundred files and before each fetch and each entry.
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
    /// What checkpoints are to leave out, and what a fresh sandbox has there.
    pub ephemeral: Option<EphemeralFiles>,
    /// What is to be mounted into every sandbox of the run.
    pub mounts: Vec<MountRecord>,
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
    let check::Checked { sources, mounts, mut layout } = check::check(manifest)?;
    let search = Search::new(&folders.secrets);
    let mut collected = Collected { search, ..Collected::default() };
    let context = Context { folders, snapshots, progress };
    collect::collect_all(sources, context, &mut collected).await?;
    let Collected { root, entries, entry_roots, search, descriptions, ephemeral, .. } = collected;
    let (entries, seed) = without_ephemeral(entries, &ephemeral);
    let workspace = Listing::from_entries(root.unwrap_or_else(Meta::folder), entries)?;
    let tree = Tree { workspace, home: Listing::new(Meta::folder()) };
    let ephemeral = keep_seed(seed, &ephemeral, snapshots).await?;
    let snapshot = snapshots.commit(&tree).await?.snapshot;

    let (mut masked, mut left_out) = (collected.masked, collected.left_out);
    masked.sort();
    masked.dedup();
    left_out.sort();
    for (path, description) in &descriptions {
        layout.describe(path, description);
    }
    collect::show_top(&mut layout, manifest, &tree);
    Ok(Materialised {
        text: layout.render(WORKSPACE, Some(DEFAULT_DEPTH), DEFAULT_MAX_CHARS)?,
        agents_md: agents_md::find(&tree, &entry_roots, snapshots).await?,
        git_head: git::head_of(&tree, snapshots).await?,
        search_stopped: search.stopped(),
        snapshot,
        tree,
        masked,
        left_out,
        ephemeral,
        mounts,
    })
}

/// What a manifest is, without reading anything of the host: the layout as the model would see it,
/// and what would be mounted.
///
/// # Errors
///
/// If the manifest is wrong.
pub fn outline(manifest: &Manifest) -> Result<(String, Vec<MountRecord>), ManifestError> {
    let checked = check::check(manifest)?;
    let text = checked.layout.render(WORKSPACE, Some(DEFAULT_DEPTH), DEFAULT_MAX_CHARS)?;
    Ok((text, checked.mounts))
}

/// Splits off what checkpoints leave out, with the folders above it.
fn without_ephemeral(entries: Vec<Entry>, ephemeral: &[PathBuf]) -> (Vec<Entry>, Vec<Entry>) {
    let (seed, kept): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|entry| ephemeral.iter().any(|path| entry.path.starts_with(path)));
    let is_above = |entry: &&Entry| {
        entry.node == Node::Dir && ephemeral.iter().any(|path| path.starts_with(&entry.path))
    };
    let above: Vec<_> = kept.iter().filter(is_above).cloned().collect();
    (kept, [above, seed].concat())
}

async fn keep_seed(
    seed: Vec<Entry>,
    paths: &[PathBuf],
    snapshots: &Snapshots,
) -> Result<Option<EphemeralFiles>, MaterialiseError> {
    if paths.is_empty() {
        return Ok(None);
    }
    let workspace = Listing::from_entries(Meta::folder(), seed)?;
    let tree = Tree { workspace, home: Listing::new(Meta::folder()) };
    let snapshot = snapshots.commit(&tree).await?.snapshot;
    Ok(Some(EphemeralFiles { paths: paths.iter().map(|path| shown(path)).collect(), snapshot }))
}

/// A path for people.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
