use std::path::{Path, PathBuf};
use std::sync::Arc;

use moat_blobs::{BlobStore, FolderBlobs};
use moat_core::{BlobId, SnapshotId, TenantKey};

use super::*;
use crate::{ChangeKind, CommitError, ContentKind, Entry, Listing, LoadError, Meta, Node, Tree};

struct Place {
    dir: tempfile::TempDir,
    blobs: Arc<dyn BlobStore>,
    snapshots: Snapshots,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let (blobs, snapshots) = open(dir.path());
    Place { dir, blobs, snapshots }
}

fn open(dir: &Path) -> (Arc<dyn BlobStore>, Snapshots) {
    let key = TenantKey::new([1; 32]);
    let blobs: Arc<dyn BlobStore> = Arc::new(FolderBlobs::new(dir, *Snapshots::blob_key(&key)));
    (blobs.clone(), Snapshots::new(blobs, &key))
}

impl Place {
    async fn tree(&self, files: &[(&str, &[u8])]) -> Tree {
        let mut entries = Vec::new();
        let mut folders = std::collections::BTreeSet::new();
        for (path, bytes) in files {
            let path = PathBuf::from(path);
            folders.extend(path.ancestors().skip(1).map(Path::to_owned));
            let put = self.snapshots.put(bytes.to_vec()).await.unwrap();
            let node = Node::File { content: put.content, size: put.size, link: None };
            entries.push(Entry { path, meta: Meta::with_mode(0o644), node });
        }
        folders.remove(Path::new(""));
        entries.extend(folders.into_iter().map(|path| Entry {
            path,
            meta: Meta::folder(),
            node: Node::Dir,
        }));
        let workspace = Listing::from_entries(Meta::folder(), entries).unwrap();
        Tree { workspace, home: Listing::new(Meta::folder()) }
    }

    async fn commit(&self, files: &[(&str, &[u8])]) -> SnapshotId {
        self.snapshots.commit(&self.tree(files).await).await.unwrap().snapshot
    }

    fn blob_path(&self, id: [u8; 32]) -> PathBuf {
        let name = BlobId(id).to_string();
        self.dir.path().join("blobs").join(&name[..2]).join(&name[2..])
    }
}

#[tokio::test]
async fn another_process_reads_what_was_committed() {
    let here = place();
    let tree = here.tree(&[("a", b"1"), ("d/e/f", b"2"), ("d/g", b"")]).await;
    let done = here.snapshots.commit(&tree).await.unwrap();
    assert_eq!(done.new_folders, 4, "three folders and an empty home");
    let (_, elsewhere) = open(here.dir.path());
    assert_eq!(elsewhere.load(done.snapshot).await.unwrap(), tree);
    assert_eq!(elsewhere.verify(done.snapshot).await.unwrap(), tree);
    assert_eq!(elsewhere.commit(&tree).await.unwrap().new_bytes, 0);
}

#[tokio::test]
async fn a_change_writes_only_the_folders_above_it() {
    let here = place();
    let names: Vec<_> = (0..1000).map(|n| format!("d{}/{n}", n % 100)).collect();
    let mut files: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    here.commit(&files).await;
    for file in files.iter_mut().take(3) {
        file.1 = b"changed";
    }
    let tree = here.tree(&files).await;
    let done = here.snapshots.commit(&tree).await.unwrap();
    assert_eq!(done.new_folders, 4, "three folders and the root above them");
    assert_eq!(here.snapshots.load(done.snapshot).await.unwrap(), tree);
}

