//! Any tree comes back bit for bit from packs in buckets, as far as their emulators go.
#![cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[path = "../../blobs/tests/buckets/emulator.rs"]
mod emulator;

use std::sync::Arc;

use moat_blobs::{CloudObjects, CloudOptions, PackedBlobs, PackedOptions};
use moat_core::{SealingKey, TenantKey};
use moat_snapshot::{Snapshots, conformance};

use crate::emulator::Emulator;

async fn come_back_from(emulator: Option<Emulator>, test: &str) {
    let Some(emulator) = emulator else {
        println!("SKIP {test}: its emulator is not installed; see scripts/setup");
        return;
    };
    let key = TenantKey::new([1; 32]);
    conformance::check(|| {
        let url = format!("{}/trees", emulator.url);
        let options = CloudOptions { url, settings: emulator.settings.clone() };
        let objects = Arc::new(CloudObjects::open(&options).unwrap());
        let sealing = Some(SealingKey::new(&[5; 32]));
        let options = PackedOptions { sealing, ..PackedOptions::default() };
        let blobs = PackedBlobs::new(objects, *Snapshots::blob_key(&key), options);
        Snapshots::new(Arc::new(blobs), &key)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trees_come_back_from_s3() {
    come_back_from(Emulator::s3().await, "trees_come_back_from_s3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trees_come_back_from_azure() {
    come_back_from(Emulator::azure().await, "trees_come_back_from_azure").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trees_come_back_from_gcs() {
    come_back_from(Emulator::gcs().await, "trees_come_back_from_gcs").await;
}
