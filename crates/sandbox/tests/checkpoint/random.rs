//! Any tree goes through a sandbox and comes back as it was.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use moat_snapshot::{Entry, LinkGroup, Listing, Meta, Node, Snapshots, Tree};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::bench::{Bench, store};

#[derive(Clone, Debug)]
enum Plan {
    Dir,
    File(Vec<u8>),
    Symlink(Vec<u8>),
}

type Plans = BTreeMap<Vec<Vec<u8>>, (Plan, u32, i64)>;

fn plans() -> impl Strategy<Value = Plans> {
    let byte = any::<u8>().prop_map(|b| if b == 0 || b == b'/' { b'x' } else { b });
    let name = vec(byte, 1..6).prop_filter("dots", |name| name != b"." && name != b"..");
    let size = prop_oneof![4 => 0..50usize, 1 => 200_000..600_000usize];
    let plan = prop_oneof![
        1 => Just(Plan::Dir),
        4 => (size, any::<u8>()).prop_map(|(size, byte)| Plan::File(vec![byte; size])),
        1 => vec(1..=255u8, 1..20).prop_map(Plan::Symlink),
    ];
    let mode = prop_oneof![Just(0o644u32), Just(0o755), Just(0o4711), Just(0o400), Just(0o666)];
    // Microseconds: finer times are not kept by every file system. Not before 1970 either.
    let time = (0..2_000_000_000_000_000i64).prop_map(|time| time * 1000);
    btree_map(vec(name, 1..4), (plan, mode, time), 0..16)
}

async fn listing(snapshots: &Snapshots, plans: Plans) -> Listing {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let meta = |mode, mtime_ns| Meta { uid, gid, mtime_ns, ..Meta::with_mode(mode) };
    let mut entries = BTreeMap::<PathBuf, Entry>::new();
    for (parts, (plan, mode, time)) in plans {
        let path: PathBuf = parts.into_iter().map(OsString::from_vec).collect();
        let above: Vec<_> = path.ancestors().skip(1).filter(|p| p != &Path::new("")).collect();
        let blocked = |p: &&Path| entries.get(*p).is_some_and(|e| e.node != Node::Dir);
        if entries.contains_key(&path) || above.iter().any(blocked) {
            continue;
        }
        for folder in above {
            let entry = Entry { path: folder.into(), meta: meta(0o700, time), node: Node::Dir };
            entries.entry(folder.into()).or_insert(entry);
        }
        let (node, mode) = match plan {
            Plan::Dir => (Node::Dir, mode & 0o777 | 0o700),
            Plan::Symlink(target) => (Node::Symlink(OsString::from_vec(target).into()), 0o777),
            Plan::File(bytes) => {
                let put = snapshots.put(bytes).await.unwrap();
                (Node::File { content: put.content, size: put.size, link: None }, mode)
            }
        };
        entries.insert(path.clone(), Entry { path, meta: meta(mode, time), node });
    }
    let linked = entries.values().find(|e| matches!(e.node, Node::File { .. })).cloned();
    if let Some(mut entry) = linked {
        let Node::File { link, .. } = &mut entry.node else { unreachable!() };
        // The group is named for its first name in the order of a listing.
        let other = PathBuf::from("\u{10ffff}\u{10ffff}");
        *link = Some(LinkGroup::of(entry.path.as_path().min(&other)));
        entries.insert(entry.path.clone(), entry.clone());
        entries.insert(other.clone(), Entry { path: other, ..entry });
    }
    Listing::from_entries(meta(0o755, 0), entries.into_values().collect()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]

    #[test]
    fn come_back_from_a_sandbox(workspace in plans(), home in plans()) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (_dir, snapshots) = store();
            let tree = Tree {
                workspace: listing(&snapshots, workspace).await,
                home: listing(&snapshots, home).await,
            };
            let snapshot = snapshots.commit(&tree).await.unwrap().snapshot;
            let bench = Bench::new().await;
            bench.checkpointer(&snapshots).restore(snapshot).await.unwrap();
            // A checkpointer that knows nothing has to read everything.
            let report = bench.checkpointer(&snapshots).checkpoint().await.unwrap();
            let found = snapshots.load(report.snapshot).await.unwrap();
            prop_assert_eq!(found.workspace.entries(), tree.workspace.entries());
            prop_assert_eq!(found.home.entries(), tree.home.entries());
            Ok(())
        })?;
    }
}
