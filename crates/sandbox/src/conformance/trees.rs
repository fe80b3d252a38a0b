//! Any tree goes through a sandbox and comes back as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moat_blobs::{FolderObjects, PackedBlobs, PackedOptions};
use moat_core::TenantKey;
use moat_snapshot::conformance::{Allowed, Sample};
use moat_snapshot::{Listing, Snapshots, Tree};

use super::Verdict;
use super::bench::{Bench, Lab, Problem};
use crate::checkpoint::{CheckpointReport, Checkpointer, SkipRules};
use crate::{ApplyEntry, ApplyNode, GuestError, Root};

/// Trees that are tried.
const TREES: u64 = 3;

impl Problem {
    fn of(doing: &str, error: impl std::fmt::Display) -> Self {
        Self(format!("{doing}: {error}"))
    }
}

fn store() -> Result<(tempfile::TempDir, Snapshots), Problem> {
    let dir = tempfile::tempdir().map_err(|error| Problem::of("a folder for the store", error))?;
    let key = TenantKey::new([1; 32]);
    let objects = Arc::new(FolderObjects::new(dir.path()));
    let packs = PackedBlobs::new(objects, *Snapshots::blob_key(&key), PackedOptions::default());
    Ok((dir, Snapshots::new(Arc::new(packs), &key)))
}

fn checkpointer(lab: &Lab, snapshots: &Snapshots) -> Checkpointer {
    Checkpointer::new(lab.guest.clone(), snapshots.clone(), SkipRules::default())
}

async fn checkpoint(lab: &Lab, snapshots: &Snapshots) -> Result<CheckpointReport, Problem> {
    // One that knows nothing has to read everything.
    let taken = checkpointer(lab, snapshots).checkpoint().await;
    taken.map_err(|error| Problem::of("a checkpoint", error))
}

pub(super) async fn any_tree_comes_back(bench: &Bench<'_>) -> Verdict {
    let (_dir, snapshots) = store()?;
    for seed in 0..TREES {
        let lab = bench.sandbox().await?;
        let root = lab.guest.stat(Root::Workspace, Path::new("")).await?;
        let root = root.ok_or_else(|| Problem("there is no workspace".to_owned()))?;
        let xattrs = keeps_attributes(&lab).await?;
        let allowed = Allowed::in_a_sandbox((root.uid, root.gid), xattrs);
        let sample = Sample::new(seed, &allowed);
        let put = sample.put(&snapshots).await;
        let tree = put.map_err(|error| Problem::of("a tree's contents", error))?;
        let committed = snapshots.commit(&tree).await;
        let committed = committed.map_err(|error| Problem::of("a commit", error))?;
        let restored = checkpointer(&lab, &snapshots).restore(committed.snapshot).await;
        restored.map_err(|error| Problem::of(&format!("restoring tree {seed}"), error))?;
        let taken = checkpoint(&lab, &snapshots).await?;
        let found = snapshots.load(taken.snapshot).await;
        let found = found.map_err(|error| Problem::of("loading a checkpoint", error))?;
        same(seed, &tree, &found)?;
    }
    Ok(())
}

/// Whether the file system takes extended attributes. If it does not, a tree that has some cannot
/// be restored there, and that is said.
async fn keeps_attributes(lab: &Lab) -> Result<bool, Problem> {
    let entry = ApplyEntry {
        path: PathBuf::from("probe"),
        node: ApplyNode::File { size: 0, content: Some(Vec::new()) },
        mode: 0o600,
        owner: (1000, 1000),
        mtime_ns: 0,
        xattrs: BTreeMap::from([(b"user.probe".to_vec(), b"x".to_vec())]),
    };
    let applied = lab.guest.apply(Root::Workspace, &[entry]).await;
    let stat = lab.guest.stat(Root::Workspace, Path::new("probe")).await?;
    lab.guest.remove(Root::Workspace, Path::new("probe")).await?;
    let kept = stat.is_some_and(|stat| stat.xattrs.contains_key(b"user.probe".as_slice()));
    match applied {
        Ok(()) if kept => Ok(true),
        Ok(()) => Err(Problem("an attribute was lost, and nothing said so".to_owned())),
        Err(GuestError::Os { path, .. }) if path == "probe" => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn same(seed: u64, wanted: &Tree, found: &Tree) -> Verdict {
    let roots =
        [("workspace", &wanted.workspace, &found.workspace), ("home", &wanted.home, &found.home)];
    for (name, wanted, found) in roots {
        if let Some(difference) = difference(wanted, found) {
            return Err(Problem(format!("tree {seed}, in the {name}: {difference}")));
        }
    }
    Ok(())
}

/// The first thing that differs.
fn difference(wanted: &Listing, found: &Listing) -> Option<String> {
    if wanted.root() != found.root() {
        return Some(format!("the root is {:?} instead of {:?}", found.root(), wanted.root()));
    }
    for entry in wanted.entries() {
        let there = found.get(&entry.path);
        if there != Some(entry) {
            return Some(format!("there is {there:?} instead of {entry:?}"));
        }
    }
    let added = found.entries().iter().find(|entry| wanted.get(&entry.path).is_none());
    added.map(|entry| format!("`{}` was not there before", entry.path.display()))
}

pub(super) async fn holes_stay_holes(bench: &Bench<'_>) -> Verdict {
    const SIZE: u64 = 48 << 20;
    let (_dir, snapshots) = store()?;
    let first = bench.sandbox().await?;
    // Data, a hole, data, a hole; then only a hole.
    first
        .ask(&format!(
            "printf begin > a; dd if=/dev/null of=a bs=1 seek={} 2> /dev/null; printf middle >> a; \
             dd if=/dev/null of=a bs=1 seek={SIZE} 2> /dev/null; \
             dd if=/dev/null of=b bs=1 seek={SIZE} 2> /dev/null",
            SIZE / 2
        ))
        .await?;
    let blocks = "stat -c '%s %b' a b; tail -c +25165825 a | head -c 6; head -c 5 a";
    let before = first.ask(blocks).await?;
    let taken = checkpoint(&first, &snapshots).await?;
    let second = bench.sandbox().await?;
    let restored = checkpointer(&second, &snapshots).restore(taken.snapshot).await;
    restored.map_err(|error| Problem::of("a restore", error))?;
    let after = second.ask(blocks).await?;
    let parsed = |said: &str| -> Option<(Vec<(u64, u64)>, String)> {
        let mut lines = said.lines();
        let mut numbers = || {
            let (size, blocks) = lines.next()?.split_once(' ')?;
            Some((size.parse().ok()?, blocks.parse().ok()?))
        };
        let files = vec![numbers()?, numbers()?];
        Some((files, lines.collect()))
    };
    let (Some((old, _)), Some((new, text))) = (parsed(&before), parsed(&after)) else {
        return Err(Problem(format!("it said {before:?}, {after:?}")));
    };
    ensure!(text == "middlebegin", "there is {text:?}");
    for ((_, had), (size, has)) in old.into_iter().zip(new) {
        ensure!(size == SIZE, "{size} bytes instead of {SIZE}");
        // A block of data may take more room than it did.
        ensure!(has <= had + 512, "{has} blocks instead of {had}");
    }
    Ok(())
}
