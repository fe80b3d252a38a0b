//! The suites of blob stores against emulators of S3, Azure and Google Cloud Storage.
#![cfg(feature = "buckets")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[path = "buckets/emulator.rs"]
mod emulator;

use std::sync::Arc;

use moat_blobs::{
    CloudObjects, CloudOptions, FolderObjects, KeptObjects, ObjectError, Objects, PackedBlobs,
    PackedOptions, conformance,
};
use moat_core::SealingKey;

use crate::emulator::Emulator;

fn open(emulator: &Emulator, prefix: &str) -> CloudObjects {
    let url = format!("{}/{prefix}", emulator.url);
    CloudObjects::open(&CloudOptions { url, settings: emulator.settings.clone() }).unwrap()
}

/// Everything that a store of objects, and blobs packed into it, have to do.
async fn conforms(emulator: Option<Emulator>, test: &str) {
    let Some(emulator) = emulator else {
        println!("SKIP {test}: its emulator is not installed; see scripts/setup");
        return;
    };
    conformance::objects(|| Arc::new(open(&emulator, "a/b"))).await;
    let near = tempfile::tempdir().unwrap();
    conformance::check(|| {
        let options =
            PackedOptions { sealing: Some(SealingKey::new(&[5; 32])), ..PackedOptions::default() };
        let near = FolderObjects::new(near.path());
        let kept = KeptObjects::new(Arc::new(open(&emulator, "packed")), near, "packs", 1 << 30);
        Arc::new(PackedBlobs::new(Arc::new(kept), [3; 32], options))
    })
    .await;
    let missing = open(&emulator, "c");
    assert!(matches!(missing.get("none", 1).await, Err(ObjectError::Missing { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_conforms() {
    conforms(Emulator::s3().await, "s3_conforms").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_conforms() {
    conforms(Emulator::azure().await, "azure_conforms").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcs_conforms() {
    conforms(Emulator::gcs().await, "gcs_conforms").await;
}

#[tokio::test]
async fn a_store_that_is_down_is_named_and_shows_no_credential() {
    let settings = [
        ("aws_access_key_id", "AKIDEXAMPLE"),
        ("aws_secret_access_key", "very-secret"),
        ("aws_endpoint", "http://127.0.0.1:9"),
        ("aws_allow_http", "true"),
        ("aws_region", "us-east-1"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = CloudOptions { url: "s3://bucket/p".to_owned(), settings: settings.into() };
    let store = CloudObjects::open(&options).unwrap();
    let waited = tokio::time::timeout(std::time::Duration::from_secs(60), store.list("packs"));
    let error = waited.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("s3://bucket/p") && !error.contains("very-secret"), "{error}");
    for wrong in ["bucket", "s3://", "ftp://bucket", "s3://user@bucket"] {
        let options = CloudOptions { url: wrong.to_owned(), settings: Vec::new() };
        assert!(CloudObjects::open(&options).is_err(), "{wrong}");
    }
}
