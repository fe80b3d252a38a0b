//! Files beneath a root, and patches.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use moat_core::Hash;
use moat_sandbox::{CommitOutcome, FileChange, FileKind, GuestError, Root};

use crate::bench::Bench;

const WORKSPACE: Root = Root::Workspace;

#[tokio::test]
async fn files_are_written_read_listed_and_removed() {
    let bench = Bench::new().await;
    let guest = &bench.guest;
    guest.write(WORKSPACE, Path::new("a/b/c.sh"), b"hello", 0o755).await.unwrap();
    let stat = guest.stat(WORKSPACE, Path::new("a/b/c.sh")).await.unwrap().unwrap();
    assert_eq!((stat.kind, stat.mode, stat.size), (FileKind::File, 0o755, 5));
    let path = Path::new("a/b/c.sh");
    assert_eq!(guest.read_at(WORKSPACE, path, 1, 3).await.unwrap(), b"ell");
    assert_eq!(guest.read_at(WORKSPACE, path, 9, 3).await.unwrap(), b"");
    guest.write_at(WORKSPACE, path, 4, b"-world").await.unwrap();
    assert_eq!(bench.get("a/b/c.sh"), b"hell-world");

    guest.make_dir(WORKSPACE, Path::new("a/d/e")).await.unwrap();
    guest.rename(WORKSPACE, path, Path::new("a/d/f")).await.unwrap();
    let names: Vec<_> = guest.list(WORKSPACE, Path::new("a/d")).await.unwrap();
    let names: Vec<_> = names.iter().map(|entry| entry.path.to_str().unwrap()).collect();
    assert_eq!(names, ["a/d/e", "a/d/f"]);
    assert_eq!(guest.stat(WORKSPACE, path).await.unwrap(), None);

    std::fs::set_permissions(bench.workspace().join("a/d"), PermissionsExt::from_mode(0o555))
        .unwrap();
    guest.remove(WORKSPACE, Path::new("a")).await.unwrap();
    assert_eq!(guest.stat(WORKSPACE, Path::new("a")).await.unwrap(), None);
    guest.remove(WORKSPACE, Path::new("a")).await.unwrap();
}

#[tokio::test]
async fn names_that_are_not_text_are_kept() {
    use std::os::unix::ffi::OsStrExt as _;
    let bench = Bench::new().await;
    let name = Path::new(std::ffi::OsStr::from_bytes(b"\xff\"\n\x01"));
    bench.guest.write(WORKSPACE, name, b"x", 0o644).await.unwrap();
    assert_eq!(bench.get(name), b"x");
    let listed = bench.guest.list(WORKSPACE, Path::new("")).await.unwrap();
    assert_eq!(listed[0].path, name);
}

#[tokio::test]
async fn nothing_leads_out_of_a_root() {
    let bench = Bench::new().await;
    let guest = &bench.guest;
    let outside = bench.workspace().parent().unwrap().join("home");
    std::fs::write(outside.join("secret"), "s").unwrap();
    bench.put("in/file", b"inside");
    for (link, target) in [
        ("up", "../home"),
        ("abs", outside.to_str().unwrap()),
        ("file-out", "../home/secret"),
        ("magic", "/proc/self/root/etc"),
        ("in-link", "in"),
    ] {
        symlink(target, bench.workspace().join(link)).unwrap();
    }
    let out = |error: &GuestError| matches!(error, GuestError::Outside(_));
    for bad in [
        "up/secret",
        "abs/secret",
        "magic/passwd",
        "/etc/passwd",
        "../home/secret",
        "in/../../home/secret",
    ] {
        let path = Path::new(bad);
        let read = guest.read_at(WORKSPACE, path, 0, 10).await.unwrap_err();
        let stat = guest.stat(WORKSPACE, path).await.unwrap_err();
        let write = guest.write(WORKSPACE, path, b"x", 0o644).await.unwrap_err();
        let write_at = guest.write_at(WORKSPACE, path, 0, b"x").await.unwrap_err();
        let remove = guest.remove(WORKSPACE, path).await.unwrap_err();
        let rename = guest.rename(WORKSPACE, Path::new("in/file"), path).await.unwrap_err();
        let make = guest.make_dir(WORKSPACE, &path.join("d")).await.unwrap_err();
        for error in [read, stat, write, write_at, remove, rename, make] {
            assert!(out(&error), "{bad}: {error}");
        }
    }
    assert!(out(&guest.read_at(WORKSPACE, Path::new("file-out"), 0, 1).await.unwrap_err()));
    assert!(guest.write_at(WORKSPACE, Path::new("file-out"), 0, b"x").await.is_err());
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"s");
    // A link that stays inside is followed; one at the end is looked at, replaced and removed.
    assert_eq!(guest.read_at(WORKSPACE, Path::new("in-link/file"), 0, 9).await.unwrap(), b"inside");
    let stat = guest.stat(WORKSPACE, Path::new("in-link")).await.unwrap().unwrap();
    assert_eq!(stat.kind, FileKind::Symlink("in".into()));
    guest.remove(WORKSPACE, Path::new("up")).await.unwrap();
    guest.write(WORKSPACE, Path::new("file-out"), b"new", 0o644).await.unwrap();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(bench.get("file-out"), b"new");
}

