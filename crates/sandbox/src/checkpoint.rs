//! The files of a sandbox become snapshots, and come back from them.
//!
//! A checkpoint stops the sandbox's processes, lists both roots, reads what is not known to be
//! unchanged, lets the processes go on and commits. Hashes are computed on this side from the bytes
//! that came; what the guest says about a file decides only whether it is read again.

mod base;
mod error;
mod fill;
mod filling;
mod freeze;
mod memory;
mod over;
mod read;
mod restore;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moat_core::{SealingKey, SnapshotId};
use moat_snapshot::{LoadError, RootName, Snapshots, Tree};

use crate::{Guest, Root};

pub use error::{CheckpointError, RestoreError};
pub use filling::{Filling, Wanted};

use freeze::Frozen;
use memory::{Memory, RootScan, kept};
use restore::Resting;

/// Folders of the home that are left out: what they hold is fetched again when it is missed.
pub const HOME_CACHES: &[&str] = &[
    ".cache",
    ".cargo/git",
    ".cargo/registry",
    ".gradle/caches",
    ".local/share/Trash",
    ".m2/repository",
    ".npm/_cacache",
    ".nuget/packages",
    ".pnpm-store",
    ".rustup",
    "go/pkg/mod",
];

/// Changed paths that a report names.
const MOST_NAMED: usize = 1000;

/// What a checkpoint leaves out, relative to each root.
#[derive(Clone, Debug)]
pub struct SkipRules {
    /// Folders of the workspace.
    pub workspace: Vec<PathBuf>,
    /// Folders of the home.
    pub home: Vec<PathBuf>,
}

impl Default for SkipRules {
    /// Nothing of the workspace, [`HOME_CACHES`] of the home.
    fn default() -> Self {
        Self { workspace: Vec::new(), home: HOME_CACHES.iter().map(PathBuf::from).collect() }
    }
}

/// A checkpoint: durable and verified.
#[derive(Clone, Debug)]
pub struct CheckpointReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Regular files in it.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// Bytes that had not been stored before.
    pub new_bytes: u64,
    /// Paths that differ from the checkpoint before (`~/…` in the home), at most 1,000 of them.
    /// Times alone are no difference.
    pub changed: Vec<String>,
    /// How many differ.
    pub changed_count: u64,
    /// The snapshot is the one before.
    pub unchanged: bool,
    /// Pipes, sockets and devices, which are left out.
    pub skipped_special: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Takes checkpoints of one sandbox and fills it from them. Remembers what it saw, so that an
/// unchanged file is not read twice.
pub struct Checkpointer {
    guest: Arc<dyn Guest>,
    snapshots: Snapshots,
    skip: SkipRules,
    memory: Memory,
    last: Option<Last>,
    resting: Option<Resting>,
    keeper: Option<Keeper>,
}

/// Keeps what is known of the files for a harness that comes back.
struct Keeper {
    path: PathBuf,
    key: Arc<SealingKey>,
    /// The write that is going on.
    writing: Option<tokio::task::JoinHandle<()>>,
}

/// The last snapshot, and how the sandbox shows it: where a guest may not set owners, for example,
/// the two differ without anything having changed.
struct Last {
    snapshot: SnapshotId,
    shown: Tree,
}

impl Checkpointer {
    /// For a sandbox that is empty ([`Checkpointer::restore`] comes next), or whose files are all
    /// to be read by the first checkpoint. Does no I/O.
    pub fn new(guest: Arc<dyn Guest>, snapshots: Snapshots, skip: SkipRules) -> Self {
        let (memory, last, resting, keeper) = (Memory::default(), None, None, None);
        Self { guest, snapshots, skip, memory, last, resting, keeper }
    }

    /// Keeps what is known of the files in `path`, sealed, so that a harness that comes back to
    /// this boot of the sandbox reads only what changed meanwhile.
    pub fn keep_in(&mut self, path: PathBuf) {
        let key = self.snapshots.sealing_key("moat 2026 checkpoint memory v1");
        self.keeper = Some(Keeper { path, key: Arc::new(key), writing: None });
    }

    /// For a sandbox that was found again: the snapshot that its run took last, to compare with.
    /// Without what [`Checkpointer::keep_in`] kept, its files are read again once.
    pub async fn adopt(&mut self, last: SnapshotId) -> Result<(), LoadError> {
        let shown = self.snapshots.load(last).await?;
        if let Some(keeper) = &self.keeper {
            let (path, key) = (keeper.path.clone(), Arc::clone(&keeper.key));
            let boot = self.guest.nonce().clone();
            let read = tokio::task::spawn_blocking(move || kept::read(&path, &key, &boot));
            self.memory = read.await.ok().flatten().unwrap_or_default();
        }
        self.last = Some(Last { snapshot: last, shown });
        Ok(())
    }

