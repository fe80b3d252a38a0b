//! Workspaces that are kept as they were filled, for sandboxes that lie over them.
//!
//! ```text
//! STATE/bases/              0700, the caller's
//!   lock                    shared: taken by whoever uses one; exclusive: by whoever removes some
//!   failed                  why the last one could not be made
//!   SNAPSHOT/
//!     tree/                 the workspace, with the owners of the sandbox that it was filled in
//!     base.json             whose those are, which boot of the machine wrote it, for which lineage
//!     notes                 what the harness noted, which nobody here looks into
//! ```
//!
//! They are a cache: what the machine lost its power over may not be on the disk as it was written,
//! so one of another boot is never used. A sandbox that lies over one says so in its folder before
//! it looks whether it is there, and one that is said to be used is not removed.

mod collect;
mod probe;
mod status;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use moat_core::{RunId, SnapshotId};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::create::Place;
use crate::folder::Folder;
use crate::launcher::StepFailed;
use crate::prepared::{Layers, Prepared};
use crate::process;

pub(crate) use collect::{MOST_UNUSED, collect};
pub use status::KeptWorkspaces;

const LOCK: &str = "lock";
const FAILED: &str = "failed";
const TREE: &str = "tree";
const RECORD: &str = "base.json";
const NOTES: &str = "notes";
/// In a sandbox's folder: the name of what it lies over.
const USES: &str = "base.id";

/// What is known of one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Owner 0 of the sandbox that it was filled in, on the host.
    owners_from: u32,
    /// The machine's boot.
    boot: String,
    lineage: RunId,
}

/// What can be told of one.
enum State {
    /// It can be used.
    There(Record),
    /// It is of another boot.
    Old,
    /// It is not there, or cannot be read at the moment.
    Unknown,
}

/// All that are kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    folder: PathBuf,
    /// Hundredths of the disk that stay free.
    leave_free: u8,
}

/// One that a sandbox lies over.
#[derive(Clone, Debug)]
pub(crate) struct UsedBase {
    /// Its files.
    pub(crate) tree: PathBuf,
    /// Owner 0 of the sandbox that it was filled in, on the host.
    pub(crate) owners_from: u32,
}

impl Kept {
    /// Beside the folder of sandboxes, on whose disk so many hundredths stay free.
    pub(crate) fn beside(sandboxes: &Path, leave_free: u8) -> Self {
        let folder = sandboxes.parent().unwrap_or(sandboxes).join("bases");
        Self { folder, leave_free }
    }

    fn path(&self, snapshot: SnapshotId) -> PathBuf {
        self.folder.join(snapshot.to_string())
    }

