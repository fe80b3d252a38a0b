//! What was written is on record before it is written.
//!
//! ```text
//! RECORDS/lock              held while somebody writes
//! RECORDS/0001.applied      one record each; the ending says how far it is
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use moat_core::SnapshotId;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::error::WriteBackError;
use crate::git::GitRef;
use crate::step::{State, Step};

/// How long the lock is waited for. A process that this one is just starting holds a copy of every
/// lock for a moment, so the first refusal means little.
const PATIENCE: Duration = Duration::from_secs(2);

/// How far a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Applying,
    Applied,
    Undoing,
    Undone,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Applying, Self::Applied, Self::Undoing, Self::Undone];

    fn ending(self) -> &'static str {
        match self {
            Self::Applying => "applying",
            Self::Applied => "applied",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
        }
    }
}

/// One write to the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The version of this shape; 1.
    pub(crate) version: u32,
    /// What the changes start from and lead to.
    pub(crate) base: SnapshotId,
    pub(crate) last: SnapshotId,
    /// In the order in which they are taken.
    pub(crate) steps: Vec<Step>,
    pub(crate) refs: Vec<GitRef>,
}

impl Record {
    /// What is at a step's path before the first step on it.
    pub(crate) fn start<'a>(&'a self, step: &'a Step) -> &'a State {
        let first = self.steps.iter().find(|other| other.path == step.path);
        &first.unwrap_or(step).before
    }

    /// What is at a step's path after the last step on it.
    pub(crate) fn end<'a>(&'a self, step: &'a Step) -> &'a State {
        let last = self.steps.iter().rfind(|other| other.path == step.path);
        &last.unwrap_or(step).after
    }
}

/// All writes of one run, locked against other processes.
pub(crate) struct Records {
    folder: PathBuf,
    _lock: File,
}

/// A record and where it stands.
pub(crate) struct Stored {
    pub(crate) number: u32,
    pub(crate) stage: Stage,
    pub(crate) record: Record,
}

impl Records {
    pub(crate) fn open(folder: &Path) -> Result<Self, WriteBackError> {
        let fail = |error| WriteBackError::host("open", folder, error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(folder.join("lock"))
            .map_err(fail)?;
        let waiting = Instant::now();
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { folder: folder.to_owned(), _lock: lock }),
                Err(rustix::io::Errno::WOULDBLOCK) if waiting.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(WriteBackError::Busy),
                Err(error) => return Err(fail(error.into())),
            }
        }
    }

    /// All records, the oldest first.
    pub(crate) fn load(&self) -> Result<Vec<Stored>, WriteBackError> {
        let fail = |error| WriteBackError::host("read", &*self.folder, error);
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let Some((number, stage)) = parse_name(&path) else { continue };
            let bytes = fs::read(&path).map_err(|e| WriteBackError::host("read", &*path, e))?;
            let record = serde_json::from_slice(&bytes)
                .map_err(|source| WriteBackError::Record { path, source })?;
            records.push(Stored { number, stage, record });
        }
        records.sort_by_key(|stored| stored.number);
        Ok(records)
    }

    /// Puts a new record on disk.
    pub(crate) fn begin(&self, number: u32, record: Record) -> Result<Stored, WriteBackError> {
        let path = self.path(number, Stage::Applying);
        let fail = |error| WriteBackError::host("write", &*path, error);
        let bytes = serde_json::to_vec(&record)
            .map_err(|source| WriteBackError::Record { path: path.clone(), source })?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).map_err(fail)?;
        file.write_all(&bytes).map_err(fail)?;
        file.as_file().sync_all().map_err(fail)?;
        file.persist_noclobber(&path).map_err(|error| fail(error.error))?;
        self.sync()?;
        Ok(Stored { number, stage: Stage::Applying, record })
    }

    /// Notes how far a record is.
    pub(crate) fn advance(&self, stored: &mut Stored, stage: Stage) -> Result<(), WriteBackError> {
        let (from, to) = (self.path(stored.number, stored.stage), self.path(stored.number, stage));
        fs::rename(&from, &to).map_err(|error| WriteBackError::host("write", to, error))?;
        stored.stage = stage;
        self.sync()
    }

    fn path(&self, number: u32, stage: Stage) -> PathBuf {
        self.folder.join(format!("{number:04}.{}", stage.ending()))
    }

    fn sync(&self) -> Result<(), WriteBackError> {
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| WriteBackError::host("sync", &*self.folder, error))
    }
}

fn parse_name(path: &Path) -> Option<(u32, Stage)> {
    let (number, ending) = path.file_name()?.to_str()?.split_once('.')?;
    let stage = Stage::ALL.into_iter().find(|stage| stage.ending() == ending)?;
    Some((number.parse().ok()?, stage))
}
