//! What comes back, and that a failure leaves nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use moat_blobs::FolderBlobs;
use moat_core::TenantKey;
use moat_snapshot::Tree;

use super::*;

struct Place {
    dir: tempfile::TempDir,
    snapshots: Snapshots,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = TenantKey::new([1; 32]);
        let blobs = FolderBlobs::new(dir.path().join("store"), *Snapshots::blob_key(&key));
        Self { snapshots: Snapshots::new(Arc::new(blobs), &key), dir }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("restored")
    }

    async fn file(&self, path: &str, mode: u32, content: Vec<u8>, link: Option<&str>) -> Entry {
        let put = self.snapshots.put(content).await.unwrap();
        let link = link.map(|first| LinkGroup::of(Path::new(first)));
        let meta = Meta { mtime_ns: 1_234_567_890_123_456_789, ..Meta::with_mode(mode) };
        let node = Node::File { content: put.content, size: put.size, link };
        Entry { path: path.into(), meta, node }
    }

    async fn snapshot(&self) -> SnapshotId {
        let folder = |path: &str, mode| Entry {
            path: path.into(),
            meta: Meta { mtime_ns: -1, ..Meta::with_mode(mode) },
            node: Node::Dir,
        };
        let mut sparse = vec![0; 3 << 20];
        sparse.push(7);
        let mut noise = vec![0; 1 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let entries = vec![
            self.file("noise", 0o644, noise, None).await,
            folder("shut", 0o500),
            self.file("shut/inside", 0o440, b"kept".to_vec(), None).await,
            folder("empty", 0o1777),
            self.file("program", 0o6755, b"#!/bin/sh\n".to_vec(), None).await,
            self.file("sparse", 0o600, sparse, None).await,
            self.file("one", 0o644, b"two names".to_vec(), Some("one")).await,
            self.file("other", 0o644, b"two names".to_vec(), Some("one")).await,
            Entry {
                path: "out".into(),
                meta: Meta::with_mode(0o777),
                node: Node::Symlink("/etc/passwd".into()),
            },
        ];
        let workspace = Listing::from_entries(Meta::folder(), entries).unwrap();
        let tree = Tree { workspace, home: Listing::new(Meta::folder()) };
        self.snapshots.commit(&tree).await.unwrap().snapshot
    }

    fn left(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn everything_comes_back_but_set_id_bits() {
    let place = Place::new();
    let snapshot = place.snapshot().await;
    let target = place.target();
    fs::create_dir(&target).unwrap();
    let restored = restore(&place.snapshots, snapshot, RootName::Workspace, &target).await.unwrap();
    assert_eq!((restored.files, restored.special_bits), (6, 2));

    let stat = |name: &str| fs::symlink_metadata(target.join(name)).unwrap();
    let mode = |name: &str| stat(name).permissions().mode() & 0o7777;
    assert_eq!(mode("shut"), 0o500);
    assert_eq!(mode("empty"), 0o1777);
    assert_eq!(mode("program"), 0o755);
    assert_eq!(stat("shut").mtime_nsec(), 999_999_999);
    assert_eq!(fs::read(target.join("shut/inside")).unwrap(), b"kept");
    assert_eq!(
        (stat("shut/inside").mtime(), stat("shut/inside").mtime_nsec()),
        (1_234_567_890, 123_456_789)
    );
    assert_eq!(fs::read_link(target.join("out")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(stat("one").ino(), stat("other").ino());
    assert_eq!(stat("sparse").size(), (3 << 20) + 1);
    assert!(
        stat("sparse").blocks() * 512 < 1 << 20,
        "a hole became {} blocks",
        stat("sparse").blocks()
    );
}

#[tokio::test]
async fn what_is_there_is_not_touched() {
    let place = Place::new();
    let snapshot = place.snapshot().await;
    fs::create_dir(place.target()).unwrap();
    fs::write(place.target().join("mine"), "mine").unwrap();
    let refused = restore(&place.snapshots, snapshot, RootName::Workspace, &place.target()).await;
    assert!(matches!(refused, Err(WriteBackError::Occupied { .. })), "{refused:?}");
    assert_eq!(fs::read(place.target().join("mine")).unwrap(), b"mine");
    assert_eq!(place.left(), ["restored", "store"]);
}

#[tokio::test]
async fn a_content_that_is_damaged_leaves_nothing_behind() {
    let place = Place::new();
    let snapshot = place.snapshot().await;
    // However contents are kept, the middle of the largest file is the middle of the largest one.
    let mut files = Vec::new();
    let mut folders = vec![place.dir.path().join("store")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let largest = files.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&largest, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&largest, bytes).unwrap();
    let target = place.target();
    let failed = restore(&place.snapshots, snapshot, RootName::Workspace, &target).await;
    assert!(matches!(failed, Err(WriteBackError::Load(_))), "{failed:?}");
    assert_eq!(place.left(), ["store"]);
}
