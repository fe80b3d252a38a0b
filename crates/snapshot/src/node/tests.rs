use std::collections::BTreeMap;
use std::path::PathBuf;

use moat_core::BlobId;

use super::*;
use crate::tree::{LinkGroup, Meta, Node};
use crate::{NodeError, RootName};

/// A folder with one of everything. Its bytes are the format: if this changes, every snapshot that
/// was ever taken becomes unreadable.
fn sample() -> Vec<u8> {
    let mut folder = FolderNode::new();
    let xattrs = BTreeMap::from([(b"user.a".to_vec(), b"1".to_vec())]);
    let meta = Meta { mode: 0o4755, uid: 1, gid: 2, mtime_ns: -3, xattrs };
    folder.add_folder(b"d", &Meta::folder(), BlobId([4; 32]));
    let link = Some(LinkGroup([6; 16]));
    folder.add(b"f", &meta, &Node::File { content: BlobId([5; 32]), size: 7, link });
    folder.add(b"l", &Meta::with_mode(0o777), &Node::Symlink(PathBuf::from("/x")));
    folder.finish()
}

#[test]
fn the_format_is_fixed() {
    let hash = blake3::hash(&sample()).to_hex();
    assert_eq!(hash.as_str(), FOLDER_FIXTURE, "the stored format of folders changed");
    let root = encode_root(&[
        (RootName::Home, &Meta::folder(), BlobId([1; 32])),
        (RootName::Workspace, &Meta::folder(), BlobId([2; 32])),
    ]);
    let hash = blake3::hash(&root).to_hex();
    assert_eq!(hash.as_str(), ROOT_FIXTURE, "the stored format of roots changed");
    assert_eq!(decode_root(&root).unwrap().len(), 2);
}

const FOLDER_FIXTURE: &str = "44bd3985ba2b9275febbac0bd671eff64c70a83ad7359cbc59e02a8a53484f51";
const ROOT_FIXTURE: &str = "0424b8fb31517d0adb89d2a1c60b7adbd06ca8d0e7a543df8d0eab0c32495b76";

#[test]
fn reads_back_what_it_wrote_and_nothing_else() {
    let bytes = sample();
    let entries = decode_folder(&bytes).unwrap();
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[0].folder, Some(BlobId([4; 32])));
    assert_eq!(entries[1].meta.xattrs[&b"user.a"[..]], b"1");
    assert!(matches!(&entries[2].node, Node::Symlink(target) if target.as_os_str() == "/x"));
    for length in 0..bytes.len() {
        assert!(decode_folder(&bytes[..length]).is_err(), "cut at {length}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(decode_folder(&longer).err(), Some(NodeError::NotCanonical("end")));
    let mut newer = bytes;
    newer[FOLDER_MAGIC.len()] = 2;
    assert_eq!(decode_folder(&newer).err(), Some(NodeError::Newer(2)));
}

#[test]
fn refuses_names_that_lead_elsewhere_and_any_other_order() {
    let node = Node::File { content: BlobId([5; 32]), size: 0, link: None };
    for names in [vec!["a/b"], vec![".."], vec![""], vec!["b", "a"], vec!["a", "a"]] {
        let mut folder = FolderNode::new();
        names.iter().for_each(|name| folder.add(name.as_bytes(), &Meta::folder(), &node));
        assert!(decode_folder(&folder.finish()).is_err(), "{names:?}");
    }
}

#[test]
fn a_huge_count_allocates_nothing() {
    let mut bytes = FOLDER_MAGIC.to_vec();
    bytes.push(VERSION);
    bytes.extend(u32::MAX.to_le_bytes());
    assert_eq!(decode_folder(&bytes).err(), Some(NodeError::CutOff));
}