#[tokio::test]
async fn a_tree_without_its_contents_is_not_committed() {
    let here = place();
    let node = Node::File { content: BlobId([7; 32]), size: 3, link: None };
    let entry = Entry { path: "a".into(), meta: Meta::folder(), node };
    let workspace = Listing::from_entries(Meta::folder(), vec![entry]).unwrap();
    let tree = Tree { workspace, ..Tree::empty() };
    let refused = here.snapshots.commit(&tree).await;
    assert!(matches!(refused, Err(CommitError::MissingContent { .. })), "{refused:?}");

    let mut lying = here.tree(&[("a", b"123")]).await;
    let mut entries = lying.workspace.entries().to_vec();
    if let Node::File { size, .. } = &mut entries[0].node {
        *size = 4;
    }
    lying.workspace = Listing::from_entries(Meta::folder(), entries).unwrap();
    let refused = here.snapshots.commit(&lying).await;
    assert!(matches!(refused, Err(CommitError::MissingContent { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_store_of_another_tenant_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Arc::new(FolderBlobs::new(dir.path(), [9; 32]));
    let snapshots = Snapshots::new(blobs, &TenantKey::new([1; 32]));
    let refused = snapshots.put(b"1".to_vec()).await;
    assert!(matches!(refused, Err(crate::PutError::ForeignKey { .. })), "{refused:?}");
}

#[tokio::test]
async fn damage_is_named_and_the_one_before_still_loads() {
    let here = place();
    let before = here.commit(&[("a", b"1"), ("d/f", b"2")]).await;
    let tree = here.tree(&[("a", b"1"), ("d/f", b"3")]).await;
    let after = here.snapshots.commit(&tree).await.unwrap().snapshot;
    let content = here.snapshots.id_of(b"3");
    let folder = {
        // The folder `d` of the later snapshot: the only blob that names the later content.
        let needle = content.0;
        let blobs = walk(&here.dir.path().join("blobs"));
        let holds =
            |p: &PathBuf| std::fs::read(p).unwrap().windows(32).any(|window| window == needle);
        blobs.into_iter().find(holds).unwrap()
    };
    for (path, what) in [
        (here.blob_path(after.0), "root"),
        (folder, "folder"),
        (here.blob_path(content.0), "content"),
    ] {
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &damaged).unwrap();
            check(&here, after, what).await;
        }
        std::fs::remove_file(&path).unwrap();
        check(&here, after, what).await;
        here.snapshots.verify(before).await.unwrap();
        std::fs::write(&path, whole).unwrap();
        assert_eq!(here.snapshots.verify(after).await.unwrap(), tree);
    }
}

async fn check(here: &Place, snapshot: SnapshotId, what: &str) {
    let error = here.snapshots.verify(snapshot).await.unwrap_err();
    let named = match &error {
        LoadError::Root { .. } => "root",
        LoadError::Folder { path, .. } if path == Path::new("d") => "folder",
        LoadError::Content(_) | LoadError::File { .. } => "content",
        _ => "something else",
    };
    assert_eq!(named, what, "{error}");
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_diff_names_every_change_and_reads_no_equal_folder() {
    let here = place();
    let before = here
        .commit(&[("same/x", b"1"), ("d/gone", b"1"), ("d/text", b"a"), ("d/kind", b"k")])
        .await;
    let after = here
        .commit(&[("same/x", b"1"), ("d/new", b"\0"), ("d/text", b"b"), ("d/kind/in", b"k")])
        .await;
    let changes = here.snapshots.diff(before, after).await.unwrap();
    let told: Vec<_> =
        changes.iter().map(|c| (c.path.to_str().unwrap(), c.kind, c.content)).collect();
    let (text, binary) = (Some(ContentKind::Text), Some(ContentKind::Binary));
    assert_eq!(
        told,
        [
            ("d/gone", ChangeKind::Removed, text),
            ("d/kind", ChangeKind::Type, text),
            ("d/kind/in", ChangeKind::Added, text),
            ("d/new", ChangeKind::Added, binary),
            ("d/text", ChangeKind::Modified, text),
        ]
    );
    assert!(here.snapshots.diff(after, after).await.unwrap().is_empty());
    // An equal folder need not even be there.
    let mut folder = crate::node::FolderNode::new();
    let content = here.snapshots.id_of(b"1");
    folder.add(b"x", &Meta::with_mode(0o644), &Node::File { content, size: 1, link: None });
    let id = here.snapshots.id_of(&folder.finish());
    assert!(here.blobs.delete(id).await.unwrap(), "the folder `same`");
    assert_eq!(here.snapshots.diff(before, after).await.unwrap(), changes);
}