#[tokio::test]
async fn pipes_and_folders_do_not_wedge_the_guest() {
    let bench = Bench::new().await;
    bench.run(1, "mkfifo pipe; mkdir dir").await;
    for path in ["pipe", "dir"] {
        let path = Path::new(path);
        assert!(bench.guest.read_at(WORKSPACE, path, 0, 1).await.is_err());
        assert!(bench.guest.write_at(WORKSPACE, path, 0, b"x").await.is_err());
    }
    assert_eq!(bench.run(2, "echo alive").await.text(), "alive\n");
}

fn change(path: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> FileChange {
    FileChange {
        path: path.into(),
        before: before.map(Hash::of),
        after: after.map(|content| (content.to_vec(), None)),
    }
}

#[tokio::test]
async fn a_commit_changes_all_files_or_none_and_can_be_done_again() {
    let bench = Bench::new().await;
    bench.put("edit", b"1");
    bench.put("delete", b"2");
    std::fs::set_permissions(bench.workspace().join("edit"), PermissionsExt::from_mode(0o750))
        .unwrap();
    let changes = [
        change("edit", Some(b"1"), Some(b"one")),
        change("delete", Some(b"2"), None),
        change("new/file", None, Some(b"three")),
    ];
    let guest = &bench.guest;
    assert_eq!(guest.committed(bench.key(1)).await.unwrap(), None);
    assert_eq!(guest.commit(bench.key(1), &changes).await.unwrap(), CommitOutcome::Done);
    let state =
        || (bench.get("edit"), bench.get("new/file"), bench.workspace().join("delete").exists());
    assert_eq!(state(), (b"one".to_vec(), b"three".to_vec(), false));
    let mode = std::fs::metadata(bench.workspace().join("edit")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
    // Under its key the outcome is remembered; under another it is found to be done.
    assert_eq!(guest.committed(bench.key(1)).await.unwrap(), Some(CommitOutcome::Done));
    assert_eq!(guest.commit(bench.key(2), &changes).await.unwrap(), CommitOutcome::Done);
    guest.release(bench.key(1)).await.unwrap();
    assert_eq!(guest.committed(bench.key(1)).await.unwrap(), None);

    let conflicting = [
        change("new/file", Some(b"three"), Some(b"changed")),
        change("edit", Some(b"1"), Some(b"two")),
    ];
    let outcome = guest.commit(bench.key(3), &conflicting).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Conflict("edit".into()));
    assert_eq!(state(), (b"one".to_vec(), b"three".to_vec(), false));
    let leftovers = bench.run(9, "find . -name '.moat*'").await;
    assert_eq!(leftovers.text(), "");
}

#[tokio::test]
async fn a_commit_that_was_cut_half_way_is_completed() {
    let bench = Bench::new().await;
    bench.put("a", b"after");
    bench.put("b", b"before");
    let changes = [
        change("a", Some(b"before"), Some(b"after")),
        change("b", Some(b"before"), Some(b"after")),
    ];
    assert_eq!(bench.guest.commit(bench.key(1), &changes).await.unwrap(), CommitOutcome::Done);
    assert_eq!((bench.get("a"), bench.get("b")), (b"after".to_vec(), b"after".to_vec()));
}

#[tokio::test]
async fn a_commit_follows_links_inside_and_only_inside() {
    let bench = Bench::new().await;
    bench.put("real/a", b"1");
    bench.put("x", b"x");
    for (link, target) in [("ln", "real"), ("to-a", "real/a"), ("out", "../home"), ("gone", "no")] {
        symlink(target, bench.workspace().join(link)).unwrap();
    }
    let guest = &bench.guest;
    let through = [change("ln/a", Some(b"1"), Some(b"2"))];
    assert_eq!(guest.commit(bench.key(1), &through).await.unwrap(), CommitOutcome::Done);
    let through = [change("to-a", Some(b"2"), Some(b"3"))];
    assert_eq!(guest.commit(bench.key(2), &through).await.unwrap(), CommitOutcome::Done);
    assert_eq!(bench.get("real/a"), b"3");
    assert!(bench.workspace().join("to-a").is_symlink());
    // Removing takes the name.
    let remove = [change("to-a", Some(b"3"), None)];
    assert_eq!(guest.commit(bench.key(3), &remove).await.unwrap(), CommitOutcome::Done);
    assert!(!bench.workspace().join("to-a").is_symlink() && bench.get("real/a") == b"3");
    let out = guest.commit(bench.key(4), &[change("out/n", None, Some(b""))]).await;
    assert!(matches!(out, Err(GuestError::Outside(_))), "{out:?}");
    let dangling = guest.commit(bench.key(5), &[change("gone", None, Some(b""))]).await.unwrap();
    assert_eq!(dangling, CommitOutcome::Conflict("gone".into()));
}

#[tokio::test]
async fn a_commit_may_be_larger_than_a_frame() {
    let bench = Bench::new().await;
    let large = vec![b'z'; 9_000_000];
    let changes = [change("large", None, Some(&large)), change("small", None, Some(b"s"))];
    assert_eq!(bench.guest.commit(bench.key(1), &changes).await.unwrap(), CommitOutcome::Done);
    assert!(bench.get("large") == large && bench.get("small") == b"s");
}
