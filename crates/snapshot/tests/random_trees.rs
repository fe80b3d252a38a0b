//! Any tree comes back bit for bit from every kind of store on this machine.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use moat_blobs::{BlobStore, FolderBlobs, FolderObjects, PackedBlobs, PackedOptions};
use moat_core::{SealingKey, TenantKey};
use moat_snapshot::{Snapshots, conformance};

async fn come_back_from(blobs: impl Fn(&Path, [u8; 32]) -> Arc<dyn BlobStore>) {
    let dir = tempfile::tempdir().unwrap();
    let key = TenantKey::new([1; 32]);
    let blob_key = *Snapshots::blob_key(&key);
    conformance::check(|| Snapshots::new(blobs(dir.path(), blob_key), &key)).await;
}

fn packed(dir: &Path, key: [u8; 32], sealing: Option<SealingKey>) -> Arc<dyn BlobStore> {
    let options = PackedOptions { sealing, ..PackedOptions::default() };
    Arc::new(PackedBlobs::new(Arc::new(FolderObjects::new(dir)), key, options))
}

#[tokio::test]
async fn from_a_folder_of_files() {
    come_back_from(|dir, key| Arc::new(FolderBlobs::new(dir, key))).await;
}

#[tokio::test]
async fn from_packs() {
    come_back_from(|dir, key| packed(dir, key, None)).await;
}

#[tokio::test]
async fn from_sealed_packs() {
    come_back_from(|dir, key| packed(dir, key, Some(SealingKey::new(&[5; 32])))).await;
}
