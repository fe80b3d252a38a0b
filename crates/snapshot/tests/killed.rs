//! A process is killed at every step of a commit and of a restore that its store can see, before the
//! step and after it: the snapshot before comes back, what was reported committed is, and the next
//! process does the same again to its end.
//!
//! The other process is this test program once more. It says that it has come to a step, and waits
//! there for its end.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use moat_blobs::{
    FolderObjects, KeptObjects, Lease, ListedObject, ObjectError, Objects, PackedBlobs,
    PackedOptions,
};
use moat_core::{SnapshotId, TenantKey};
use moat_snapshot::{Entry, Listing, Meta, Node, Snapshots, Tree};

const ROLE: &str = "MOAT_TEST_ROLE";
const DIR: &str = "MOAT_TEST_DIR";
/// The step at which it stops, counted from 1: odd ones are before a call of the store.
const STEP: &str = "MOAT_TEST_STEP";
/// Begins the line that says so.
const REACHED: &str = "reached ";
/// Begins the line that names a snapshot that was committed.
const COMMITTED: &str = "committed ";

/// Objects in a folder, of which one call is not begun, or does not come back.
struct Stopping {
    objects: FolderObjects,
    stop_at: usize,
    steps: AtomicUsize,
}

impl Stopping {
    fn step(&self, when: &str, doing: &str) {
        if self.steps.fetch_add(1, Ordering::SeqCst) + 1 == self.stop_at {
            println!("{REACHED}{when} {doing}");
            loop {
                std::thread::park();
            }
        }
    }

    async fn around<T>(&self, doing: &str, call: impl Future<Output = T>) -> T {
        self.step("before", doing);
        let done = call.await;
        self.step("after", doing);
        done
    }
}

/// `packs/0123` without what is random.
fn folder_of(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}

#[async_trait]
impl Objects for Stopping {
    fn place(&self) -> String {
        self.objects.place()
    }
    fn is_near(&self) -> bool {
        self.objects.is_near()
    }
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, ObjectError> {
        let doing = format!("create in {}", folder_of(name));
        self.around(&doing, self.objects.create(name, bytes)).await
    }
    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, ObjectError> {
        let doing = format!("get from {}", folder_of(name));
        self.around(&doing, self.objects.get(name, limit)).await
    }
    async fn read(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        let doing = format!("read from {}", folder_of(name));
        self.around(&doing, self.objects.read(name, offset, length)).await
    }
    async fn list(&self, folder: &str) -> Result<Vec<ListedObject>, ObjectError> {
        self.around(&format!("list {folder}"), self.objects.list(folder)).await
    }
    async fn remove(&self, name: &str) -> Result<bool, ObjectError> {
        self.objects.remove(name).await
    }
    async fn lease(&self) -> Result<Box<dyn Lease>, ObjectError> {
        self.around("lease", self.objects.lease()).await
    }
    async fn leases(&self) -> Result<Vec<u64>, ObjectError> {
        self.objects.leases().await
    }
    async fn free_bytes(&self) -> Result<Option<u64>, ObjectError> {
        self.around("ask for free space", self.objects.free_bytes()).await
    }
}

fn snapshots(objects: Arc<dyn Objects>) -> (PackedBlobs, Snapshots) {
    let key = TenantKey::new([1; 32]);
    let options = PackedOptions { free_space_floor: 1, ..PackedOptions::default() };
    let packs = PackedBlobs::new(objects, *Snapshots::blob_key(&key), options);
    (packs.clone(), Snapshots::new(Arc::new(packs), &key))
}

fn store(dir: &Path) -> FolderObjects {
    FolderObjects::new(dir.join("store"))
}

/// A tree of more than one pack, part of which every other has too.
async fn commit(snapshots: &Snapshots, number: u8) -> SnapshotId {
    let mut entries = Vec::new();
    for (file, size) in [(0, 70_000), (number, 9 << 20), (number, 3)] {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(&[file]).finalize_xof().fill(&mut bytes);
        let put = snapshots.put(bytes).await.unwrap();
        let node = Node::File { content: put.content, size: put.size, link: None };
        let path = PathBuf::from(format!("{size}"));
        entries.push(Entry { path, meta: Meta::with_mode(0o644), node });
    }
    let workspace = Listing::from_entries(Meta::folder(), entries).unwrap();
    snapshots.commit(&Tree { workspace, ..Tree::empty() }).await.unwrap().snapshot
}

