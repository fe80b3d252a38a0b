use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use moat_core::{BlobId, SealingKey};

use super::*;
use crate::{FolderObjects, ReadBlobError, conformance};

const KEY: [u8; 32] = [3; 32];

fn open(dir: &Path) -> PackedBlobs {
    let objects = Arc::new(FolderObjects::new(dir));
    PackedBlobs::new(objects, KEY, PackedOptions::default())
}

fn sealed(dir: &Path) -> PackedBlobs {
    let options =
        PackedOptions { sealing: Some(SealingKey::new(&[5; 32])), ..PackedOptions::default() };
    PackedBlobs::new(Arc::new(FolderObjects::new(dir)), KEY, options)
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    reader.fill(&mut bytes);
    bytes
}

fn packs(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir.join("packs")) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn bytes_in(dir: &Path) -> u64 {
    packs(dir).iter().map(|path| path.metadata().unwrap().len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance::objects(|| Arc::new(FolderObjects::new(dir.path().join("objects/a")))).await;
    conformance::check(|| Arc::new(open(&dir.path().join("plain")))).await;
    conformance::check(|| Arc::new(sealed(&dir.path().join("sealed")))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_change_of_a_large_content_costs_little() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut content = noise(1, 24 << 20);
    let first = store.put(content.clone()).await.unwrap();
    store.sync().await.unwrap();
    let before = bytes_in(dir.path());
    content.splice(9_000_000..9_000_000, *b"put in between");
    let second = store.put(content.clone()).await.unwrap();
    store.sync().await.unwrap();
    let added = bytes_in(dir.path()) - before;
    assert!(added < 3 << 20, "{added} bytes for fourteen");
    assert_eq!(open(dir.path()).get(second, 25 << 20).await.unwrap(), content);
    assert_eq!(open(dir.path()).verify(first).await.unwrap(), 24 << 20);
    // Under another key the cuts are elsewhere.
    let keys = [Keys::new([1; 32], None), Keys::new([2; 32], None)];
    let cuts = keys.map(|keys| keys.cuts.next(&content[..1 << 20]));
    assert_ne!(cuts[0], cuts[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut writer = store.writer().await.unwrap();
    writer.write(b"begin".to_vec()).await.unwrap();
    for _ in 0..256 {
        writer.write(vec![0; 1 << 20]).await.unwrap();
    }
    writer.write(b"end".to_vec()).await.unwrap();
    let id = writer.finish().await.unwrap();
    store.sync().await.unwrap();
    assert!(bytes_in(dir.path()) < 100_000, "{}", bytes_in(dir.path()));
    let again = open(dir.path());
    assert_eq!(again.verify(id).await.unwrap(), (256 << 20) + 8);
    assert_eq!(again.read(id, (256 << 20) + 5, 100).await.unwrap(), b"end");
    assert_eq!(again.read(id, 100 << 20, 1 << 20).await.unwrap(), vec![0; 1 << 20]);
    assert_eq!(again.read(id, 2, 10).await.unwrap(), b"gin\0\0\0\0\0\0\0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_named_and_the_rest_stays() {
    for open in [open, sealed] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let kept = store.put(b"in a pack of its own".to_vec()).await.unwrap();
        store.sync().await.unwrap();
        let untouched = packs(dir.path());
        let small = store.put(b"small".to_vec()).await.unwrap();
        let large = store.put(noise(2, 1 << 20)).await.unwrap();
        store.sync().await.unwrap();
        let pack = packs(dir.path()).into_iter().find(|pack| !untouched.contains(pack)).unwrap();
        let whole = std::fs::read(&pack).unwrap();
        assert_eq!(open(dir.path()).check().await.unwrap(), []);
        for bit in (0..whole.len() * 8).step_by(whole.len() * 8 / 23) {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&pack, &damaged).unwrap();
            let found = open(dir.path()).check().await.unwrap();
            let name = pack.file_name().unwrap().to_str().unwrap();
            assert!(found.iter().any(|damage| damage.pack.ends_with(name)), "bit {bit}");
            assert_eq!(open(dir.path()).get(kept, 100).await.unwrap(), b"in a pack of its own");
            let read =
                (open(dir.path()).get(small, 100).await, open(dir.path()).verify(large).await);
            let in_head = bit / 8 < format::HEAD;
            assert!(in_head || read.0.is_err() || read.1.is_err(), "bit {bit} was not noticed");
        }
        for cut in [whole.len() - 1, whole.len() / 2, 4, 0] {
            std::fs::write(&pack, &whole[..cut]).unwrap();
            assert!(!open(dir.path()).check().await.unwrap().is_empty(), "cut at {cut}");
            let read = open(dir.path()).get(small, 100).await;
            assert!(matches!(read, Err(ReadBlobError::Missing { .. })), "{read:?}");
        }
        std::fs::remove_file(&pack).unwrap();
        // Also for a store that knew it.
        let read = store.get(small, 100).await;
        assert!(matches!(read, Err(ReadBlobError::Missing { id }) if id == small), "{read:?}");
        assert!(matches!(store.verify(large).await, Err(ReadBlobError::Missing { .. })));
        assert_eq!(store.get(kept, 100).await.unwrap(), b"in a pack of its own");
        assert_eq!(store.put(b"small".to_vec()).await.unwrap(), small, "it can be put again");
        store.sync().await.unwrap();
        assert_eq!(open(dir.path()).get(small, 100).await.unwrap(), b"small");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_an_error_and_loses_nothing() {
    let Some(disk) = crate::folder::tests::SmallDisk::mount("24m") else {
        println!("SKIP a_full_disk_is_an_error_and_loses_nothing: mounting needs root");
        return;
    };
    let store = open(disk.path());
    let first = store.put(noise(1, 2 << 20)).await.unwrap();
    store.sync().await.unwrap();
    for seed in 0..40 {
        store.put(noise(100 + seed, 1 << 20)).await.unwrap();
    }
    let root = store.put_last(b"root".to_vec()).await;
    assert!(matches!(&root, Err(error) if error.is_full()), "{root:?}");
    let reader = open(disk.path());
    assert!(!reader.contains(Keys::new(KEY, None).id_of(b"root")).await.unwrap());
    assert_eq!(reader.get(first, 2 << 20).await.unwrap(), noise(1, 2 << 20));
    assert_eq!(reader.check().await.unwrap(), [], "what could not be written left nothing");
    // What fits is taken again.
    let live = HashSet::from([first]);
    let options = CollectOptions { grace: Duration::ZERO, dry_run: false, leave_nothing: false };
    drop(store);
    collect(&reader, live, options).await.unwrap();
    reader.put(noise(200, 1 << 20)).await.unwrap();
    reader.put_last(b"root".to_vec()).await.unwrap();
}

#[tokio::test]
async fn a_floor_of_free_space_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let options = PackedOptions { free_space_floor: 1 << 60, ..PackedOptions::default() };
    let store = PackedBlobs::new(Arc::new(FolderObjects::new(dir.path())), KEY, options);
    store.put(b"x".to_vec()).await.unwrap();
    let error = store.sync().await.unwrap_err();
    assert!(error.is_full() && error.to_string().contains("are to stay free"), "{error}");
    assert!(packs(dir.path()).is_empty());
}

async fn collect(
    store: &PackedBlobs,
    live: HashSet<BlobId>,
    options: CollectOptions,
) -> Result<Collected, WriteBlobError> {
    store.collect(async || Ok(live.clone()), options).await
}

fn now() -> CollectOptions {
    CollectOptions { grace: Duration::ZERO, dry_run: false, leave_nothing: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collects_what_nothing_needs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut live = HashSet::new();
    for seed in 0..20 {
        let id = store.put(noise(seed, 1 << 20)).await.unwrap();
        if seed % 5 == 0 {
            live.insert(id);
        }
        // Half of the packs hold something that is needed.
        if seed % 10 == 9 {
            store.sync().await.unwrap();
        }
    }
    drop(store);
    let collector = open(dir.path());
    let dry = CollectOptions { dry_run: true, ..now() };
    assert_eq!(collect(&collector, live.clone(), dry).await.unwrap().removed_packs, 0);
    let patient = CollectOptions { grace: Duration::from_secs(3600), ..now() };
    let first = collect(&collector, live.clone(), patient).await.unwrap();
    assert!(first.removed_packs == 0 && first.doomed_bytes > 10 << 20, "{first:?}");
    assert!(first.moved_bytes > 0, "{first:?}");
    let second = collect(&open(dir.path()), live.clone(), now()).await.unwrap();
    assert!(second.removed_bytes >= first.doomed_bytes, "{second:?}");
    assert!(bytes_in(dir.path()) < 6 << 20, "{} bytes stay", bytes_in(dir.path()));
    let reader = open(dir.path());
    for id in live {
        // A store that knew the old packs finds the new ones.
        assert_eq!(collector.verify(id).await.unwrap(), 1 << 20);
        assert_eq!(reader.verify(id).await.unwrap(), 1 << 20);
    }
    assert_eq!(reader.check().await.unwrap(), []);
}

/// A pack may hold what several runs need, one of which is erased.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_what_nothing_needs_when_nothing_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let holds = |what: &[u8]| {
        let is_there = |path: &PathBuf| {
            std::fs::read(path).unwrap().windows(what.len()).any(|window| window == what)
        };
        packs(dir.path()).iter().any(is_there)
    };
    let (kept, erased) = (noise(1, 100_000), noise(2, 20_000));
    let store = open(dir.path());
    let id = store.put(kept.clone()).await.unwrap();
    store.sync().await.unwrap();
    // A pack in which all is needed, if only in another copy: two wrote it at the same time.
    std::fs::rename(dir.path().join("packs"), dir.path().join("first")).unwrap();
    let other = open(dir.path());
    other.put(kept.clone()).await.unwrap();
    other.put(erased.clone()).await.unwrap();
    other.sync().await.unwrap();
    drop((store, other));
    for first in std::fs::read_dir(dir.path().join("first")).unwrap() {
        let first = first.unwrap();
        std::fs::rename(first.path(), dir.path().join("packs").join(first.file_name())).unwrap();
    }
    let live = HashSet::from([id]);
    let thorough = CollectOptions { leave_nothing: true, ..now() };
    collect(&open(dir.path()), live.clone(), thorough).await.unwrap();
    assert!(holds(&kept[..1000]) && !holds(&erased[..1000]));
    let settled = packs(dir.path());
    let again = collect(&open(dir.path()), live.clone(), thorough).await.unwrap();
    assert_eq!((again.moved_bytes, packs(dir.path())), (0, settled), "once is enough");

    // In one pack with more that is needed it may stay, unless it may not.
    let store = open(dir.path());
    let more = store.put(noise(3, 100_000)).await.unwrap();
    store.put(erased.clone()).await.unwrap();
    store.sync().await.unwrap();
    drop(store);
    let live = HashSet::from([id, more]);
    collect(&open(dir.path()), live.clone(), now()).await.unwrap();
    assert!(holds(&erased[..1000]), "that much is needed of its pack");
    collect(&open(dir.path()), live, thorough).await.unwrap();
    assert!(!holds(&erased[..1000]));
    let reader = open(dir.path());
    assert_eq!(reader.check().await.unwrap(), []);
    assert_eq!(reader.get(id, 1 << 20).await.unwrap(), kept);
    assert_eq!(reader.get(more, 1 << 20).await.unwrap(), noise(3, 100_000));
    // What is sealed is told apart just as well.
    let dir = tempfile::tempdir().unwrap();
    let store = sealed(dir.path());
    let id = store.put(kept.clone()).await.unwrap();
    store.sync().await.unwrap();
    drop(store);
    let done = collect(&sealed(dir.path()), HashSet::from([id]), thorough).await.unwrap();
    assert_eq!((done.moved_bytes, done.removed_packs), (0, 0), "{done:?}");
}

/// The writer lets a new snapshot refer to something that the collector takes for unneeded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_beside_a_writer_takes_nothing_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let old = open(dir.path()).put_last(noise(1, 100_000)).await.unwrap().0;
    let writer = open(dir.path());
    assert!(!writer.put_new(noise(1, 100_000)).await.unwrap().1, "known, so not stored again");
    let collector = open(dir.path());
    for _ in 0..3 {
        let done = collect(&collector, HashSet::new(), now()).await.unwrap();
        assert!(done.removed_packs == 0, "{done:?}");
    }
    let root = writer.put_last(b"root".to_vec()).await.unwrap().0;
    // Now it is known to be needed.
    let live = HashSet::from([old, root]);
    collect(&collector, live.clone(), now()).await.unwrap();
    drop(writer);
    collect(&open(dir.path()), live, now()).await.unwrap();
    assert_eq!(open(dir.path()).verify(old).await.unwrap(), 100_000);
    // Whoever begins after it was doomed stores it again.
    let patient = CollectOptions { grace: Duration::from_secs(3600), ..now() };
    collect(&open(dir.path()), HashSet::from([root]), patient).await.unwrap();
    let later = open(dir.path());
    assert!(later.put_new(noise(1, 100_000)).await.unwrap().1, "what is doomed is not relied on");
    later.sync().await.unwrap();
    drop(later);
    collect(&open(dir.path()), HashSet::from([root, old]), now()).await.unwrap();
    assert_eq!(open(dir.path()).verify(old).await.unwrap(), 100_000);
}

/// Who writes through the very store that collects counts as anybody else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_takes_nothing_from_a_writer_of_the_same_store() {
    let dir = tempfile::tempdir().unwrap();
    let old = open(dir.path()).put_last(noise(1, 100_000)).await.unwrap().0;
    let store = open(dir.path());
    assert!(!store.put_new(noise(1, 100_000)).await.unwrap().1, "known, so not stored again");
    for _ in 0..3 {
        let done = collect(&store, HashSet::new(), now()).await.unwrap();
        assert!(done.removed_packs == 0 && done.waited_for_writers, "{done:?}");
    }
    let root = store.put_last(b"root".to_vec()).await.unwrap().0;
    drop(store);
    collect(&open(dir.path()), HashSet::from([old, root]), now()).await.unwrap();
    assert_eq!(open(dir.path()).verify(old).await.unwrap(), 100_000);
}

/// It was asked what is live, and then somebody came, relied on what nobody needed, and went.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_came_and_went_during_a_collection_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let old = open(dir.path()).put_last(noise(1, 100_000)).await.unwrap().0;
    let collector = open(dir.path());
    let live = std::sync::Mutex::new(HashSet::new());
    let asked = async || {
        let live_now = live.lock().unwrap().clone();
        if live_now.is_empty() {
            let writer = open(dir.path());
            assert!(!writer.put_new(noise(1, 100_000)).await.unwrap().1, "known");
            let root = writer.put_last(b"root".to_vec()).await.unwrap().0;
            live.lock().unwrap().extend([old, root]);
        }
        Ok::<_, WriteBlobError>(live_now)
    };
    let done = collector.collect(asked, now()).await.unwrap();
    assert_eq!(done.removed_packs, 0, "{done:?}");
    let reader = open(dir.path());
    assert_eq!(reader.verify(old).await.unwrap(), 100_000);
    assert!(reader.contains(Keys::new(KEY, None).id_of(b"root")).await.unwrap());
    // It is not doomed any more: the next writer relies on it.
    assert!(!open(dir.path()).put_new(noise(1, 100_000)).await.unwrap().1);
}

