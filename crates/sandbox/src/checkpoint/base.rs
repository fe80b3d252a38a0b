//! Workspaces that the provider keeps, and what is known of them.
//!
//! The notes on one are `"moat-kept" version(1) entries:u64 bytes:u64 sealed(memory)`, little-endian;
//! what is sealed is bound to the snapshot and to what stands before it.

use std::collections::HashSet;
use std::path::PathBuf;

use futures_util::future::BoxFuture;
use moat_core::{SealingKey, SnapshotId};
use moat_snapshot::{Listing, LoadError, RootName, Tree};

use super::filling::{Wanted, whole};
use super::memory::Memory;
use super::over::{Difference, Way};
use super::{Checkpointer, RestoreError, SkipRules};
use crate::{Bases, SandboxError, SandboxSpec};

/// Names what seals the notes.
const PURPOSE: &str = "moat 2026 kept workspace v2";
const MAGIC: &[u8; 10] = b"moat-kept\x02";
const HEAD: usize = MAGIC.len() + 16;

/// What a sandbox that lies over a kept workspace is given.
pub(super) struct Over {
    /// Whose workspace that is.
    pub(super) base: SnapshotId,
    pub(super) way: Way,
    pub(super) home: Listing,
    /// Computes for long between what it waits for.
    pub(super) rest: BoxFuture<'static, Option<Rest>>,
}

/// What only the checkpoint that comes next asks for: it is read once the sandbox is in use.
pub(super) struct Rest {
    /// The workspace, and what is seeded in it.
    pub(super) workspace: Listing,
    /// What is known of those files that were there before.
    pub(super) memory: Memory,
}

impl Over {
    /// A kept workspace from which the way is short: of this very snapshot, or with less than half
    /// of it to do. Whatever goes wrong costs time only: the sandbox is filled then, and says what
    /// is wrong with the snapshot, if anything is.
    pub(super) async fn near(wanted: Wanted<'_>, bases: &dyn Bases) -> Option<Self> {
        let base = bases.find(wanted.snapshot, wanted.lineage).await?;
        let notes = Notes { base, bytes: bases.notes(base).await? };
        let (entries, bytes) = notes.size()?;
        let is_short = |way: &Difference<'_>| {
            let most = entries / 2;
            way.bytes <= bytes / 2 && way.made.len() as u64 <= most && way.gone as u64 <= most
        };
        let is_near = |way: &Difference<'_>| base == wanted.snapshot || is_short(way);
        if wanted.seed.is_none() {
            let differing = wanted.snapshots.differing(RootName::Workspace, base, wanted.snapshot);
            let (from, to) = differing.await.ok()?;
            let way = Difference::between(&from, &to).filter(is_near)?;
            // Their other names may be in folders that were not read.
            if !way.has_links {
                let way = way.way(&to);
                return Self::new(wanted, notes, way, None).await.ok();
            }
        }
        let from = wanted.snapshots.load_root(base, RootName::Workspace).await.ok()?;
        let to = whole(wanted.snapshots, wanted.snapshot, wanted.seed).await.ok()?.workspace;
        let way = Difference::between(&from, &to).filter(is_near)?.way(&to);
        Self::new(wanted, notes, way, Some(to)).await.ok()
    }

    /// Fills a sandbox in which nothing ever runs, and has its workspace kept.
    pub(super) async fn make(
        wanted: Wanted<'_>,
        bases: &dyn Bases,
        workspace: Listing,
    ) -> Result<Self, MakeError> {
        let Wanted { provider, spec, snapshots, snapshot, .. } = wanted;
        let plain = SandboxSpec {
            allow_missing: spec.allow_missing.clone(),
            limits: spec.limits,
            ..SandboxSpec::new(spec.run, spec.epoch)
        };
        let tree = Tree { workspace, home: Tree::empty().home };
        let sandbox = provider.create(&plain).await?;
        let mut filler =
            Checkpointer::new(sandbox.guest(), snapshots.clone(), SkipRules::default());
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
            return Err(MakeError::Shown);
        }
        let notes = Notes::seal(wanted, &tree.workspace, &filler.memory)?;
        bases.keep(&handle, snapshot, wanted.lineage, notes.bytes.clone()).await?;
        let to = whole(snapshots, snapshot, wanted.seed).await?.workspace;
        let way = Difference::between(&tree.workspace, &to).ok_or(MakeError::Seed)?.way(&to);
        Ok(Self::new(wanted, notes, way, Some(to)).await?)
    }

    /// `to` is the workspace, if it was read already.
    async fn new(
        wanted: Wanted<'_>,
        notes: Notes,
        way: Way,
        to: Option<Listing>,
    ) -> Result<Self, RestoreError> {
        let home = wanted.snapshots.load_root(wanted.snapshot, RootName::Home).await?;
        let (snapshots, snapshot) = (wanted.snapshots.clone(), wanted.snapshot);
        let (base, made) = (notes.base, way.made.clone());
        let key = snapshots.sealing_key(PURPOSE);
        let rest = async move {
            let memory = notes.open(&key, &made).unwrap_or_default();
            let workspace = match to {
                Some(workspace) => workspace,
                None => snapshots.load_root(snapshot, RootName::Workspace).await.ok()?,
            };
            Some(Rest { workspace, memory })
        };
        Ok(Self { base, way, home, rest: Box::pin(rest) })
    }
}

/// What was noted about a workspace when it was kept.
struct Notes {
    base: SnapshotId,
    bytes: Vec<u8>,
}

impl Notes {
    fn seal(wanted: Wanted<'_>, workspace: &Listing, memory: &Memory) -> Result<Self, MakeError> {
        let mut head = MAGIC.to_vec();
        head.extend((workspace.entries().len() as u64).to_le_bytes());
        head.extend(workspace.bytes().to_le_bytes());
        let key = wanted.snapshots.sealing_key(PURPOSE);
        let base = wanted.snapshot;
        let sealed = key.seal(&head, &bound(base, &head), &memory.encode());
        Ok(Self { base, bytes: sealed.map_err(|_| MakeError::Seal)? })
    }

    /// Paths, and bytes of the files. It decides about time only, so that it is not checked yet.
    fn size(&self) -> Option<(u64, u64)> {
        let (entries, rest) = self.bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
        let (bytes, _) = rest.split_first_chunk()?;
        Some((u64::from_le_bytes(*entries), u64::from_le_bytes(*bytes)))
    }

    /// What is known of all files but those that were made anew.
    fn open(self, key: &SealingKey, made: &HashSet<PathBuf>) -> Option<Memory> {
        let (head, sealed) = self.bytes.split_at_checked(HEAD)?;
        let mut memory = Memory::decode(&key.open(&bound(self.base, head), sealed)?)?;
        memory.forget(made);
        Some(memory)
    }
}

fn bound(base: SnapshotId, head: &[u8]) -> Vec<u8> {
    [base.0.as_slice(), head].concat()
}

/// Why there is nothing to lie over. A sandbox that is filled instead says more, if it is the
/// snapshot's fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("its notes cannot be sealed")]
    Seal,
    /// Nobody could tell later what changed.
    #[error("a sandbox of this host does not show the workspace exactly as it was saved")]
    Shown,
    #[error("what checkpoints leave out takes an attribute of a folder away")]
    Seed,
}
