//! Write-back against a run that attacks, a user who edits meanwhile, and kills at every point.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use moat_blobs::FolderBlobs;
use moat_core::TenantKey;
use moat_snapshot::{Entry, Listing, Meta, Node, Snapshots};

use super::*;

mod three_way;

struct Place {
    dir: tempfile::TempDir,
    snapshots: Snapshots,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    for name in ["host", "inside", "scratch"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let key = TenantKey::new([1; 32]);
    let blobs = FolderBlobs::new(dir.path().join("store"), *Snapshots::blob_key(&key));
    Place { snapshots: Snapshots::new(Arc::new(blobs), &key), dir }
}

impl Place {
    fn host(&self) -> PathBuf {
        self.dir.path().join("host")
    }

    /// What the sandbox sees.
    fn inside(&self) -> PathBuf {
        self.dir.path().join("inside")
    }

    /// A copy of the host's folder for the sandbox, and its snapshot.
    async fn start(&self) -> SnapshotId {
        let copied = Command::new("cp").arg("-a").arg(self.host()).arg(self.inside()).status();
        assert!(copied.unwrap().success());
        fs::remove_dir_all(self.dir.path().join("work")).ok();
        fs::rename(self.inside().join("host"), self.dir.path().join("work")).unwrap();
        self.snapshot().await
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    async fn snapshot(&self) -> SnapshotId {
        let mut entries = Vec::new();
        let mut folders = vec![self.work()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                let stat = fs::symlink_metadata(&path).unwrap();
                let node = if stat.is_dir() {
                    folders.push(path.clone());
                    Node::Dir
                } else if stat.is_symlink() {
                    Node::Symlink(fs::read_link(&path).unwrap())
                } else {
                    let put = self.snapshots.put(fs::read(&path).unwrap()).await.unwrap();
                    Node::File { content: put.content, size: put.size, link: None }
                };
                let meta = Meta::with_mode(stat.mode() & 0o7777);
                let path = path.strip_prefix(self.work()).unwrap().to_owned();
                entries.push(Entry { path, meta, node });
            }
        }
        let workspace = Listing::from_entries(Meta::folder(), entries).unwrap();
        let tree = moat_snapshot::Tree { workspace, home: Listing::new(Meta::folder()) };
        self.snapshots.commit(&tree).await.unwrap().snapshot
    }

