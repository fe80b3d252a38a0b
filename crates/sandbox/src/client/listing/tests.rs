use std::path::Path;

use super::*;

fn record(path: &str, kind: StatKind) -> StatRecord {
    StatRecord {
        path: path.into(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: 0,
        mtime_ns: 0,
        ctime_ns: 0,
        inode: 1,
        links: 1,
        xattrs: Default::default(),
    }
}

fn add(listing: &mut Listing, paths: &[&str]) -> Result<(), GuestError> {
    let mut bytes = Vec::new();
    for path in paths {
        let (path, kind) = match path.strip_suffix('/') {
            Some(path) => (path, StatKind::Dir),
            None => (*path, StatKind::File),
        };
        record(path, kind).encode(&mut bytes);
    }
    listing.add(&bytes)
}

#[test]
fn a_walk_in_order_is_taken() {
    let mut listing = Listing::tree();
    add(&mut listing, &["/", "a/", "a/b", "a/c/", "a/c/d"]).unwrap();
    add(&mut listing, &["a-b", "b"]).unwrap();
    let entries = listing.finish();
    let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_path()).collect();
    assert_eq!(paths, ["", "a", "a/b", "a/c", "a/c/d", "a-b", "b"].map(Path::new));
}

#[test]
fn what_a_walk_cannot_come_to_is_refused() {
    let bad: [&[&str]; 12] = [
        &["a"],
        &["a/"],
        &["/", "/"],
        &["/", "a", "a"],
        &["/", "b", "a"],
        &["/", "a/b"],
        &["/", "a", "a/b"],
        &["/", "a/", "b/", "a/c"],
        &["/", ".."],
        &["/", "a/", "a/../b"],
        &["/", "/etc"],
        &["/", "a\0"],
    ];
    for paths in bad {
        let result = add(&mut Listing::tree(), paths);
        assert!(matches!(result, Err(GuestError::Protocol(_))), "{paths:?}");
    }
}

#[test]
fn a_folder_lists_only_its_own_names() {
    let folder = || Listing::folder(b"x".to_vec());
    add(&mut folder(), &["x/a/", "x/b"]).unwrap();
    for paths in [["x/a/", "x/a/b"], ["x/a", "y"], ["x/b", "x/a"]] {
        assert!(add(&mut folder(), &paths).is_err(), "{paths:?}");
    }
}
