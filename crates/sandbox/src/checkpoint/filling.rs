//! How a sandbox comes to hold a snapshot: filled from nothing, or over files that are there.

use moat_core::{RunId, SnapshotId};
use moat_snapshot::{Listing, Snapshots, Tree};

use super::memory::Memory;
use super::over::Difference;
use super::restore::beside;
use super::{Checkpointer, RestoreError, SkipRules};
use crate::{Bases, Provider, Root, SandboxError, SandboxSpec};

/// Names what seals the notes on workspaces that are kept.
const PURPOSE: &str = "moat 2026 kept workspace v1";
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
    pub(super) tree: Tree,
    pub(super) base: Option<Base>,
}

/// A workspace that the provider keeps.
pub(super) struct Base {
    pub(super) snapshot: SnapshotId,
    pub(super) workspace: Listing,
    pub(super) memory: Memory,
}

impl Filling {
    /// Reads what the sandbox is to hold, and finds what it can lie over. For a large workspace
    /// there is made such a thing, which takes as long as filling a sandbox, once.
    pub async fn plan(wanted: Wanted<'_>) -> Result<Self, RestoreError> {
        let mut filling = Self::load(wanted).await?;
        if let Some(bases) = wanted.provider.bases().filter(|_| lies_free(wanted.spec)) {
            filling.base = Self::base(wanted, bases, &filling.tree).await;
        }
        Ok(filling)
    }

    /// Reads what the sandbox is to hold. It is to be filled whole.
    pub async fn load(wanted: Wanted<'_>) -> Result<Self, RestoreError> {
        let Wanted { snapshots, snapshot, .. } = wanted;
        let mut tree = snapshots.load(snapshot).await?;
        if let Some(seed) = wanted.seed {
            let seed = snapshots.load(seed).await?;
            tree.workspace = beside(&tree.workspace, &seed.workspace)?;
        }
        Ok(Self { snapshot, tree, base: None })
    }

    /// What [`SandboxSpec::base`] is to be.
    pub fn base_snapshot(&self) -> Option<SnapshotId> {
        self.base.as_ref().map(|base| base.snapshot)
    }

    /// Whatever goes wrong here costs time only: the sandbox is filled then, and says what is wrong
    /// with the snapshot, if anything is.
    async fn base(wanted: Wanted<'_>, bases: &dyn Bases, tree: &Tree) -> Option<Base> {
        if !is_large(&tree.workspace) {
            return None;
        }
        if let Some(base) = near(wanted, bases, tree).await {
            return Some(base);
        }
        let _turn = bases.turn().await;
        if let Some(base) = near(wanted, bases, tree).await {
            return Some(base);
        }
        // What is left out of checkpoints is put over it each time.
        let own = wanted.snapshots.load(wanted.snapshot).await.ok()?.workspace;
        if !is_large(&own) {
            return None;
        }
        make(wanted, bases, own).await.ok().flatten()
    }
}

fn is_large(workspace: &Listing) -> bool {
    workspace.bytes() >= LARGE_BYTES || workspace.entries().len() >= LARGE_ENTRIES
}

/// One from which the way is short: of this very snapshot, or with less than half to do.
async fn near(wanted: Wanted<'_>, bases: &dyn Bases, tree: &Tree) -> Option<Base> {
    let found = bases.find(wanted.snapshot, wanted.lineage).await?;
    let base = known(wanted, bases, found).await?;
    let way = Difference::between(&base.workspace, &tree.workspace)?;
    let most = tree.workspace.entries().len() / 2;
    let is_short =
        way.bytes <= tree.workspace.bytes() / 2 && way.made.len() <= most && way.gone <= most;
    (found == wanted.snapshot || is_short).then_some(base)
}

/// Whether nothing is shown within the workspace, whose places would be made beside its files.
fn lies_free(spec: &SandboxSpec) -> bool {
    !spec.mounts.iter().any(|mount| mount.target.starts_with(Root::Workspace.path()))
}

/// One that was kept earlier, with what was known of it then.
async fn known(wanted: Wanted<'_>, bases: &dyn Bases, snapshot: SnapshotId) -> Option<Base> {
    let sealed = bases.notes(snapshot).await?;
    let key = wanted.snapshots.sealing_key(PURPOSE);
    let memory = Memory::decode(&key.open(&snapshot.0, &sealed)?)?;
    let workspace = wanted.snapshots.load(snapshot).await.ok()?.workspace;
    Some(Base { snapshot, workspace, memory })
}

/// Fills a sandbox in which nothing ever runs, and has it kept. `None`: the sandbox does not show
/// exactly what it was given, so that nobody could tell later what changed.
async fn make(
    wanted: Wanted<'_>,
    bases: &dyn Bases,
    workspace: Listing,
) -> Result<Option<Base>, MakeError> {
    let Wanted { provider, spec, snapshots, snapshot, .. } = wanted;
    let plain = SandboxSpec {
        allow_missing: spec.allow_missing.clone(),
        limits: spec.limits,
        ..SandboxSpec::new(spec.run, spec.epoch)
    };
    let tree = Tree { workspace, home: Tree::empty().home };
    let sandbox = provider.create(&plain).await?;
    let mut filler = Checkpointer::new(sandbox.guest(), snapshots.clone(), SkipRules::default());
    let filled = filler.fill_whole(snapshot, &tree).await;
    let handle = sandbox.handle();
    let shown = match filled {
        Ok(shown) => shown,
        Err(error) => {
            // What is left of it is the reaper's.
            let _ = provider.destroy(&handle).await;
            return Err(error.into());
        }
    };
    // The root itself is the sandbox's own.
    if shown.entries() != tree.workspace.entries() {
        let _ = provider.destroy(&handle).await;
        return Ok(None);
    }
    let key = snapshots.sealing_key(PURPOSE);
    let notes = key.seal(&[], &snapshot.0, &filler.memory.encode()).map_err(|_| MakeError::Seal)?;
    bases.keep(&handle, snapshot, wanted.lineage, notes).await?;
    Ok(Some(Base { snapshot, workspace: tree.workspace, memory: filler.memory }))
}

/// Why there is nothing to lie over. Nobody is told: a sandbox that is filled instead says more.
#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("its notes cannot be sealed")]
    Seal,
}
