//! How a sandbox comes to hold a snapshot: filled from nothing, or over files that are there.

use moat_core::{RunId, SnapshotId};
use moat_snapshot::{Listing, LoadError, RootName, Snapshots, Tree};

use super::base::Over;
use super::{RestoreError, SkipRules};
use crate::{Bases, Provider, Root, SandboxSpec};

/// A workspace from these bytes on is worth being kept.
const LARGE_BYTES: u64 = 64 << 20;
/// One from this many paths on is as well.
const LARGE_ENTRIES: usize = 4096;

/// Which sandbox is to hold what.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Who makes it.
    pub provider: &'a dyn Provider,
    /// What it is to be.
    pub spec: &'a SandboxSpec,
    /// Where snapshots are.
    pub snapshots: &'a Snapshots,
    /// What its checkpoints leave out.
    pub skip: &'a SkipRules,
    /// What it is to hold.
    pub snapshot: SnapshotId,
    /// Files that checkpoints leave out, if there are such.
    pub seed: Option<SnapshotId>,
    /// Where the runs come from that share its files.
    pub lineage: RunId,
}

/// What a sandbox is to hold, and what it lies over.
pub struct Filling {
    pub(super) snapshot: SnapshotId,
    pub(super) seed: Option<SnapshotId>,
    pub(super) how: How,
    pub(super) not_kept: Option<String>,
}

/// How it comes to hold that.
pub(super) enum How {
    /// All of it is put there.
    Whole(Tree),
    /// It lies over a workspace that is kept.
    Over(Box<Over>),
}

impl Filling {
    /// Finds what the sandbox can lie over; else reads what it is to hold. For a large workspace
    /// there is made something to lie over, which takes as long as filling a sandbox, once.
    pub async fn plan(wanted: Wanted<'_>) -> Result<Self, RestoreError> {
        let Some(bases) = wanted.provider.bases().filter(|_| lies_free(wanted.spec)) else {
            return Self::load(wanted).await;
        };
        if let Some(over) = Over::near(wanted, bases).await {
            return Ok(Self::of(wanted, over));
        }
        let whole = Self::load(wanted).await?;
        match &whole.how {
            How::Whole(tree) if is_large(&tree.workspace) => {
                match Self::kept(wanted, bases).await? {
                    Keeping::Kept(over) => Ok(Self::of(wanted, *over)),
                    Keeping::Left => Ok(whole),
                    Keeping::Failed(reason) => Ok(Self { not_kept: Some(reason), ..whole }),
                }
            }
            _ => Ok(whole),
        }
    }

    /// Reads what the sandbox is to hold. It is to be filled whole.
    pub async fn load(wanted: Wanted<'_>) -> Result<Self, RestoreError> {
        let tree = whole(wanted.snapshots, wanted.snapshot, wanted.seed).await?;
        Ok(Self::new(wanted, How::Whole(tree)))
    }

    fn of(wanted: Wanted<'_>, over: Over) -> Self {
        Self::new(wanted, How::Over(Box::new(over)))
    }

    fn new(wanted: Wanted<'_>, how: How) -> Self {
        Self { snapshot: wanted.snapshot, seed: wanted.seed, how, not_kept: None }
    }

    /// Why the workspace could not be kept for others to lie over, if that was tried.
    pub fn not_kept(&self) -> Option<&str> {
        self.not_kept.as_deref()
    }

    /// What [`SandboxSpec::base`] is to be.
    pub fn base_snapshot(&self) -> Option<SnapshotId> {
        match &self.how {
            How::Whole(_) => None,
            How::Over(over) => Some(over.base),
        }
    }

    /// Has the workspace kept first, unless somebody just did.
    async fn kept(wanted: Wanted<'_>, bases: &dyn Bases) -> Result<Keeping, RestoreError> {
        // What is left out of checkpoints is put over it each time.
        let own = wanted.snapshots.load_root(wanted.snapshot, RootName::Workspace).await?;
        if !is_large(&own) {
            return Ok(Keeping::Left);
        }
        let Some(_turn) = bases.turn().await else { return Ok(Keeping::Left) };
        if let Some(over) = Over::near(wanted, bases).await {
            return Ok(Keeping::Kept(Box::new(over)));
        }
        match Over::make(wanted, bases, own).await {
            Ok(over) => Ok(Keeping::Kept(Box::new(over))),
            Err(error) => {
                let reason = error.to_string();
                bases.failed(reason.clone()).await;
                Ok(Keeping::Failed(reason))
            }
        }
    }
}

/// What came of keeping a workspace.
enum Keeping {
    Kept(Box<Over>),
    /// It is too small, or somebody else is at it.
    Left,
    Failed(String),
}

/// A snapshot's tree, with the files of `seed` in its workspace.
pub(super) async fn whole(
    snapshots: &Snapshots,
    snapshot: SnapshotId,
    seed: Option<SnapshotId>,
) -> Result<Tree, RestoreError> {
    let mut tree = snapshots.load(snapshot).await?;
    if let Some(seed) = seed {
        let seed = snapshots.load_root(seed, RootName::Workspace).await?;
        tree.workspace = tree.workspace.beside(&seed).map_err(LoadError::Invalid)?;
    }
    Ok(tree)
}

fn is_large(workspace: &Listing) -> bool {
    workspace.bytes() >= LARGE_BYTES || workspace.entries().len() >= LARGE_ENTRIES
}

/// Whether nothing is shown within the workspace, whose places would be made beside its files.
fn lies_free(spec: &SandboxSpec) -> bool {
    !spec.mounts.iter().any(|mount| mount.target.starts_with(Root::Workspace.path()))
}
