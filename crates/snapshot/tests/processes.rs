//! Several processes on one store of snapshots: killed in the middle of commits, writing at the same
//! time, and collecting beside writers.
//!
//! The others are this test program once more, told by variables what to do.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test ends where something is not as it says"
)]

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moat_blobs::{CollectOptions, FolderObjects, PackedBlobs, PackedOptions};
use moat_core::{SnapshotId, TenantKey};
use moat_snapshot::{Entry, Listing, Meta, Node, Snapshots, Tree};

const ROLE: &str = "MOAT_TEST_ROLE";
const DIR: &str = "MOAT_TEST_DIR";
/// Snapshots that a run keeps.
const KEPT: usize = 3;

fn open(dir: &Path) -> (PackedBlobs, Snapshots) {
    let key = TenantKey::new([1; 32]);
    let objects = Arc::new(FolderObjects::new(dir.join("store")));
    let packs = PackedBlobs::new(objects, *Snapshots::blob_key(&key), PackedOptions::default());
    (packs.clone(), Snapshots::new(Arc::new(packs), &key))
}

/// Files of 60 kB, most of which an earlier or later tree has too.
async fn commit(snapshots: &Snapshots, number: u64) -> SnapshotId {
    let mut entries = Vec::new();
    for file in number..number + 5 {
        let mut bytes = vec![0; 60_000];
        let seed = (file % 23).to_le_bytes();
        blake3::Hasher::new().update(&seed).finalize_xof().fill(&mut bytes);
        let put = snapshots.put(bytes).await.unwrap();
        let node = Node::File { content: put.content, size: put.size, link: None };
        let path = PathBuf::from(format!("{file:06}"));
        entries.push(Entry { path, meta: Meta::with_mode(0o644), node });
    }
    let workspace = Listing::from_entries(Meta::folder(), entries).unwrap();
    let tree = Tree { workspace, ..Tree::empty() };
    snapshots.commit(&tree).await.unwrap().snapshot
}

/// What stands for journals: which run took which snapshot, appended after it was committed.
fn append(dir: &Path, run: &str, snapshot: SnapshotId) {
    let mut file = OpenOptions::new().append(true).create(true).open(dir.join("journal")).unwrap();
    file.write_all(format!("{run} {snapshot}\n").as_bytes()).unwrap();
    file.sync_data().unwrap();
}

/// The snapshots of each run, oldest first. A line that a kill cut off was never appended.
fn journal(dir: &Path) -> HashMap<String, Vec<SnapshotId>> {
    let text = std::fs::read_to_string(dir.join("journal")).unwrap_or_default();
    let mut runs: HashMap<String, Vec<SnapshotId>> = HashMap::new();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let (run, snapshot) = line.split_once(' ').unwrap();
        runs.entry(run.to_owned()).or_default().push(snapshot.parse().unwrap());
    }
    runs
}

fn kept(dir: &Path) -> Vec<SnapshotId> {
    let runs = journal(dir).into_values();
    runs.flat_map(|taken| taken.into_iter().rev().take(KEPT)).collect()
}

/// Removes what no run keeps. Returns how many bytes went.
async fn collect(dir: &Path) -> u64 {
    let (packs, snapshots) = open(dir);
    let live = async || Ok(snapshots.needed_by(&kept(dir)).await.unwrap());
    let options = CollectOptions { grace: Duration::ZERO, dry_run: false, leave_nothing: false };
    let done = packs.collect(live, options).await;
    done.map_err(|error: moat_blobs::WriteBlobError| error).unwrap().removed_bytes
}

/// The other processes; nothing when it is run as a test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_process() {
    let (Ok(role), Some(dir)) = (std::env::var(ROLE), std::env::var_os(DIR)) else { return };
    let dir = PathBuf::from(dir);
    let stop = dir.join("stop");
    if role == "collector" {
        let mut removed = 0;
        while !stop.exists() {
            removed += collect(&dir).await;
        }
        println!("removed {removed}");
        return;
    }
    let start = journal(&dir).get(&role).map_or(0, Vec::len) as u64;
    for number in (start..).take_while(|_| !stop.exists()) {
        // Each time as a new process would: its lease goes once the journal has the snapshot.
        let (_packs, snapshots) = open(&dir);
        let snapshot = commit(&snapshots, number * 3).await;
        append(&dir, &role, snapshot);
        println!("committed");
    }
}

struct Other(Child);

impl Other {
    fn start(role: &str, dir: &Path) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.args(["--exact", "other_process", "--nocapture"]);
        command.env(ROLE, role).env(DIR, dir).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Reads until it has said so many lines that begin like this.
    fn hear(&mut self, begin: &str, lines: usize) -> Vec<String> {
        let out = BufReader::new(self.0.stdout.as_mut().unwrap());
        let said = out.lines().map(Result::unwrap).filter(|line| line.contains(begin));
        said.take(lines).collect()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn all_come_back(dir: &Path, snapshots: &[SnapshotId]) {
    let (packs, store) = open(dir);
    for snapshot in snapshots {
        let verified = store.verify(*snapshot).await;
        assert!(verified.is_ok(), "{snapshot}: {verified:?}");
    }
    assert_eq!(packs.check().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_before_a_kill_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut killed_before = 0;
    for round in 0..12_u64 {
        let mut writer = Other::start("writer", dir.path());
        writer.hear("committed", 2);
        // At different places of a commit, from its first write to the append.
        std::thread::sleep(Duration::from_millis(round * 7 % 40));
        drop(writer);
        let taken = journal(dir.path()).remove("writer").unwrap();
        assert!(taken.len() >= killed_before + 2, "round {round}");
        killed_before = taken.len();
        all_come_back(dir.path(), &taken).await;
    }
    // What the dead left behind keeps nobody from collecting.
    let removed = collect(dir.path()).await;
    assert!(removed > 0, "nothing was removed");
    all_come_back(dir.path(), &kept(dir.path())).await;
    let (_packs, store) = open(dir.path());
    commit(&store, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_and_a_collector_take_nothing_from_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut writers = ["one", "two"].map(|role| Other::start(role, dir.path()));
    let mut collector = Other::start("collector", dir.path());
    let start = Instant::now();
    let mut looked = 0;
    while start.elapsed() < Duration::from_secs(5) || looked < 5 {
        for writer in &mut writers {
            assert_eq!(writer.hear("committed", 2).len(), 2, "a writer ended");
        }
        // The last of each run stays, also if it is only just there. What is looked at here may be
        // older by the time it is: only what still is kept has to come back.
        let before = kept(dir.path());
        let (_packs, store) = open(dir.path());
        for snapshot in before {
            let verified = store.verify(snapshot).await;
            let is_kept = kept(dir.path()).contains(&snapshot);
            assert!(verified.is_ok() || !is_kept, "{snapshot}: {verified:?}");
        }
        looked += 1;
    }
    File::create(dir.path().join("stop")).unwrap();
    let removed = collector.hear("removed", 1).pop().unwrap();
    let removed: u64 = removed.rsplit(' ').next().unwrap().parse().unwrap();
    for writer in &mut writers {
        assert!(writer.0.wait().unwrap().success());
    }
    all_come_back(dir.path(), &kept(dir.path())).await;
    assert!(removed > 0, "the collector found nothing to remove, so this shows nothing");
    let all: HashSet<SnapshotId> = journal(dir.path()).into_values().flatten().collect();
    assert!(all.len() >= 10, "{} snapshots", all.len());
}
