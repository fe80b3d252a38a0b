//! A store that fails at any of its writes: nothing is reported committed that is not, and what was
//! committed before comes back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use moat_blobs::{
    FolderObjects, Lease, ListedObject, ObjectError, Objects, PackedBlobs, PackedOptions,
};
use moat_core::{Retryable, SnapshotId, TenantKey};
use moat_snapshot::{CommitError, Entry, Listing, Meta, Node, Snapshots, Tree};

/// Objects in a folder, of which one cannot be written.
struct Failing {
    objects: FolderObjects,
    /// Writes before it.
    good: AtomicUsize,
    /// It is written all the same, and only nobody hears of it.
    is_written: bool,
}

#[async_trait]
impl Objects for Failing {
    fn place(&self) -> String {
        self.objects.place()
    }
    fn is_near(&self) -> bool {
        self.objects.is_near()
    }
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, ObjectError> {
        let good = self.good.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if good.is_ok() || !name.starts_with("packs/") {
            return self.objects.create(name, bytes).await;
        }
        if self.is_written {
            self.objects.create(name, bytes).await?;
        }
        Err(ObjectError::Full { place: self.place() })
    }
    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, ObjectError> {
        self.objects.get(name, limit).await
    }
    async fn read(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        self.objects.read(name, offset, length).await
    }
    async fn list(&self, folder: &str) -> Result<Vec<ListedObject>, ObjectError> {
        self.objects.list(folder).await
    }
    async fn remove(&self, name: &str) -> Result<bool, ObjectError> {
        self.objects.remove(name).await
    }
    async fn lease(&self) -> Result<Box<dyn Lease>, ObjectError> {
        self.objects.lease().await
    }
    async fn leases(&self) -> Result<Vec<u64>, ObjectError> {
        self.objects.leases().await
    }
    async fn free_bytes(&self) -> Result<Option<u64>, ObjectError> {
        self.objects.free_bytes().await
    }
}

fn over(objects: Arc<dyn Objects>) -> Snapshots {
    let key = TenantKey::new([1; 32]);
    let packs = PackedBlobs::new(objects, *Snapshots::blob_key(&key), PackedOptions::default());
    Snapshots::new(Arc::new(packs), &key)
}

fn healthy(dir: &Path) -> Snapshots {
    over(Arc::new(FolderObjects::new(dir)))
}

fn failing(dir: &Path, good: usize, is_written: bool) -> Snapshots {
    let objects = FolderObjects::new(dir);
    over(Arc::new(Failing { objects, good: AtomicUsize::new(good), is_written }))
}

/// Several packs full.
async fn commit(snapshots: &Snapshots, seed: u8) -> Result<SnapshotId, CommitError> {
    let mut entries = Vec::new();
    for file in 0..5 {
        let mut bytes = vec![0; 5 << 20];
        blake3::Hasher::new().update(&[seed, file]).finalize_xof().fill(&mut bytes);
        let put = snapshots.put(bytes).await?;
        let node = Node::File { content: put.content, size: put.size, link: None };
        let path = PathBuf::from(format!("d/{file}"));
        entries.push(Entry { path, meta: Meta::with_mode(0o644), node });
    }
    entries.push(Entry { path: "d".into(), meta: Meta::folder(), node: Node::Dir });
    let workspace = Listing::from_entries(Meta::folder(), entries)?;
    Ok(snapshots.commit(&Tree { workspace, ..Tree::empty() }).await?.snapshot)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_is_no_commit_and_spoils_none() {
    let wanted = {
        let dir = tempfile::tempdir().unwrap();
        commit(&healthy(dir.path()), 2).await.unwrap()
    };
    let mut failures = 0;
    for is_written in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let before = commit(&healthy(dir.path()), 1).await.unwrap();
        for good in 0.. {
            let writer = failing(dir.path(), good, is_written);
            match commit(&writer, 2).await {
                Ok(snapshot) => {
                    assert_eq!(snapshot, wanted);
                    break;
                }
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            failures += 1;
            let reader = healthy(dir.path());
            reader.verify(before).await.unwrap();
            // It is there whole, because only the answer was lost, or it is not.
            let half = reader.load(wanted).await.is_ok();
            assert!(!half || is_written, "write {good} failed");
            if half {
                reader.verify(wanted).await.unwrap();
                break;
            }
        }
        // The same again, once there is room.
        assert_eq!(commit(&healthy(dir.path()), 2).await.unwrap(), wanted);
        healthy(dir.path()).verify(wanted).await.unwrap();
    }
    // How many there are depends on which packs were there before the one that failed.
    assert!(failures >= 2, "{failures} writes failed");
}
