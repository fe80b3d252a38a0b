//! Any tree comes back, bit for bit: what every store of snapshots has to pass, and the trees with
//! which providers of sandboxes are checked. Panics with what is wrong, as tests do.
#![expect(clippy::unwrap_used, reason = "a test suite, run by tests only")]

mod draw;
mod sample;

pub use sample::{Allowed, Sample};

use crate::{Node, Snapshots, Tree};

/// Trees that are tried.
const TREES: u64 = 4;

/// Puts trees into a store and gets them back. `open` opens it anew each time, as another process
/// would.
pub async fn check(open: impl Fn() -> Snapshots) {
    for seed in 0..TREES {
        let sample = Sample::new(seed, &Allowed::anything());
        let writer = open();
        let tree = sample.put(&writer).await.unwrap();
        let snapshot = writer.commit(&tree).await.unwrap().snapshot;
        drop(writer);

        let reader = open();
        assert_eq!(reader.verify(snapshot).await.unwrap(), tree, "tree {seed}");
        contents_come_back(&reader, &sample, &tree).await;
        let again = open();
        assert_eq!(again.commit(&tree).await.unwrap().snapshot, snapshot, "tree {seed}");
        let nothing = again.commit(&Tree::empty()).await.unwrap().snapshot;
        let stored = again.diff(nothing, snapshot).await.unwrap();
        assert_eq!(stored.len(), Tree::empty().changes(&tree).len(), "tree {seed}");
    }
}

async fn contents_come_back(snapshots: &Snapshots, sample: &Sample, tree: &Tree) {
    for (listing, contents) in [(&tree.workspace, &sample.workspace), (&tree.home, &sample.home)] {
        for (path, wanted) in contents.contents() {
            let Node::File { content, size, .. } = listing.get(path).unwrap().node else {
                unreachable!("`{}` was put as a file", path.display())
            };
            let found = snapshots.read_file(content, size).await.unwrap();
            assert!(found == wanted.bytes(), "the content of `{}`", path.display());
        }
    }
}
