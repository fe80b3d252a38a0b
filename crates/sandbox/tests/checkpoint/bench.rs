//! A plain guest and a store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use moat_blobs::{FolderObjects, PackedBlobs, PackedOptions};
use moat_core::{CallKey, Epoch, RunId, SealingKey, Seq, TenantKey};
use moat_sandbox::checkpoint::{Checkpointer, SkipRules};
use moat_sandbox::plain::PlainProvider;
use moat_sandbox::{Command, Guest, Provider, Root, Sandbox, SandboxSpec};
use moat_snapshot::Snapshots;

pub(crate) fn store() -> (tempfile::TempDir, Snapshots) {
    store_of(Some(SealingKey::new(&[2; 32])))
}

/// Sealing is slow where it is not optimised: for tests of much data.
pub(crate) fn unsealed() -> (tempfile::TempDir, Snapshots) {
    store_of(None)
}

fn store_of(sealing: Option<SealingKey>) -> (tempfile::TempDir, Snapshots) {
    let dir = tempfile::tempdir().unwrap();
    let key = TenantKey::new([1; 32]);
    let options = PackedOptions { sealing, ..PackedOptions::default() };
    let objects = Arc::new(FolderObjects::new(dir.path()));
    let blobs = PackedBlobs::new(objects, *Snapshots::blob_key(&key), options);
    let snapshots = Snapshots::new(Arc::new(blobs), &key);
    (dir, snapshots)
}

/// The packs in a store's folder, the newest last.
pub(crate) fn packs(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("packs")).unwrap();
    let mut packs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    packs.sort_by_key(|pack| pack.metadata().unwrap().modified().unwrap());
    packs
}

/// A guest in a temporary folder, ended with this.
pub(crate) struct Bench {
    pub(crate) guest: Arc<dyn Guest>,
    sandbox: Box<dyn Sandbox>,
    run: RunId,
    _folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run = RunId::generate();
        let spec = SandboxSpec {
            orphan_grace: Duration::from_secs(20),
            ..SandboxSpec::new(run, Epoch(1))
        };
        let sandbox = PlainProvider::new(folder.path()).create(&spec).await.unwrap();
        Self { guest: sandbox.guest(), sandbox, run, _folder: folder }
    }

    pub(crate) fn checkpointer(&self, snapshots: &Snapshots) -> Checkpointer {
        self.checkpointer_over(self.guest.clone(), snapshots)
    }

    pub(crate) fn checkpointer_over(
        &self,
        guest: Arc<dyn Guest>,
        snapshots: &Snapshots,
    ) -> Checkpointer {
        Checkpointer::new(guest, snapshots.clone(), SkipRules::default())
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        PlainProvider::root(&self.sandbox.handle(), Root::Workspace).unwrap()
    }

    pub(crate) fn home(&self) -> PathBuf {
        PlainProvider::root(&self.sandbox.handle(), Root::Home).unwrap()
    }

    pub(crate) fn put(&self, path: impl AsRef<Path>, content: &[u8]) {
        let path = self.workspace().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn key(&self, seq: u64) -> CallKey {
        CallKey { run: self.run, seq: Seq(seq), index: 0, attempt: 1 }
    }

    pub(crate) fn shell(&self, seq: u64, script: &str) -> Command {
        Command {
            key: self.key(seq),
            argv: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            cwd: "/workspace".into(),
            environment: BTreeMap::new(),
            tty: None,
            user: None,
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = PlainProvider::kill(&self.sandbox.handle());
    }
}
