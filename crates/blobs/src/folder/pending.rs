use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use moat_core::BlobId;
use rustix::fs::FlockOperation;

use super::{Shared, State};
use crate::WriteBlobError;

const LOCK: &str = "lock";

/// A folder of files that are being written, and the lock that says that their writer lives.
pub(super) struct PendingFolder {
    path: PathBuf,
    /// Held for as long as the store lives. Once it is free, another store removes the folder.
    _lock: File,
}

impl PendingFolder {
    fn create(parent: &Path) -> io::Result<Self> {
        sweep(parent);
        loop {
            let path =
                tempfile::Builder::new().prefix("p").rand_bytes(12).tempdir_in(parent)?.keep();
            match lock(&path.join(LOCK), true) {
                Ok(Some(lock)) => return Ok(Self { path, _lock: lock }),
                // Another store took the folder for a left-over before its lock was held.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for PendingFolder {
    fn drop(&mut self) {
        // What was never synced was never promised. If this fails, the next store sweeps it.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what stores left behind that were killed. Best effort: it only frees space.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        match lock(&path.join(LOCK), false) {
            Ok(Some(_free)) => drop(fs::remove_dir_all(&path)),
            Ok(None) => {}
            // Without a lock file it is empty, or its store is about to lock it and then tries
            // again elsewhere. `remove_dir` takes empty folders only.
            Err(_) => drop(fs::remove_dir(&path)),
        }
    }
}

/// Takes the lock; `None`: somebody holds it.
fn lock(path: &Path, create: bool) -> io::Result<Option<File>> {
    let file =
        OpenOptions::new().write(true).create(create).truncate(false).mode(0o600).open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Shared {
    /// A new empty file in the folder of pending files.
    pub(super) fn create_pending(&self) -> Result<(File, PathBuf), WriteBlobError> {
        let path = self.next_pending_path()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| WriteBlobError::at(&path, error))?;
        Ok((file, path))
    }

    fn next_pending_path(&self) -> Result<PathBuf, WriteBlobError> {
        let mut state = self.state();
        let State { folder, next_name, .. } = &mut *state;
        let folder = match folder {
            Some(folder) => folder,
            None => {
                let parent = self.dir.join("pending");
                self.make_dir(&parent)?;
                let created = PendingFolder::create(&parent);
                folder.insert(created.map_err(|error| WriteBlobError::at(&parent, error))?)
            }
        };
        *next_name = next_name.saturating_add(1);
        Ok(folder.path.join(next_name.to_string()))
    }

    /// Where the blob is, if it waits for a sync.
    pub(super) fn pending_path(&self, id: BlobId) -> Option<PathBuf> {
        self.state().pending.get(&id).cloned()
    }

    /// Takes a whole file in as a blob; drops it and answers `false` if the blob is there already.
    pub(super) fn adopt(&self, id: BlobId, path: &Path) -> bool {
        let is_known = self.note_if_known(id);
        let mut state = self.state();
        if is_known || state.pending.contains_key(&id) {
            drop(state);
            let _ = fs::remove_file(path);
            false
        } else {
            state.pending.insert(id, path.to_owned());
            true
        }
    }

    /// Whether the blob is there. If so under its final name, its folder joins the next sync: the
    /// store that wrote it may have died before it synced the name.
    pub(super) fn note_if_known(&self, id: BlobId) -> bool {
        let path = self.final_path(id);
        let is_final = path.exists();
        let mut state = self.state();
        if is_final && let Some(dir) = path.parent() {
            state.dirty_dirs.insert(dir.to_owned());
        }
        is_final || state.pending.contains_key(&id)
    }
}
