//! Scanning, freezing and making a workspace again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use moat_sandbox::{ApplyEntry, ApplyNode, FileKind, Guest, Root, ScanEntry};

use crate::bench::{Bench, until};

/// A tree with one of everything.
const MAKE: &str = "mkdir -p dir/empty dir/closed && printf hello > dir/file && chmod 4751 dir/file \
    && ln dir/file dir/hard && ln -s ../nowhere dir/link && printf 'big%0999990d' 1 > large \
    && mkdir skip && touch skip/x a-b a && mkdir a.d && touch a.d/z && printf x > \"$(printf 'n\\377')\" \
    && touch -h -d '2001-02-03 04:05:06.789 UTC' dir/file dir dir/link && chmod 555 dir/closed";

/// What a scan says, as far as it is the same wherever the tree is made.
type Plain = (PathBuf, FileKind, u32, u64, i64, u64);

fn plain(entries: &[ScanEntry]) -> Vec<Plain> {
    let plain = |entry: &ScanEntry| {
        let stat = &entry.stat;
        // The size of a folder is the file system's business, as is the time of a link.
        let is_dir = stat.kind == FileKind::Dir;
        let size = if is_dir { 0 } else { stat.size };
        let links = if is_dir { 0 } else { stat.links };
        (entry.path.clone(), stat.kind.clone(), stat.mode, size, stat.mtime_ns, links)
    };
    entries.iter().map(plain).collect()
}

/// Entries that make what was scanned; large files without their content.
async fn entries(guest: &dyn Guest, scan: &[ScanEntry]) -> Vec<ApplyEntry> {
    let mut inodes = BTreeMap::new();
    let mut entries = Vec::new();
    for entry in scan {
        let node = match &entry.stat.kind {
            FileKind::Dir => ApplyNode::Dir,
            FileKind::Symlink(target) => ApplyNode::Symlink(target.clone()),
            FileKind::File if inodes.contains_key(&entry.stat.inode) => {
                ApplyNode::Hardlink(PathBuf::clone(&inodes[&entry.stat.inode]))
            }
            _ => {
                inodes.insert(entry.stat.inode, entry.path.clone());
                let size = entry.stat.size;
                let small = size < 100_000;
                let read = guest.read_at(Root::Workspace, &entry.path, 0, 100_000).await.unwrap();
                ApplyNode::File { size, content: small.then_some(read) }
            }
        };
        entries.push(ApplyEntry {
            path: entry.path.clone(),
            node,
            mode: entry.stat.mode,
            owner: (entry.stat.uid, entry.stat.gid),
            mtime_ns: entry.stat.mtime_ns,
            xattrs: entry.stat.xattrs.clone(),
        });
    }
    entries
}

#[tokio::test]
async fn what_is_scanned_can_be_made_again() {
    let from = Bench::new().await;
    let made = from.run(1, MAKE).await;
    assert_eq!(made.code(), 0, "{}", String::from_utf8_lossy(&made.stderr));
    let skip = [PathBuf::from("skip")];
    let scan = from.guest.scan(Root::Workspace, &skip).await.unwrap();
    let paths: Vec<_> = scan.iter().map(|entry| entry.path.to_string_lossy()).collect();
    let expected = [
        "",
        "a",
        "a-b",
        "a.d",
        "a.d/z",
        "dir",
        "dir/closed",
        "dir/empty",
        "dir/file",
        "dir/hard",
        "dir/link",
        "large",
        "n\u{fffd}",
    ];
    assert_eq!(paths, expected);

    let to = Bench::new().await;
    // Over what is there, whatever it is.
    to.run(1, "mkdir -p a/b/c large; touch dir; ln -s / a.d").await;
    let entries = entries(&*from.guest, &scan).await;
    to.guest.apply(Root::Workspace, &entries).await.unwrap();
    let large = Path::new("large");
    let content = from.guest.read_at(Root::Workspace, large, 0, 2 << 20).await.unwrap();
    to.guest.write_at(Root::Workspace, large, 500_000, &content[500_000..]).await.unwrap();
    to.guest.write_at(Root::Workspace, large, 0, &content[..500_000]).await.unwrap();
    to.guest.finish(Root::Workspace, &entries).await.unwrap();
    let again = to.guest.scan(Root::Workspace, &[]).await.unwrap();
    assert_eq!(plain(&again), plain(&scan));
    assert!(to.get("large") == content && to.get("dir/hard") == b"hello");
}

#[tokio::test]
async fn xattrs_are_scanned_and_made() {
    let bench = Bench::new().await;
    let value = BTreeMap::from([(b"user.moat".to_vec(), b"\0kept\xff".to_vec())]);
    let entry = |path: &str, node| ApplyEntry {
        path: path.into(),
        node,
        mode: 0o755,
        owner: (0, 0),
        mtime_ns: 1,
        xattrs: value.clone(),
    };
    let file = ApplyNode::File { size: 1, content: Some(b"x".to_vec()) };
    bench
        .guest
        .apply(Root::Workspace, &[entry("d", ApplyNode::Dir), entry("d/f", file)])
        .await
        .unwrap();
    let scan = bench.guest.scan(Root::Workspace, &[]).await.unwrap();
    assert_eq!((&scan[1].stat.xattrs, &scan[2].stat.xattrs), (&value, &value));
}

#[tokio::test]
async fn a_large_tree_comes_in_order() {
    let bench = Bench::new().await;
    bench.run(1, "for d in $(seq 1 40); do mkdir $d; (cd $d; seq 1 250 | xargs touch); done").await;
    let started = std::time::Instant::now();
    let scan = bench.guest.scan(Root::Workspace, &[]).await.unwrap();
    assert_eq!(scan.len(), 1 + 40 + 40 * 250);
    assert!(scan.is_sorted_by(|a, b| a.path < b.path));
    assert!(started.elapsed().as_secs() < 5);
}

#[tokio::test]
async fn nothing_moves_while_frozen() {
    let bench = Bench::new().await;
    assert!(!bench.guest.freeze().await.unwrap());
    bench.guest.thaw().await.unwrap();
    let script = "(setsid sh -c 'while :; do echo x >> grows; done' &); echo up; \
                  while :; do echo y >> too; done";
    let command = bench.shell(1, script);
    bench.guest.start(&command).await.unwrap();
    let mut events = bench.guest.attach(command.key, 0).await.unwrap();
    until(&mut events, "up").await;
    let size = |name: &str| std::fs::metadata(bench.workspace().join(name)).map_or(0, |m| m.len());
    while size("grows") == 0 || size("too") == 0 {
        tokio::task::yield_now().await;
    }
    assert!(bench.guest.freeze().await.unwrap());
    let before = (size("grows"), size("too"));
    bench.guest.scan(Root::Workspace, &[]).await.unwrap();
    let refused = bench.guest.start(&bench.shell(2, "echo")).await;
    assert!(refused.is_err());
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    assert_eq!((size("grows"), size("too")), before);
    bench.guest.thaw().await.unwrap();
    while (size("grows"), size("too")).0 == before.0 || size("too") == before.1 {
        tokio::task::yield_now().await;
    }
}