/// Reads the whole of a snapshot, every hash checked, and answers how many bytes.
async fn restore(snapshots: &Snapshots, snapshot: SnapshotId) -> usize {
    let tree = snapshots.load(snapshot).await.unwrap();
    let mut bytes = 0;
    for entry in tree.workspace.entries() {
        let Node::File { content, size, .. } = entry.node else { continue };
        bytes += snapshots.read_file(content, size).await.unwrap().len();
    }
    bytes
}

/// The other process; nothing when it is run as a test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_process() {
    let (Ok(role), Some(dir)) = (std::env::var(ROLE), std::env::var_os(DIR)) else { return };
    let stop_at = std::env::var(STEP).unwrap().parse().unwrap();
    let dir = PathBuf::from(dir);
    let objects = Stopping { objects: store(&dir), stop_at, steps: AtomicUsize::new(0) };
    if let Some(snapshot) = role.strip_prefix("restore ") {
        let near = FolderObjects::new(dir.join("near"));
        let kept = KeptObjects::new(Arc::new(objects), near, "packs", 1 << 30);
        let bytes = restore(&snapshots(Arc::new(kept)).1, snapshot.parse().unwrap()).await;
        println!("restored {bytes}");
    } else {
        let (_packs, snapshots) = snapshots(Arc::new(objects));
        let snapshot = commit(&snapshots, role.parse().unwrap()).await;
        println!("{COMMITTED}{snapshot}");
    }
}

/// Runs it until it has reached a step, where it is killed, or to its end. Answers its last word.
fn run(role: &str, dir: &Path, step: usize) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "other_process", "--nocapture"]);
    command.env(ROLE, role).env(DIR, dir).env(STEP, step.to_string());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let words = [REACHED, COMMITTED, "restored "];
    // The harness of tests may have begun the line.
    let word = lines
        .filter_map(|line| {
            let place = words.iter().find_map(|word| line.find(word))?;
            Some(line.split_at(place).1.to_owned())
        })
        .next();
    // Killed, not asked.
    let _ = child.kill();
    child.wait().unwrap();
    word.unwrap_or_else(|| panic!("{role} at step {step}: it said nothing"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_of_a_commit_leaves_the_one_before() {
    let mut steps = Vec::new();
    loop {
        let dir = tempfile::tempdir().unwrap();
        let (packs, first) = snapshots(Arc::new(store(dir.path())));
        let before = commit(&first, 1).await;
        drop((packs, first));
        let word = run("2", dir.path(), steps.len() + 1);
        let (packs, reader) = snapshots(Arc::new(store(dir.path())));
        assert!(restore(&reader, before).await > 9 << 20, "{word}");
        assert_eq!(packs.check().await.unwrap(), [], "{word}");
        let reached = word.strip_prefix(REACHED).map(str::to_owned);
        // The next process does it once more, over what was left.
        let done = reached.as_ref().map_or(word, |_| run("2", dir.path(), usize::MAX));
        let committed = done.strip_prefix(COMMITTED).unwrap().parse().unwrap();
        let (packs, reader) = snapshots(Arc::new(store(dir.path())));
        reader.verify(committed).await.unwrap();
        assert_eq!(packs.check().await.unwrap(), [], "{reached:?}, and once more");
        match reached {
            Some(step) => steps.push(step),
            None => break,
        }
    }
    for step in ["lease", "create in packs", "list packs", "list doomed"] {
        for when in ["before", "after"] {
            let name = format!("{when} {step}");
            assert!(steps.contains(&name), "{name} is none of {steps:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_of_a_restore_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let (packs, first) = snapshots(Arc::new(store(dir.path())));
    let snapshot = commit(&first, 1).await;
    drop((packs, first));
    let role = format!("restore {snapshot}");
    let mut steps = Vec::new();
    loop {
        // What was fetched until then stays near by, and the next restore reads it.
        let word = run(&role, dir.path(), steps.len() + 1);
        match word.strip_prefix(REACHED) {
            Some(step) => steps.push(step.to_owned()),
            None => break assert_eq!(word, format!("restored {}", (9 << 20) + 70_000 + 3)),
        }
    }
    for step in ["list packs", "get from packs"] {
        for when in ["before", "after"] {
            let name = format!("{when} {step}");
            assert!(steps.contains(&name), "{name} is none of {steps:?}");
        }
    }
    let (packs, reader) = snapshots(Arc::new(store(dir.path())));
    assert!(restore(&reader, snapshot).await > 9 << 20);
    assert_eq!(packs.check().await.unwrap(), []);
}