    fn write_back(&self, base: SnapshotId, last: SnapshotId) -> WriteBack {
        let options = Options {
            run: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            folder: self.host(),
            records: self.dir.path().join("records"),
            scratch: self.dir.path().join("scratch"),
            base,
            last,
        };
        WriteBack::new(self.snapshots.clone(), options)
    }
}

fn put(folder: &Path, path: &str, content: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn set_mode(folder: &Path, path: &str, mode: u32) {
    fs::set_permissions(folder.join(path), fs::Permissions::from_mode(mode)).unwrap();
}

/// Everything in a folder, as text that tells two states apart; times of files included.
fn picture(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut picture = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(here) = folders.pop() {
        for path in fs::read_dir(here).unwrap().map(|entry| entry.unwrap().path()) {
            let stat = fs::symlink_metadata(&path).unwrap();
            let told = if stat.is_dir() {
                folders.push(path.clone());
                format!("dir {:o}", stat.mode())
            } else if stat.is_symlink() {
                format!("link {}", fs::read_link(&path).unwrap().display())
            } else {
                let content = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                format!("file {:o} {content}", stat.mode())
            };
            picture.insert(path.strip_prefix(folder).unwrap().to_owned(), told);
        }
    }
    picture
}

fn paths<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<String> {
    let mut paths: Vec<_> = paths.into_iter().map(|path| path.display().to_string()).collect();
    paths.sort();
    paths
}

/// A host's folder with one of everything, and a run that changes one of everything.
async fn ordinary(here: &Place) -> (SnapshotId, SnapshotId) {
    let host = here.host();
    for path in ["edit", "gone", "mode", "kind", "d/gone", "moved", "same"] {
        put(&host, path, &format!("content of {path}"));
    }
    put(&host, "file-to-dir", "a file");
    put(&host, "dir-to-file/in", "in a folder");
    symlink("edit", host.join("link")).unwrap();
    set_mode(&host, "mode", 0o644);
    set_mode(&host, "edit", 0o640);
    let base = here.start().await;
    let work = here.work();
    put(&work, "edit", "edited");
    fs::remove_file(work.join("gone")).unwrap();
    set_mode(&work, "mode", 0o755);
    fs::remove_file(work.join("kind")).unwrap();
    symlink("edit", work.join("kind")).unwrap();
    fs::remove_dir_all(work.join("d")).unwrap();
    fs::rename(work.join("moved"), work.join("renamed")).unwrap();
    fs::remove_file(work.join("file-to-dir")).unwrap();
    put(&work, "file-to-dir/in", "x");
    fs::remove_dir_all(work.join("dir-to-file")).unwrap();
    put(&work, "dir-to-file", "y");
    put(&work, "new/er/file", "new");
    fs::create_dir(work.join("empty")).unwrap();
    fs::remove_file(work.join("link")).unwrap();
    symlink("same", work.join("link")).unwrap();
    (base, here.snapshot().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_change_arrives_and_can_be_taken_back() {
    let here = place();
    let (base, last) = ordinary(&here).await;
    let before = picture(&here.host());
    let old_time = fs::metadata(here.host().join("edit")).unwrap().modified().unwrap();
    let write_back = here.write_back(base, last);
    let plan = write_back.plan().await.unwrap();
    assert!(plan.conflicts.is_empty() && plan.held_back.is_empty() && plan.refused.is_empty());
    assert_eq!(picture(&here.host()), before, "planning changes nothing");
    let applied = write_back.apply(&plan).await.unwrap();
    assert_eq!(picture(&here.host()), picture(&here.work()));
    assert!(applied.conflicts.is_empty(), "{applied:?}");
    assert!(write_back.plan().await.unwrap().is_empty(), "nothing is left to do");

    let undone = write_back.undo().await.unwrap();
    assert_eq!(picture(&here.host()), before);
    assert!(undone.conflicts.is_empty(), "{undone:?}");
    assert_eq!(fs::metadata(here.host().join("edit")).unwrap().modified().unwrap(), old_time);
    assert_eq!(write_back.undo().await.unwrap(), Undone::default(), "once is enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_point_it_can_be_resumed_or_undone() {
    let here = place();
    let (base, last) = ordinary(&here).await;
    let before = picture(&here.host());
    let after = picture(&here.work());
    let pristine = here.dir.path().join("pristine");
    let copy = |from: &Path, to: &Path| {
        fs::remove_dir_all(to).ok();
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    copy(&here.host(), &pristine);
    let mut kills = 0;
    for changes in 0.. {
        // Even: go on. Odd: take back. Both are killed on their way as well, and done again.
        copy(&pristine, &here.host());
        fs::remove_dir_all(here.dir.path().join("records")).ok();
        let write_back = here.write_back(base, last);
        let plan = write_back.plan().await.unwrap();
        let killed = WriteBack { kill_after: Some(changes), ..write_back.clone() };
        let is_done = killed.apply(&plan).await.is_ok();
        kills += u32::from(!is_done);
        if is_done && changes % 2 == 0 {
            break;
        }
        assert_eq!(write_back.is_interrupted().await.unwrap(), !is_done);
        let again = WriteBack { kill_after: Some(changes / 2), ..write_back.clone() };
        if changes % 2 == 0 {
            assert!(matches!(write_back.plan().await, Err(WriteBackError::Interrupted)));
            let _ = again.resume().await;
            let applied = write_back.resume().await.unwrap();
            assert_eq!(picture(&here.host()), after, "resumed after {changes}");
            // Absent if the killed resume had been at its last step.
            assert!(applied.is_none_or(|applied| applied.conflicts.is_empty()));
        } else {
            let _ = again.undo().await;
            let undone = write_back.undo().await.unwrap();
            assert_eq!(picture(&here.host()), before, "undone after {changes}");
            assert!(undone.conflicts.is_empty(), "{undone:?}");
        }
        assert!(!write_back.is_interrupted().await.unwrap());
    }
    assert!(kills > 40, "only {kills} points were tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_user_changed_meanwhile_stays() {
    let here = place();
    let host = here.host();
    for path in ["edited", "gone", "typed", "d/file", "mine"] {
        put(&host, path, "start");
    }
    let base = here.start().await;
    let work = here.work();
    for path in ["edited", "gone", "typed", "d/file", "new"] {
        put(&work, path, "by the run");
    }
    fs::remove_file(work.join("mine")).unwrap();
    let last = here.snapshot().await;

    put(&host, "edited", "by me");
    fs::remove_file(host.join("gone")).unwrap();
    fs::remove_file(host.join("typed")).unwrap();
    symlink("/etc/passwd", host.join("typed")).unwrap();
    fs::remove_dir_all(host.join("d")).unwrap();
    let outside = here.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    put(&outside, "file", "start");
    symlink(&outside, host.join("d")).unwrap();
    put(&host, "new", "by me");
    put(&host, "mine", "by me");

    let before = picture(&host);
    let write_back = here.write_back(base, last);
    let plan = write_back.plan().await.unwrap();
    let named = paths(plan.conflicts.iter().map(|conflict| &conflict.path));
    assert_eq!(named, ["d/file", "edited", "gone", "mine", "new", "typed"]);
    assert!(plan.changes.is_empty(), "{:?}", plan.changes);
    write_back.apply(&plan).await.unwrap();
    assert_eq!(picture(&host), before);
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "start");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_between_plan_and_write_stays_as_well() {
    let here = place();
    put(&here.host(), "a", "start");
    put(&here.host(), "b", "start");
    let base = here.start().await;
    put(&here.work(), "a", "by the run");
    put(&here.work(), "b", "by the run");
    let last = here.snapshot().await;
    let write_back = here.write_back(base, last);
    let plan = write_back.plan().await.unwrap();
    put(&here.host(), "a", "by me");
    let applied = write_back.apply(&plan).await.unwrap();
    assert_eq!(paths(applied.conflicts.iter().map(|conflict| &conflict.path)), ["a"]);
    assert_eq!(fs::read_to_string(here.host().join("a")).unwrap(), "by me");
    assert_eq!(fs::read_to_string(here.host().join("b")).unwrap(), "by the run");
    // After the write it is the user's again: an undo leaves what he changed.
    put(&here.host(), "b", "by me");
    let undone = write_back.undo().await.unwrap();
    assert_eq!(paths(undone.conflicts.iter().map(|conflict| &conflict.path)), ["a", "b"]);
    assert_eq!(fs::read_to_string(here.host().join("b")).unwrap(), "by me");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_write_of_a_run_goes_on_from_the_first() {
    let here = place();
    put(&here.host(), "a", "start");
    let base = here.start().await;
    for text in ["first", "second"] {
        put(&here.work(), "a", text);
        let write_back = here.write_back(base, here.snapshot().await);
        let plan = write_back.plan().await.unwrap();
        assert!(plan.conflicts.is_empty(), "{:?}", plan.conflicts);
        write_back.apply(&plan).await.unwrap();
        assert_eq!(fs::read_to_string(here.host().join("a")).unwrap(), text);
    }
    here.write_back(base, base).undo().await.unwrap();
    assert_eq!(fs::read_to_string(here.host().join("a")).unwrap(), "start");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_do_not_reach_the_host() {
    let here = place();
    let host = here.host();
    put(&host, "src/main.rs", "start");
    put(&host, ".git/config", "[core]\n");
    put(&host, ".env", "a secret that the run never saw");
    let base = {
        let base = here.start().await;
        fs::remove_file(here.work().join(".env")).unwrap();
        let _ = base;
        here.snapshot().await
    };
    let work = here.work();
    put(&work, ".git/hooks/post-checkout", "#!/bin/sh\nevil\n");
    set_mode(&work, ".git/hooks/post-checkout", 0o755);
    put(&work, ".git/config", "[core]\n\tfsmonitor = evil\n");
    put(&work, ".GIT/config", "evil");
    put(&work, "sub/.git/config", "evil");
    put(&work, ".envrc", "evil");
    put(&work, ".vscode/tasks.json", "evil");
    put(&work, "package.json", "{\"scripts\":{\"postinstall\":\"evil\"}}");
    put(&work, "bare/HEAD", "ref: refs/heads/main");
    put(&work, "bare/objects/x", "");
    put(&work, "bare/refs/x", "");
    put(&work, "bare/config", "[core]\n\tfsmonitor = evil\n");
    put(&work, "tool", "evil");
    set_mode(&work, "tool", 0o4755);
    for (link, target) in
        [("abs", "/etc/passwd"), ("up", "../outside"), ("src/zig", "zag/../../.."), ("ok", "src")]
    {
        symlink(target, work.join(link)).unwrap();
    }
    put(&work, "src/main.rs", "by the run");
    let last = here.snapshot().await;

    let write_back = here.write_back(base, last);
    let mut plan = write_back.plan().await.unwrap();
    let held = paths(plan.held_back.iter().map(|held| &held.change.path));
    assert_eq!(
        held,
        [".envrc", ".vscode", ".vscode/tasks.json", "bare/HEAD", "bare/config", "package.json"]
    );
    let refused = paths(plan.refused.iter().map(|refused| &refused.path));
    assert_eq!(
        refused,
        [
            ".GIT/config",
            ".git/config",
            ".git/hooks/post-checkout",
            "abs",
            "src/zig",
            "sub/.git",
            "sub/.git/config",
            "tool",
            "up"
        ]
    );
    write_back.apply(&plan).await.unwrap();
    let there = picture(&host);
    for path in [
        ".git/hooks",
        ".GIT",
        "sub/.git",
        ".envrc",
        ".vscode",
        "package.json",
        "bare/config",
        "bare/HEAD",
        "tool",
        "abs",
        "up",
        "src/zig",
    ] {
        assert!(!there.contains_key(Path::new(path)), "{path} reached the host");
    }
    assert!(there[Path::new(".git/config")].ends_with("[core]\n"));
    assert!(there[Path::new(".env")].contains("a secret"), "left out is not deleted");
    assert!(there[Path::new("src/main.rs")].ends_with("by the run"));
    assert_eq!(there[Path::new("ok")], "link src");

    // One is confirmed by name; the others stay back.
    plan = write_back.plan().await.unwrap();
    assert!(plan.confirm(Path::new(".vscode/tasks.json")));
    assert!(!plan.confirm(Path::new("tool")), "refused is refused");
    write_back.apply(&plan).await.unwrap();
    let there = picture(&host);
    assert!(there.contains_key(Path::new(".vscode/tasks.json")));
    assert!(!there.contains_key(Path::new(".envrc")));
}

fn git(folder: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .args(["-c", "user.name=T", "-c", "user.email=t@example.com"])
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// A repository with two commits on the host, and a view of it inside.
async fn repository(here: &Place) -> SnapshotId {
    let host = here.host();
    git(&host, &["init", "-q", "-b", "main"]);
    put(&host, "code", "one");
    git(&host, &["add", "."]);
    git(&host, &["commit", "-qm", "one"]);
    here.start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_the_run_come_in_as_references_and_nothing_else_does() {
    let here = place();
    let base = repository(&here).await;
    let (host, work) = (here.host(), here.work());
    put(&work, "code", "two");
    git(&work, &["commit", "-qam", "two"]);
    git(&work, &["checkout", "-qb", "topic/x"]);
    put(&work, "code", "three");
    git(&work, &["commit", "-qam", "three"]);
    let wanted = git(&work, &["rev-parse", "HEAD"]);
    let trap = here.dir.path().join("trap");
    let hook = format!("#!/bin/sh\ntouch {}\n", trap.display());
    for name in ["reference-transaction", "post-checkout", "pre-auto-gc"] {
        put(&work, &format!(".git/hooks/{name}"), &hook);
        set_mode(&work, &format!(".git/hooks/{name}"), 0o755);
    }
    let command = format!("touch {}", trap.display());
    git(&work, &["config", "uploadpack.packObjectsHook", &command]);
    let last = here.snapshot().await;

    let outside = |path: &Path| !path.starts_with(".git/objects") && path.starts_with(".git");
    let before: BTreeMap<_, _> =
        picture(&host).into_iter().filter(|(path, _)| outside(path)).collect();
    let write_back = here.write_back(base, last);
    let plan = write_back.plan().await.unwrap();
    let run = "refs/moat/01890a5d-ac96-774b-bcce-b302099a8057";
    let names: Vec<_> = plan.git.iter().map(|reference| reference.name.clone()).collect();
    assert_eq!(names, [format!("{run}/main"), format!("{run}/topic/x")]);
    let applied = write_back.apply(&plan).await.unwrap();
    assert_eq!(applied.git_problem, None);
    assert_eq!(git(&host, &["rev-parse", &format!("{run}/topic/x")]), wanted);
    git(&host, &["fsck", "--strict"]);
    let after: BTreeMap<_, _> = picture(&host)
        .into_iter()
        .filter(|(path, _)| outside(path) && !path.starts_with(".git/refs/moat"))
        .collect();
    assert_eq!(after, before, "branches, HEAD, index, hooks and configuration stay");
    assert!(!trap.exists(), "a hook of the run was executed");
    write_back.undo().await.unwrap();
    assert_eq!(git(&host, &["for-each-ref", "refs/moat"]), "");
    assert_eq!(fs::read_to_string(host.join("code")).unwrap(), "one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_commits_are_told_and_the_files_arrive_all_the_same() {
    let here = place();
    let base = repository(&here).await;
    let work = here.work();
    put(&work, "code", "two");
    git(&work, &["commit", "-qam", "two"]);
    let commit = git(&work, &["rev-parse", "HEAD"]);
    // Another object under the commit's name.
    let tree = git(&work, &["rev-parse", "HEAD~1"]);
    let object = |id: &str| work.join(".git/objects").join(&id[..2]).join(&id[2..]);
    let other = fs::read(object(&tree)).unwrap();
    fs::remove_file(object(&commit)).unwrap();
    fs::write(object(&commit), other).unwrap();
    let write_back = here.write_back(base, here.snapshot().await);
    let plan = write_back.plan().await.unwrap();
    let applied = write_back.apply(&plan).await.unwrap();
    assert!(applied.git_problem.is_some(), "{applied:?}");
    assert_eq!(git(&here.host(), &["for-each-ref", "refs/moat"]), "");
    assert_eq!(fs::read_to_string(here.host().join("code")).unwrap(), "two");
}
