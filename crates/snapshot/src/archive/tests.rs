use std::sync::Arc;

use moat_blobs::{FolderObjects, PackedBlobs, PackedOptions};
use moat_core::TenantKey;

use super::*;
use crate::{Entry, LinkGroup, Listing, Meta, Node, Snapshots, Tree};

fn open(dir: &std::path::Path, tenant: u8) -> Snapshots {
    let key = TenantKey::new([tenant; 32]);
    let objects = Arc::new(FolderObjects::new(dir));
    let blobs = PackedBlobs::new(objects, *Snapshots::blob_key(&key), PackedOptions::default());
    Snapshots::new(Arc::new(blobs), &key)
}

async fn tree(snapshots: &Snapshots, large: u8) -> Tree {
    let mut entries = vec![
        Entry { path: "d".into(), meta: Meta::folder(), node: Node::Dir },
        Entry {
            path: "d/link".into(),
            meta: Meta::with_mode(0o777),
            node: Node::Symlink("/away".into()),
        },
    ];
    let group = LinkGroup::of("a".as_ref());
    for (path, bytes, link) in [
        ("a", b"twice".to_vec(), Some(group)),
        ("d/a", b"twice".to_vec(), Some(group)),
        ("d/empty", Vec::new(), None),
        ("d/large", vec![large; 3 << 20], None),
    ] {
        let put = snapshots.put(bytes).await.unwrap();
        let node = Node::File { content: put.content, size: put.size, link };
        entries.push(Entry { path: path.into(), meta: Meta::with_mode(0o640), node });
    }
    let workspace = Listing::from_entries(Meta::folder(), entries).unwrap();
    Tree { workspace, home: Listing::new(Meta::folder()) }
}

/// What does not depend on the key.
fn shape(tree: &Tree) -> Vec<(std::path::PathBuf, Meta, Option<u64>)> {
    let size = |node: &Node| if let Node::File { size, .. } = node { Some(*size) } else { None };
    let entries = tree.workspace.entries().iter();
    entries.map(|e| (e.path.clone(), e.meta.clone(), size(&e.node))).collect()
}

#[tokio::test]
async fn an_archive_carries_snapshots_elsewhere_and_says_when_it_is_damaged() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = open(here.path(), 1);
    let mut ids = Vec::new();
    for large in [1, 2] {
        let tree = tree(&source, large).await;
        ids.push(source.commit(&tree).await.unwrap().snapshot);
    }
    let mut archive = Vec::new();
    source.export(&ids, &mut archive).await.unwrap();

    // Under the same key snapshots are called the same, under another one they are the same files.
    let same = open(there.path(), 1);
    let imported = same.import(&mut archive.as_slice(), ImportLimits::default()).await.unwrap();
    let expected: Vec<_> = ids.iter().map(|id| Imported { from: *id, snapshot: *id }).collect();
    assert_eq!(imported, expected);
    assert_eq!(same.verify(ids[1]).await.unwrap(), source.load(ids[1]).await.unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path(), 2);
    let imported = other.import(&mut archive.as_slice(), ImportLimits::default()).await.unwrap();
    assert_ne!(imported[0].snapshot, ids[0]);
    let tree = other.verify(imported[1].snapshot).await.unwrap();
    assert_eq!(shape(&tree), shape(&source.load(ids[1]).await.unwrap()));

    let fresh = tempfile::tempdir().unwrap();
    let victim = open(fresh.path(), 1);
    for cut in (0..archive.len()).step_by(archive.len() / 20) {
        let refused = victim.import(&mut &archive[..cut], ImportLimits::default()).await;
        assert!(refused.is_err(), "cut at {cut}");
    }
    let plain = zstd::decode_all(archive.as_slice()).unwrap();
    for bit in (0..plain.len() * 8).step_by(plain.len() * 8 / 40) {
        let mut damaged = plain.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let packed = zstd::encode_all(damaged.as_slice(), 1).unwrap();
        let refused = victim.import(&mut packed.as_slice(), ImportLimits::default()).await;
        assert!(refused.is_err(), "bit {bit}");
    }
    assert!(victim.load(ids[0]).await.is_err(), "nothing was committed of it");
    let small = ImportLimits { contents: 1 << 20, folders: 1 << 20 };
    let refused = victim.import(&mut archive.as_slice(), small).await;
    assert!(matches!(refused, Err(ArchiveError::TooLarge { .. })), "{refused:?}");
    let refused = victim.import(&mut &b"something else"[..], ImportLimits::default()).await;
    assert!(matches!(refused, Err(ArchiveError::NotOne)), "{refused:?}");
}