    /// `None`: nothing is kept, or somebody is removing what is not needed.
    fn lock(&self, exclusive: bool) -> Option<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::open(self.folder.join(LOCK), flags, Mode::RUSR | Mode::WUSR).ok()?;
        let operation = match exclusive {
            true => FlockOperation::NonBlockingLockExclusive,
            false => FlockOperation::NonBlockingLockShared,
        };
        flock(&lock, operation).ok()?;
        Some(lock)
    }

    fn make_folder(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)
    }

    /// A folder that whoever collects removes if it is left.
    fn new_folder(&self) -> io::Result<tempfile::TempDir> {
        tempfile::Builder::new().prefix("new-").tempdir_in(&self.folder)
    }

    /// Those of this boot of the machine, the latest used last.
    fn all(&self) -> Vec<(SystemTime, SnapshotId, Record)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .filter_map(|entry| {
                let snapshot = entry.file_name().to_str()?.parse().ok()?;
                let used = fs::metadata(entry.path().join(RECORD)).ok()?.modified().ok()?;
                Some((used, snapshot, self.record(snapshot)?))
            })
            .collect();
        found.sort_by_key(|(used, ..)| *used);
        found
    }

    fn record(&self, snapshot: SnapshotId) -> Option<Record> {
        match self.state(snapshot) {
            State::There(record) => Some(record),
            State::Old | State::Unknown => None,
        }
    }

    fn state(&self, snapshot: SnapshotId) -> State {
        let text = fs::read(self.path(snapshot).join(RECORD)).ok();
        let record = text.and_then(|text| serde_json::from_slice::<Record>(&text).ok());
        match (record, process::boot()) {
            (Some(record), Ok(boot)) if record.boot == boot => State::There(record),
            (Some(_), Ok(_)) => State::Old,
            _ => State::Unknown,
        }
    }

    /// The one of this snapshot, else the latest of the lineage.
    pub(crate) fn find(&self, snapshot: SnapshotId, lineage: RunId) -> Option<SnapshotId> {
        if self.record(snapshot).is_some() {
            return Some(snapshot);
        }
        let of_lineage = |(_, snapshot, record): (_, SnapshotId, Record)| {
            (record.lineage == lineage).then_some(snapshot)
        };
        self.all().into_iter().rev().find_map(of_lineage)
    }

    pub(crate) fn notes(&self, snapshot: SnapshotId) -> Option<Vec<u8>> {
        fs::read(self.path(snapshot).join(NOTES)).ok()
    }

    /// Says in a sandbox's folder that it lies over this one. `None`: it is not there any more, and
    /// the sandbox is to be filled instead.
    pub(crate) fn use_in(
        &self,
        sandbox: &Path,
        snapshot: SnapshotId,
    ) -> io::Result<Option<UsedBase>> {
        let Some(_lock) = self.lock(false) else { return Ok(None) };
        fs::write(sandbox.join(USES), snapshot.to_string())?;
        let Some(record) = self.record(snapshot) else { return Ok(None) };
        // The latest use decides what is removed first; when that cannot be told, it is removed
        // sooner.
        let record_file = fs::File::open(self.path(snapshot).join(RECORD));
        let _ = record_file.and_then(|file| file.set_modified(SystemTime::now()));
        let tree = self.path(snapshot).join(TREE);
        Ok(Some(UsedBase { tree, owners_from: record.owners_from }))
    }

    /// Takes the workspace out of an ended sandbox's folder. One that is kept already stays.
    pub(crate) fn keep(
        &self,
        workspace: &Path,
        snapshot: SnapshotId,
        (lineage, owners_from): (RunId, u32),
        notes: &[u8],
    ) -> io::Result<()> {
        self.make_folder()?;
        let Some(_lock) = self.lock(false) else {
            return Err(io::Error::other("what is not needed is just being removed"));
        };
        let made = self.new_folder()?;
        fs::rename(workspace, made.path().join(TREE))?;
        let record = Record { owners_from, boot: process::boot()?, lineage };
        fs::write(made.path().join(RECORD), serde_json::to_vec(&record)?)?;
        fs::write(made.path().join(NOTES), notes)?;
        let target = self.path(snapshot);
        if matches!(self.state(snapshot), State::Old) {
            self.set_aside(&snapshot.to_string())?;
        }
        match fs::rename(made.path(), &target) {
            Ok(()) => {
                // It has its name now, and nothing is left of the old one.
                let _ = made.keep();
                self.forget_failure();
                Ok(())
            }
            Err(_) if self.record(snapshot).is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Has a sandbox that is being made lie over what it is to lie over, where that can be.
pub(crate) fn lie_over(
    place: &Place<'_>,
    wanted: Option<SnapshotId>,
    folder: &Folder,
) -> io::Result<Option<UsedBase>> {
    let Some(wanted) = wanted.filter(|_| place.private && place.prepared.lays_over()) else {
        return Ok(None);
    };
    let Some(base) = Kept::beside(place.sandboxes, place.options.workspaces_leave_free)
        .use_in(folder.path(), wanted)?
    else {
        forget(folder.path())?;
        return Ok(None);
    };
    folder.furnish_over()?;
    Ok(Some(base))
}

/// Has a sandbox that could not lie over something be a plain one. If the kernel, or the file
/// system, cannot, nobody tries again.
pub(crate) fn give_up(place: &Place<'_>, folder: &Folder, failed: &StepFailed) -> io::Result<()> {
    if probe::is_permanent(failed) {
        *place.prepared.layers() = Layers::Cannot { why: failed.to_string() };
    }
    forget(folder.path())
}

/// Whether sandboxes can lie over what is kept. Tried once; blocks for some milliseconds.
pub(crate) fn find_out(kept: &Kept, prepared: &Prepared) -> Result<(), String> {
    let known = prepared.layers().clone();
    match known {
        Layers::Can => return Ok(()),
        Layers::Cannot { why } => return Err(why),
        Layers::Untried => {}
    }
    let tried = probe::rehearse(kept, &prepared.launcher);
    match &tried {
        Ok(()) => *prepared.layers() = Layers::Can,
        Err(failed) if probe::is_permanent(failed) => {
            *prepared.layers() = Layers::Cannot { why: failed.to_string() };
        }
        // Another time it may work.
        Err(_) => {}
    }
    tried.map_err(|failed| failed.to_string())
}

/// What the sandbox in this folder lies over.
pub(crate) fn of(sandbox: &Path) -> Option<SnapshotId> {
    fs::read_to_string(sandbox.join(USES)).ok()?.parse().ok()
}

fn forget(sandbox: &Path) -> io::Result<()> {
    match fs::remove_file(sandbox.join(USES)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn no_sandbox(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What sandboxes say that they lie over.
fn used(sandboxes: &Path) -> io::Result<BTreeSet<String>> {
    let mut used = BTreeSet::new();
    for entry in fs::read_dir(sandboxes)? {
        match fs::read_to_string(entry?.path().join(USES)) {
            Ok(name) => drop(used.insert(name)),
            Err(error) if no_sandbox(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(used)
}
