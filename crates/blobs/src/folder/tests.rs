use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moat_core::BlobId;

use super::FolderBlobs;
use crate::{BlobStore, ReadBlobError, WriteBlobError, conformance};

const KEY: [u8; 32] = [3; 32];

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

fn only_blob(dir: &Path) -> PathBuf {
    let files = files_in(&dir.join("blobs"));
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[tokio::test]
async fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance::check(|| Arc::new(FolderBlobs::new(dir.path().join("a/b"), KEY))).await;
    assert_eq!(files_in(&dir.path().join("a/b/pending")), Vec::<PathBuf>::new(), "left over");
}

#[tokio::test]
async fn names_a_damaged_blob_and_keeps_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = FolderBlobs::new(dir.path(), KEY);
    let id = store.put(b"whole".to_vec()).await.unwrap();
    store.sync().await.unwrap();
    let path = only_blob(dir.path());
    let other = store.put(b"other".to_vec()).await.unwrap();
    for damage in [&b"whola"[..], b"whol", b"whole!", b""] {
        fs::write(&path, damage).unwrap();
        let read = store.get(id, 100).await;
        assert!(
            matches!(read, Err(ReadBlobError::Damaged { id: named }) if named == id),
            "{read:?}"
        );
        assert!(matches!(store.verify(id).await, Err(ReadBlobError::Damaged { .. })));
    }
    assert_eq!(store.get(other, 100).await.unwrap(), b"other");
}

#[tokio::test]
async fn another_key_gives_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = FolderBlobs::new(dir.path(), KEY);
    let id = store.put(b"secret".to_vec()).await.unwrap();
    store.sync().await.unwrap();
    assert_ne!(id, BlobId(*blake3::hash(b"secret").as_bytes()), "the hash has to be keyed");
    let stranger = FolderBlobs::new(dir.path(), [4; 32]);
    assert_ne!(stranger.put(b"secret".to_vec()).await.unwrap(), id);
    assert!(matches!(stranger.get(id, 100).await, Err(ReadBlobError::Damaged { .. })));
}

#[tokio::test]
async fn has_no_final_name_before_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let store = FolderBlobs::new(dir.path(), KEY);
    let id = store.put(b"not durable".to_vec()).await.unwrap();
    assert!(files_in(&dir.path().join("blobs")).is_empty());
    assert!(!FolderBlobs::new(dir.path(), KEY).contains(id).await.unwrap());
    // What a killed store leaves is swept by the next one that writes.
    std::mem::forget(store.clone());
    let left = files_in(&dir.path().join("pending"));
    assert_eq!(left.len(), 2, "a lock and a blob: {left:?}");
    let next = FolderBlobs::new(dir.path(), KEY);
    next.put(b"next".to_vec()).await.unwrap();
    assert!(left.iter().all(|path| path.exists()), "its store lives, so it must stay");
    let lock = left.iter().find(|path| path.ends_with("lock")).unwrap();
    // As if the process had died: a lock file that nobody holds.
    fs::remove_file(lock).unwrap();
    fs::write(lock, b"").unwrap();
    FolderBlobs::new(dir.path(), KEY).put(b"third".to_vec()).await.unwrap();
    assert!(left.iter().all(|path| !path.exists()), "nobody writes here any more");
}

#[tokio::test]
async fn a_full_disk_is_named_and_passes() {
    let Some(disk) = SmallDisk::mount("1m") else {
        println!("SKIP a_full_disk_is_named_and_passes: mounting a small file system needs root");
        return;
    };
    let store = FolderBlobs::new(disk.path(), KEY);
    let first = store.put(vec![1; 100_000]).await.unwrap();
    store.sync().await.unwrap();
    let too_much = store.put(vec![2; 2_000_000]).await;
    assert!(matches!(too_much, Err(WriteBlobError::Full { .. })), "{too_much:?}");
    assert_eq!(store.get(first, 100_000).await.unwrap(), vec![1; 100_000]);
    // What could not be written took its space back with it.
    let second = store.put(vec![3; 500_000]).await.unwrap();
    store.sync().await.unwrap();
    assert_eq!(store.verify(second).await.unwrap(), 500_000);
}

/// A memory file system of a given size (`1m`), unmounted when dropped.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        let options = format!("size={size}");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path());
        let mounted = mount.output().is_ok_and(|done| done.status.success());
        mounted.then_some(Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
