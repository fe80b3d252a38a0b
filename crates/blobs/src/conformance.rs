//! What every [`BlobStore`] has to pass. Panics with what is wrong, as tests do.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test suite, run by tests only")]

use std::io::Write;
use std::sync::Arc;

use moat_core::BlobId;

use crate::{BlobStore, ReadBlobError};

mod objects;

pub use objects::check as objects;

/// Runs the whole suite. `open` makes a new store over the same place each time, as another
/// process would.
pub async fn check(open: impl Fn() -> Arc<dyn BlobStore>) {
    keeps_bytes(&*open()).await;
    says_what_is_missing(&*open()).await;
    bounds_what_it_reads(&*open()).await;
    streams(&*open()).await;
    reads_parts(&*open()).await;
    shares_after_sync(&open).await;
    deletes(&open).await;
    takes_many(&open).await;
}

async fn keeps_bytes(store: &dyn BlobStore) {
    for bytes in [b"".to_vec(), b"a".to_vec(), vec![7; 1 << 20]] {
        let id = store.put(bytes.clone()).await.unwrap();
        assert_eq!(store.get(id, 1 << 20).await.unwrap(), bytes, "before a sync");
        assert_eq!(store.put(bytes.clone()).await.unwrap(), id, "equal bytes, equal id");
        store.sync().await.unwrap();
        assert_eq!(store.get(id, 1 << 20).await.unwrap(), bytes, "after a sync");
        assert_eq!(store.put(bytes.clone()).await.unwrap(), id, "equal bytes, equal id");
        assert_eq!(store.verify(id).await.unwrap(), bytes.len() as u64);
        assert_eq!(store.size(id).await.unwrap(), Some(bytes.len() as u64));
    }
    let (one, two) = (store.put(b"one".to_vec()).await, store.put(b"two".to_vec()).await);
    assert_ne!(one.unwrap(), two.unwrap());
}

async fn says_what_is_missing(store: &dyn BlobStore) {
    let id = BlobId([9; 32]);
    assert!(
        matches!(store.get(id, 1).await, Err(ReadBlobError::Missing { id: named }) if named == id)
    );
    assert!(matches!(store.read(id, 0, 1).await, Err(ReadBlobError::Missing { .. })));
    assert!(matches!(store.verify(id).await, Err(ReadBlobError::Missing { .. })));
    assert!(!store.contains(id).await.unwrap());
    assert!(!store.delete(id).await.unwrap());
}

async fn bounds_what_it_reads(store: &dyn BlobStore) {
    let id = store.put(vec![1; 100]).await.unwrap();
    assert_eq!(store.get(id, 100).await.unwrap().len(), 100);
    match store.get(id, 99).await {
        Err(ReadBlobError::TooLarge { size: 100, limit: 99, .. }) => {}
        other => panic!("a blob over the limit must be refused, got {other:?}"),
    }
}

async fn streams(store: &dyn BlobStore) {
    let whole: Vec<u8> = (0..600_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut writer = store.writer().await.unwrap();
    for part in whole.chunks(70_001) {
        writer.write(part.to_vec()).await.unwrap();
    }
    assert_eq!(writer.written(), whole.len() as u64);
    let streamed = writer.finish().await.unwrap();

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&whole).unwrap();
    let copied = store.put_file(file.path()).await.unwrap();
    assert_eq!(copied, (streamed, whole.len() as u64));
    assert_eq!(store.put(whole.clone()).await.unwrap(), streamed, "one id, whichever way it came");
    assert_eq!(store.get(streamed, whole.len() as u64).await.unwrap(), whole);

    let mut given_up = store.writer().await.unwrap();
    given_up.write(b"given up".to_vec()).await.unwrap();
    drop(given_up);
    assert!(store.put_file("/nonexistent/file".as_ref()).await.is_err());
    store.sync().await.unwrap();
}

async fn reads_parts(store: &dyn BlobStore) {
    let id = store.put((0..=255).collect()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(store.read(id, 0, 3).await.unwrap(), [0, 1, 2]);
        assert_eq!(store.read(id, 254, 100).await.unwrap(), [254, 255]);
        assert_eq!(store.read(id, 256, 100).await.unwrap(), b"");
        assert_eq!(store.read(id, u64::MAX, usize::MAX).await.unwrap(), b"");
        store.sync().await.unwrap();
    }
}

async fn shares_after_sync(open: &impl Fn() -> Arc<dyn BlobStore>) {
    let (writer, reader) = (open(), open());
    let id = writer.put(b"shared".to_vec()).await.unwrap();
    writer.sync().await.unwrap();
    assert_eq!(reader.get(id, 100).await.unwrap(), b"shared");
    drop(writer);
    assert_eq!(open().get(id, 100).await.unwrap(), b"shared");
    assert_eq!(reader.put(b"shared".to_vec()).await.unwrap(), id);
    reader.sync().await.unwrap();
}

async fn deletes(open: &impl Fn() -> Arc<dyn BlobStore>) {
    let store = open();
    let pending = store.put(b"deleted before a sync".to_vec()).await.unwrap();
    assert!(store.delete(pending).await.unwrap());
    let id = store.put(b"deleted after a sync".to_vec()).await.unwrap();
    store.sync().await.unwrap();
    assert!(!store.contains(pending).await.unwrap());
    assert!(store.delete(id).await.unwrap());
    store.sync().await.unwrap();
    assert!(!open().contains(id).await.unwrap());
    assert!(!store.delete(id).await.unwrap());
    assert_eq!(store.put(b"deleted after a sync".to_vec()).await.unwrap(), id, "it may come back");
    assert!(store.contains(id).await.unwrap());
    store.sync().await.unwrap();
}

/// More than a store would sync one by one, from several tasks at once.
async fn takes_many(open: &impl Fn() -> Arc<dyn BlobStore>) {
    let store = open();
    let tasks: Vec<_> = (0..4_u32)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for n in 0..60_u32 {
                    // Tasks put some of the same bytes at the same time.
                    ids.push(
                        store.put((task / 2 * 1000 + n).to_le_bytes().to_vec()).await.unwrap(),
                    );
                    if n % 25 == 0 {
                        store.sync().await.unwrap();
                    }
                }
                store.sync().await.unwrap();
                ids
            })
        })
        .collect();
    let other = open();
    for task in tasks {
        for id in task.await.unwrap() {
            assert_eq!(other.verify(id).await.unwrap(), 4);
        }
    }
}
