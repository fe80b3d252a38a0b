//! What a run has mounted, written down so that whoever comes later can take it away.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::serving::Serving;
use crate::table::{mounted_beneath, unmount};

const RECORD: &str = "mounts.json";
const LOCK: &str = "lock";
const ORPHANED: &str = "orphaned";

/// One mount of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mounted {
    /// Where commands find it.
    #[serde(default)]
    pub(crate) target: String,
    /// The folder of the host.
    pub(crate) folder: PathBuf,
    /// The process that serves it; `None`: an ordinary folder.
    pub(crate) process: Option<Serving>,
    /// What rclone serves there, if it can be written.
    #[serde(default)]
    pub(crate) written: Option<String>,
    /// The shared folder that only this run may use.
    #[serde(default)]
    pub(crate) lock: Option<String>,
}

/// The folder of one run, held by whoever drives it.
#[derive(Debug)]
pub(crate) struct RunFolder {
    pub(crate) path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Makes the folder, or takes it up again. `None`: somebody else holds it.
    pub(crate) fn hold(path: &Path) -> io::Result<Option<Self>> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let place = path.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&place)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        // Whoever held it before may have removed it since it was opened.
        let is_there = fs::metadata(&place).is_ok_and(|there| {
            lock.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
        });
        Ok(is_there.then(|| Self { path: path.to_owned(), _lock: lock }))
    }

    /// Somebody looks after it again.
    pub(crate) fn adopt(&self) {
        let _ = fs::remove_file(self.path.join(ORPHANED));
    }

    pub(crate) fn write(&self, mounted: &[Mounted]) -> io::Result<()> {
        let beside = self.path.join("mounts.json.new");
        fs::write(&beside, serde_json::to_vec(mounted)?)?;
        fs::rename(beside, self.path.join(RECORD))
    }

    pub(crate) fn read(&self) -> Vec<Mounted> {
        read(&self.path)
    }

    /// How long nobody has looked after it. Begins to count with the first question.
    pub(crate) fn orphaned_for(&self) -> io::Result<Duration> {
        if let Some(since) = orphaned_for(&self.path)? {
            return Ok(since);
        }
        fs::write(self.path.join(ORPHANED), "")?;
        Ok(Duration::ZERO)
    }

    /// Takes everything away, once what was written is where it belongs. What is not there within
    /// `patience` stays as it is, and goes on being uploaded. A folder that is still mounted is
    /// never removed: what is in it is somebody's storage. Blocks.
    pub(crate) fn clear(&self, patience: Duration) -> io::Result<()> {
        let until = Instant::now() + patience;
        let mut left = self.read();
        // Nobody uses a shared folder any more; it stays, whatever somebody else may have mounted
        // there.
        left.retain(|mounted| mounted.process.is_some());
        let mut late = None;
        let mut place = 0;
        while let Some(mounted) = left.get(place).cloned() {
            match mounted.end(until, |again| {
                left.get_mut(place).into_iter().for_each(|known| *known = again.clone());
                self.write(&left)
            }) {
                Ok(()) => drop(left.remove(place)),
                Err(error) => {
                    late = Some(error);
                    place += 1;
                }
            }
        }
        if let Some(late) = late {
            self.write(&left)?;
            return Err(late);
        }
        // Also what was made after the record was written.
        for below in mounted_beneath(&self.path) {
            unmount(&below);
        }
        if let Some(below) = mounted_beneath(&self.path).first() {
            let text = format!("`{}` is still mounted", below.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        fs::remove_dir_all(&self.path)
    }
}

/// What the folder of a run says that it has mounted.
fn read(path: &Path) -> Vec<Mounted> {
    let text = fs::read(path.join(RECORD)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// How long nobody has looked after it, if that is being counted.
fn orphaned_for(path: &Path) -> io::Result<Option<Duration>> {
    match fs::metadata(path.join(ORPHANED)) {
        Ok(stat) => {
            let since = SystemTime::now().duration_since(stat.modified()?);
            Ok(Some(since.unwrap_or_default()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a run whose harness is gone may still have a sandbox that writes to this shared folder.
pub(crate) fn may_still_use(path: &Path, shared: &str, grace: Duration) -> bool {
    let has = read(path).iter().any(|mounted| mounted.lock.as_deref() == Some(shared));
    has && orphaned_for(path).ok().flatten().is_none_or(|since| since < grace)
}
