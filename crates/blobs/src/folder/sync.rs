use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use moat_core::BlobId;

use super::Shared;
use crate::WriteBlobError;

/// From this many files or folders on, one `syncfs` is cheaper than an `fsync` for each: on ext4
/// every `fsync` of a new file waits for a commit of its own.
const MANY: usize = 4;

impl Shared {
    /// Bytes first, then names, then the folders that hold the names.
    pub(super) fn sync(&self) -> Result<(), WriteBlobError> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let (files, mut dirs) = {
            let mut state = self.state();
            let files: Vec<_> =
                state.pending.iter().map(|(id, path)| (*id, path.clone())).collect();
            (files, std::mem::take(&mut state.dirty_dirs))
        };
        let done = self.sync_files(&files).and_then(|()| {
            self.name_files(&files, &mut dirs)?;
            self.sync_all(dirs.iter().map(PathBuf::as_path))
        });
        if done.is_err() {
            self.state().dirty_dirs.extend(dirs);
        }
        done
    }

    fn sync_files(&self, files: &[(BlobId, PathBuf)]) -> Result<(), WriteBlobError> {
        let synced = self.sync_all(files.iter().map(|(_, path)| path.as_path()));
        if synced.is_err() {
            // After a failed sync the kernel may hold the bytes for clean although they never
            // reached the disk; a second sync would then succeed wrongly. So they are given up.
            let mut state = self.state();
            for (id, path) in files {
                state.pending.remove(id);
                let _ = fs::remove_file(path);
            }
        }
        synced
    }

    fn name_files(
        &self,
        files: &[(BlobId, PathBuf)],
        dirs: &mut HashSet<PathBuf>,
    ) -> Result<(), WriteBlobError> {
        for (id, pending) in files {
            let path = self.final_path(*id);
            match self.name_file(pending, &path, dirs) {
                Ok(()) => {}
                Err(error) => return Err(WriteBlobError::at(path, error)),
            }
            if let Some(dir) = path.parent() {
                dirs.insert(dir.to_owned());
            }
            self.state().pending.remove(id);
        }
        Ok(())
    }

    fn name_file(
        &self,
        pending: &Path,
        path: &Path,
        dirs: &mut HashSet<PathBuf>,
    ) -> io::Result<()> {
        let rename = || {
            rustix::fs::renameat_with(
                rustix::fs::CWD,
                pending,
                rustix::fs::CWD,
                path,
                rustix::fs::RenameFlags::NOREPLACE,
            )
            .map_err(io::Error::from)
        };
        let mut renamed = rename();
        if matches!(&renamed, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            self.make_fan_dir(path, dirs)?;
            renamed = rename();
        }
        match renamed {
            // Another store was faster with the same bytes.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(pending),
            // A file system without that flag: never overwrite, and accept an equal file's loss.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                if path.exists() {
                    fs::remove_file(pending)
                } else {
                    fs::rename(pending, path)
                }
            }
            renamed => renamed,
        }
    }

    fn make_fan_dir(&self, path: &Path, dirs: &mut HashSet<PathBuf>) -> io::Result<()> {
        let Some(fan) = path.parent() else { return Ok(()) };
        self.make_dir(fan).map_err(|error| match error {
            WriteBlobError::Io { source, .. } => source,
            WriteBlobError::Full { .. } => io::ErrorKind::StorageFull.into(),
            WriteBlobError::Objects(error) => io::Error::other(error),
        })?;
        // A new folder is itself a name in the one above, up to one that was there before.
        let above = fan.ancestors().skip(1).take_while(|dir| dir.starts_with(&self.dir));
        dirs.extend(above.chain(self.dir.parent()).map(Path::to_owned));
        Ok(())
    }

    fn sync_all<'a>(&self, paths: impl Iterator<Item = &'a Path>) -> Result<(), WriteBlobError> {
        let paths: Vec<_> = paths.collect();
        if paths.len() >= MANY {
            return self.sync_file_system();
        }
        for path in paths {
            let synced = File::open(path).and_then(|file| file.sync_all());
            match synced {
                // A folder that was removed since has nothing to make durable.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                synced => synced.map_err(|error| WriteBlobError::at(path, error))?,
            }
        }
        Ok(())
    }

    fn sync_file_system(&self) -> Result<(), WriteBlobError> {
        let at = |error| WriteBlobError::at(&self.dir, error);
        let dir = File::open(&self.dir).map_err(at)?;
        rustix::fs::syncfs(dir).map_err(|error| at(error.into()))
    }
}
