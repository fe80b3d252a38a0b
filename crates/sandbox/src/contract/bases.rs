use async_trait::async_trait;
use moat_core::{RunId, SnapshotId};
use serde_json::Value;
use tokio::sync::MutexGuard;

use super::SandboxError;

/// Workspaces that a provider keeps as they were filled, so that other sandboxes lie over them
/// instead of being filled: making one then costs what differs, not what there is.
///
/// What is kept is a cache of this machine. Only a sandbox in which nothing ran becomes one, so
/// that each is what verified bytes made it, and nobody writes into one again.
#[async_trait]
pub trait Bases: Send + Sync {
    /// Waits until nobody else of this process makes one, so that several who need the same do not
    /// each make it. `None`: this host turned out not to be able to, and nothing is to be made.
    async fn turn(&self) -> Option<MutexGuard<'_, ()>>;

    /// Takes note of why one could not be made, for those who wonder why sandboxes are filled.
    async fn failed(&self, reason: String);

    /// The one of this very snapshot; else the latest of the same lineage; else none.
    async fn find(&self, snapshot: SnapshotId, lineage: RunId) -> Option<SnapshotId>;

    /// Ends a sandbox in which nothing ran, and keeps its workspace as that of `snapshot`. `notes`
    /// are given back by [`Bases::notes`]. When it fails the sandbox is gone all the same.
    async fn keep(
        &self,
        handle: &Value,
        snapshot: SnapshotId,
        lineage: RunId,
        notes: Vec<u8>,
    ) -> Result<(), SandboxError>;

    /// What was noted about one when it was kept.
    async fn notes(&self, base: SnapshotId) -> Option<Vec<u8>>;
}
