//! Any tree that a file system can hold comes back from the store as it was.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moat_blobs::{BlobStore, FolderBlobs, FolderObjects, PackedBlobs, PackedOptions};
use moat_core::TenantKey;
use moat_snapshot::{Entry, LinkGroup, Listing, Meta, Node, Snapshots, Tree};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// What a path is to be, before contents have ids.
#[derive(Clone, Debug)]
enum Plan {
    Dir,
    File(Vec<u8>),
    Symlink(Vec<u8>),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|b| if b == 0 || b == b'/' { b'x' } else { b });
    vec(byte, 1..4).prop_filter("dots", |name| name != b"." && name != b"..")
}

fn plan() -> impl Strategy<Value = Plan> {
    prop_oneof![
        Just(Plan::Dir),
        vec(any::<u8>(), 0..40).prop_map(Plan::File),
        vec(1..=255u8, 1..20).prop_map(Plan::Symlink),
    ]
}

fn meta() -> impl Strategy<Value = Meta> {
    let xattrs = btree_map(vec(any::<u8>(), 1..6), vec(any::<u8>(), 0..6), 0..2);
    (0..=0o7777u32, any::<u32>(), any::<u32>(), any::<i64>(), xattrs)
        .prop_map(|(mode, uid, gid, mtime_ns, xattrs)| Meta { mode, uid, gid, mtime_ns, xattrs })
}

type Plans = Vec<(Vec<Vec<u8>>, Plan, Meta)>;

fn plans() -> impl Strategy<Value = Plans> {
    vec((vec(name(), 1..4), plan(), meta()), 0..20)
}

async fn listing(snapshots: &Snapshots, root: Meta, plans: Plans) -> Listing {
    let mut entries = BTreeMap::<PathBuf, Entry>::new();
    let mut first: Option<Entry> = None;
    for (parts, plan, meta) in plans {
        let path: PathBuf = parts.into_iter().map(OsString::from_vec).collect();
        let above: Vec<_> = path.ancestors().skip(1).filter(|p| p != &Path::new("")).collect();
        let blocked = |p: &&Path| entries.get(*p).is_some_and(|e| e.node != Node::Dir);
        if entries.contains_key(&path) || above.iter().any(blocked) {
            continue;
        }
        for folder in above {
            let entry = Entry { path: folder.into(), meta: Meta::folder(), node: Node::Dir };
            entries.entry(folder.into()).or_insert(entry);
        }
        let node = match plan {
            Plan::Dir => Node::Dir,
            Plan::Symlink(target) => Node::Symlink(OsString::from_vec(target).into()),
            Plan::File(bytes) => {
                let put = snapshots.put(bytes).await.unwrap();
                Node::File { content: put.content, size: put.size, link: None }
            }
        };
        let entry = Entry { path: path.clone(), meta, node };
        if matches!(entry.node, Node::File { .. }) {
            first.get_or_insert(entry.clone());
        }
        entries.insert(path, entry);
    }
    // The first file gets a second name.
    if let Some(mut original) = first {
        let Node::File { link, .. } = &mut original.node else { unreachable!() };
        *link = Some(LinkGroup::of(&original.path));
        let other = PathBuf::from("another name");
        entries.insert(original.path.clone(), original.clone());
        entries.insert(other.clone(), Entry { path: other, ..original });
    }
    Listing::from_entries(root, entries.into_values().collect()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn come_back(root in meta(), workspace in plans(), home in plans(), packed in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let key = TenantKey::new([1; 32]);
            let open = || {
                let id_key = *Snapshots::blob_key(&key);
                let blobs: Arc<dyn BlobStore> = if packed {
                    let objects = Arc::new(FolderObjects::new(dir.path()));
                    Arc::new(PackedBlobs::new(objects, id_key, PackedOptions::default()))
                } else {
                    Arc::new(FolderBlobs::new(dir.path(), id_key))
                };
                Snapshots::new(blobs, &key)
            };
            let snapshots = open();
            let tree = Tree {
                workspace: listing(&snapshots, root, workspace).await,
                home: listing(&snapshots, Meta::folder(), home).await,
            };
            let first = snapshots.commit(&tree).await.unwrap().snapshot;
            prop_assert_eq!(&open().verify(first).await.unwrap(), &tree);
            prop_assert_eq!(open().commit(&tree).await.unwrap().snapshot, first);
            let nothing = snapshots.commit(&Tree::empty()).await.unwrap().snapshot;
            let stored = snapshots.diff(nothing, first).await.unwrap();
            let in_memory = Tree::empty().changes(&tree);
            prop_assert_eq!(stored.len(), in_memory.len());
            Ok(())
        })?;
    }
}
