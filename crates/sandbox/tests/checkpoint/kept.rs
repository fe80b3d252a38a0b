//! A provider that is to keep workspaces and cannot.

use async_trait::async_trait;
use moat_core::{Epoch, RunId, SnapshotId};
use moat_sandbox::checkpoint::{Filling, SkipRules, Wanted};
use moat_sandbox::plain::PlainProvider;
use moat_sandbox::{Bases, Provider, Sandbox, SandboxError, SandboxSpec};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use crate::bench::{Bench, store};

struct Full {
    plain: PlainProvider,
    turn: Mutex<()>,
    noted: Mutex<Vec<String>>,
}

#[async_trait]
impl Provider for Full {
    fn name(&self) -> &'static str {
        self.plain.name()
    }

    fn bases(&self) -> Option<&dyn Bases> {
        Some(self)
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Box<dyn Sandbox>, SandboxError> {
        self.plain.create(spec).await
    }

    async fn reattach(
        &self,
        handle: &Value,
        epoch: Epoch,
    ) -> Result<Option<Box<dyn Sandbox>>, SandboxError> {
        self.plain.reattach(handle, epoch).await
    }

    async fn destroy(&self, handle: &Value) -> Result<(), SandboxError> {
        self.plain.destroy(handle).await
    }
}

#[async_trait]
impl Bases for Full {
    async fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        Some(self.turn.lock().await)
    }

    async fn failed(&self, reason: String) {
        self.noted.lock().await.push(reason);
    }

    async fn find(&self, _: SnapshotId, _: RunId) -> Option<SnapshotId> {
        None
    }

    async fn keep(
        &self,
        handle: &Value,
        _: SnapshotId,
        _: RunId,
        _: Vec<u8>,
    ) -> Result<(), SandboxError> {
        self.plain.destroy(handle).await?;
        let (step, message) = ("keep the workspace".to_owned(), "the disk is full".to_owned());
        Err(SandboxError::Setup { step, message })
    }

    async fn notes(&self, _: SnapshotId) -> Option<Vec<u8>> {
        None
    }
}

#[tokio::test]
async fn a_workspace_that_cannot_be_kept_says_why() {
    let (_dir, snapshots) = store();
    let bench = Bench::new().await;
    bench.put("small", b"1");
    let mut checkpoints = bench.checkpointer(&snapshots);
    let small = checkpoints.checkpoint().await.unwrap().snapshot;
    for number in 0..4100 {
        bench.put(format!("many/{number}"), b"");
    }
    let large = checkpoints.checkpoint().await.unwrap().snapshot;
    let folder = tempfile::tempdir().unwrap();
    let (turn, noted) = (Mutex::default(), Mutex::default());
    let provider = Full { plain: PlainProvider::new(folder.path()), turn, noted };
    let spec = SandboxSpec::new(RunId::generate(), Epoch(1));
    let skip = SkipRules::default();
    for (snapshot, is_told) in [(small, false), (large, true)] {
        let filling = Filling::plan(Wanted {
            provider: &provider,
            spec: &spec,
            snapshots: &snapshots,
            skip: &skip,
            snapshot,
            seed: None,
            lineage: spec.run,
        });
        let filling = filling.await.unwrap();
        assert!(filling.base_snapshot().is_none());
        let told = filling.not_kept().is_some_and(|reason| reason.contains("the disk is full"));
        assert_eq!(told, is_told, "{:?}", filling.not_kept());
    }
    assert_eq!(provider.noted.lock().await.len(), 1);
}