    /// Saves the workspace and the home. Processes stand still while files are read, and go on
    /// whatever happens, also if this is dropped. When it fails, the checkpoint before stays the
    /// one to restore.
    pub async fn checkpoint(&mut self) -> Result<CheckpointReport, CheckpointError> {
        let started = Instant::now();
        self.settle().await;
        let frozen = Frozen::begin(&self.guest).await?;
        let scanned = self.scan_and_read().await;
        frozen.thaw().await?;
        let Scanned { tree, read_bytes, special } = scanned?;

        let mut report = CheckpointReport {
            snapshot: SnapshotId([0; 32]),
            files: tree.files(),
            bytes: tree.bytes(),
            new_bytes: 0,
            changed: Vec::new(),
            changed_count: 0,
            unchanged: true,
            skipped_special: special,
            duration: Duration::ZERO,
        };
        match &self.last {
            Some(last) if last.shown == tree => report.snapshot = last.snapshot,
            _ => {
                let committed = self.commit(&tree).await?;
                report.snapshot = committed.snapshot;
                report.new_bytes = read_bytes + committed.new_bytes;
                self.compare(&tree, &mut report);
                self.last = Some(Last { snapshot: committed.snapshot, shown: tree });
            }
        }
        self.keep();
        report.duration = started.elapsed();
        Ok(report)
    }

    /// Writes down what is known, unless that is being done: then the next checkpoint does.
    fn keep(&mut self) {
        let Some(keeper) = &mut self.keeper else { return };
        let busy = keeper.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        if busy || !self.memory.take_changed() {
            return;
        }
        let (path, key) = (keeper.path.clone(), Arc::clone(&keeper.key));
        let (boot, bytes) = (self.guest.nonce().clone(), self.memory.encode());
        let write = move || kept::write(&path, &key, &boot, &bytes);
        keeper.writing = Some(tokio::task::spawn_blocking(write));
    }

    async fn scan_and_read(&mut self) -> Result<Scanned, CheckpointError> {
        let (workspace, home) = self.scan().await?;
        self.memory.begin(&workspace, &home);
        self.memory.distrust(self.guest.mapped().await?);
        let mut read_bytes = self.read_changed(Root::Workspace, &workspace).await?;
        read_bytes += self.read_changed(Root::Home, &home).await?;
        let special = workspace.special + home.special;
        let tree = Tree {
            workspace: self.memory.listing(Root::Workspace, workspace)?,
            home: self.memory.listing(Root::Home, home)?,
        };
        self.memory.end();
        Ok(Scanned { tree, read_bytes, special })
    }

    async fn scan(&self) -> Result<(RootScan, RootScan), CheckpointError> {
        let (workspace, home) = tokio::try_join!(
            self.guest.scan(Root::Workspace, &self.skip.workspace),
            self.guest.scan(Root::Home, &self.skip.home),
        )?;
        Ok((RootScan::check(workspace)?, RootScan::check(home)?))
    }

    async fn commit(&mut self, tree: &Tree) -> Result<moat_snapshot::Committed, CheckpointError> {
        let committed = self.snapshots.commit(tree).await;
        if committed.is_err() {
            // Contents that were read may be gone with the failed sync: read them again.
            self.memory = Memory::default();
        }
        Ok(committed?)
    }

    fn compare(&self, tree: &Tree, report: &mut CheckpointReport) {
        let Some(last) = &self.last else {
            let paths = [(RootName::Home, &tree.home), (RootName::Workspace, &tree.workspace)];
            let paths = paths.iter().flat_map(|(root, listing)| {
                listing.entries().iter().map(|entry| named(*root, &entry.path))
            });
            report.changed = paths.take(MOST_NAMED).collect();
            report.changed_count =
                (tree.home.entries().len() + tree.workspace.entries().len()) as u64;
            report.unchanged = false;
            return;
        };
        let changes = last.shown.changes(tree);
        report.unchanged = last.snapshot == report.snapshot;
        report.changed_count = changes.len() as u64;
        report.changed = changes.iter().take(MOST_NAMED).map(|c| named(c.root, &c.path)).collect();
    }
}

/// What a sandbox holds, all contents on this side.
struct Scanned {
    tree: Tree,
    read_bytes: u64,
    special: u64,
}

/// A path for people and models.
fn named(root: RootName, path: &Path) -> String {
    match (root, path.as_os_str().is_empty()) {
        (RootName::Workspace, true) => ".".to_owned(),
        (RootName::Workspace, false) => path.display().to_string(),
        (RootName::Home, true) => "~".to_owned(),
        (RootName::Home, false) => format!("~/{}", path.display()),
    }
}