#[tokio::test]
async fn a_collector_that_misses_something_removes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let id = open(dir.path()).put_last(b"here".to_vec()).await.unwrap().0;
    let live = HashSet::from([BlobId([1; 32])]);
    assert!(collect(&open(dir.path()), live, now()).await.is_err());
    assert_eq!(open(dir.path()).get(id, 10).await.unwrap(), b"here");
    // A pack that cannot be read may hold what is needed.
    let pack = packs(dir.path()).remove(0);
    let mut bytes = std::fs::read(&pack).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&pack, &bytes).unwrap();
    collect(&open(dir.path()), HashSet::new(), now()).await.unwrap();
    assert!(pack.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_lost_pack_everybody_hears() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = store.put(b"first".to_vec()).await.unwrap();
    // The folder cannot be written.
    std::fs::write(dir.path().join("packs"), b"a file").unwrap();
    let failed = store.sync().await.unwrap_err();
    assert!(matches!(failed, WriteBlobError::Objects(_)), "{failed}");
    assert!(store.get(id, 10).await.is_err(), "what was lost is not pretended to be there");
    std::fs::remove_file(dir.path().join("packs")).unwrap();
    assert_eq!(store.put(b"first".to_vec()).await.unwrap(), id);
    store.sync().await.unwrap();
    assert_eq!(open(dir.path()).get(id, 10).await.unwrap(), b"first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_near_by_are_fetched_once() {
    let (far, near) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let id = open(far.path()).put_last(noise(1, 3 << 20)).await.unwrap().0;
    let kept = || {
        let far = Arc::new(FolderObjects::new(far.path()));
        let near = FolderObjects::new(near.path());
        let objects = crate::KeptObjects::new(far, near, "packs", 64 << 20);
        PackedBlobs::new(Arc::new(objects), KEY, PackedOptions::default())
    };
    conformance::check(|| Arc::new(kept())).await;
    let store = kept();
    assert_eq!(store.get(id, 3 << 20).await.unwrap(), noise(1, 3 << 20));
    for pack in packs(far.path()) {
        let copy = near.path().join("packs").join(pack.file_name().unwrap());
        assert_eq!(std::fs::read(&pack).unwrap(), std::fs::read(copy).unwrap());
        std::fs::write(&pack, b"far away it is not read again").unwrap();
    }
    assert_eq!(store.get(id, 3 << 20).await.unwrap(), noise(1, 3 << 20));
}

#[tokio::test]
async fn what_is_not_in_packs_is_looked_for_in_the_older_store() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let older = crate::FolderBlobs::new(old.path(), KEY);
    let id = older.put(b"from before".to_vec()).await.unwrap();
    older.sync().await.unwrap();
    let options = PackedOptions { older: Some(Arc::new(older)), ..PackedOptions::default() };
    let store = PackedBlobs::new(Arc::new(FolderObjects::new(new.path())), KEY, options);
    assert_eq!(store.get(id, 100).await.unwrap(), b"from before");
    assert_eq!(store.size(id).await.unwrap(), Some(11));
    assert_eq!(store.verify(id).await.unwrap(), 11);
    assert!(matches!(store.get(BlobId([1; 32]), 1).await, Err(ReadBlobError::Missing { .. })));
}
