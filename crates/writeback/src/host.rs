//! The folder on the host. Every path is resolved beneath it without following a link.

mod write;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use moat_core::BlobId;
use moat_snapshot::{ContentHasher, Snapshots};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, readlinkat,
    statat,
};
use rustix::io::Errno;

use crate::error::WriteBackError;
use crate::step::State;

pub(crate) use write::Outcome;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Bytes that are hashed or written at a time.
const CHUNK: usize = 1024 * 1024;

/// The folder, opened once: if somebody puts another one in its place, that one is not written to.
pub(crate) struct Host {
    top: OwnedFd,
    path: PathBuf,
    snapshots: Snapshots,
    runtime: tokio::runtime::Handle,
    /// Names of temporary files begin with this.
    mark: String,
    #[cfg(test)]
    pub(crate) kill: kill::Switch,
}

/// What is at a path, and what of it changes whenever its content does.
pub(crate) struct Seen {
    pub(crate) state: State,
    pub(crate) mtime_ns: Option<i64>,
    facts: Option<Facts>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Facts {
    device: u64,
    inode: u64,
    size: i64,
    mtime: (i64, i64),
}

impl Facts {
    fn of(stat: &Stat) -> Self {
        // Not the time of the last change of anything: renaming a file changes that.
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as i64),
        }
    }
}

impl Host {
    /// Opens the folder. `mark` names this run in temporary files.
    pub(crate) fn open(
        path: &Path,
        mark: String,
        snapshots: Snapshots,
        runtime: tokio::runtime::Handle,
    ) -> Result<Self, WriteBackError> {
        let top = openat(CWD, path, FOLDER, Mode::empty())
            .map_err(|error| WriteBackError::host("open", path, error))?;
        Ok(Self {
            top,
            path: path.to_owned(),
            snapshots,
            runtime,
            mark,
            #[cfg(test)]
            kill: kill::Switch::default(),
        })
    }

    fn error(&self, verb: &'static str, path: &Path, error: Errno) -> WriteBackError {
        WriteBackError::host(verb, self.path.join(path), error)
    }

    /// The folder that holds a path. `None`: there is none, or only through a link.
    fn parent(&self, path: &Path) -> Result<Option<OwnedFd>, WriteBackError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        match self.folder(parent) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
            Err(error) => Err(self.error("open", parent, error)),
        }
    }

    fn folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        if path.as_os_str().is_empty() {
            return self.top.try_clone().map_err(|_| Errno::MFILE);
        }
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.top, path, FOLDER, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => self.folder_step_by_step(path),
            opened => opened,
        }
    }

    /// For kernels without `openat2`, and containers that forbid it.
    fn folder_step_by_step(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let mut here = self.top.try_clone().map_err(|_| Errno::MFILE)?;
        for part in path.components() {
            let std::path::Component::Normal(name) = part else { return Err(Errno::XDEV) };
            here = openat(&here, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(here)
    }

    /// Whether a folder is there, reached through no link.
    pub(crate) fn has_folder(&self, path: &Path) -> bool {
        self.folder(path).is_ok()
    }

    /// Whether a link's target, as far as it exists, is reached through no link of somebody else.
    pub(crate) fn is_plain_target(&self, at: &Path, target: &Path) -> bool {
        let mut whole = at.parent().unwrap_or(Path::new("")).to_owned();
        for part in target.components() {
            match part {
                std::path::Component::ParentDir => {
                    whole.pop();
                }
                std::path::Component::Normal(name) => whole.push(name),
                _ => {}
            }
        }
        whole.ancestors().all(|path| {
            let Ok(Some(seen)) = self.stat(path) else { return true };
            FileType::from_raw_mode(seen.st_mode) != FileType::Symlink
        })
    }

    fn stat(&self, path: &Path) -> Result<Option<Stat>, WriteBackError> {
        let (Some(parent), Some(name)) = (self.parent(path)?, path.file_name()) else {
            return Ok(None);
        };
        match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error("look at", path, error)),
        }
    }

    /// What is at a path now.
    pub(crate) fn look(&self, path: &Path) -> Result<Seen, WriteBackError> {
        let absent = Seen { state: State::Absent, mtime_ns: None, facts: None };
        let (Some(parent), Some(name)) = (self.parent(path)?, path.file_name()) else {
            return Ok(absent);
        };
        self.look_in(&parent, name, path).map(|seen| seen.unwrap_or(absent))
    }

    fn look_in(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
    ) -> Result<Option<Seen>, WriteBackError> {
        let fail = |error| self.error("look at", path, error);
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        let mode = stat.st_mode & 0o777;
        let seen = |state| Seen {
            state,
            mtime_ns: Some(
                stat.st_mtime
                    .saturating_mul(1_000_000_000)
                    .saturating_add_unsigned(stat.st_mtime_nsec),
            ),
            facts: Some(Facts::of(&stat)),
        };
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => seen(State::Dir { mode }),
            FileType::Symlink => {
                let target = readlinkat(parent, name, Vec::new()).map_err(fail)?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                seen(State::Link { target })
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = openat(parent.as_fd(), name, flags, Mode::empty()).map_err(fail)?;
                let stat = fstat(&file).map_err(fail)?;
                let (content, size) = self
                    .hash(File::from(file))
                    .map_err(|source| WriteBackError::host("read", self.path.join(path), source))?;
                let state = State::File { content, size, mode: stat.st_mode & 0o777 };
                Seen { facts: Some(Facts::of(&stat)), ..seen(state) }
            }
            _ => seen(State::Other),
        }))
    }

    fn hash(&self, mut file: File) -> std::io::Result<(BlobId, u64)> {
        let mut hasher: ContentHasher = self.snapshots.hasher();
        let mut buffer = vec![0; 64 * 1024];
        let mut size = 0;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok((hasher.id(), size)),
                Ok(count) => {
                    hasher.update(buffer.get(..count).unwrap_or_default());
                    size += count as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A whole content of the snapshot, for rules that look inside. Large ones are not looked at.
    pub(crate) fn content(&self, state: &State, limit: u64) -> Option<Vec<u8>> {
        match state {
            State::File { content, size, .. } if *size <= limit => {
                self.runtime.block_on(self.snapshots.read_file(*content, limit)).ok()
            }
            _ => None,
        }
    }
}

/// Stops the work before its n-th change of the disk, as a kill would.
#[cfg(test)]
pub(crate) mod kill {
    use std::sync::atomic::{AtomicI64, Ordering};

    pub(crate) struct Switch(AtomicI64);

    impl Default for Switch {
        fn default() -> Self {
            Self(AtomicI64::new(i64::MAX))
        }
    }

    impl Switch {
        pub(crate) fn after(&self, changes: i64) {
            self.0.store(changes, Ordering::SeqCst);
        }

        pub(crate) fn is_dead(&self) -> bool {
            self.0.fetch_sub(1, Ordering::SeqCst) <= 0
        }
    }
}
