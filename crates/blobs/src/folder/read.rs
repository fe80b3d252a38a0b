use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use moat_core::BlobId;

use super::Shared;
use super::write::CHUNK;
use crate::{ReadBlobError, WriteBlobError};

impl Shared {
    pub(super) fn get(&self, id: BlobId, limit: u64) -> Result<Vec<u8>, ReadBlobError> {
        let at = |error| ReadBlobError::at(id, error);
        let file = self.open(id).map_err(at)?;
        let size = file.metadata().map_err(at)?.len();
        if size > limit {
            return Err(ReadBlobError::TooLarge { id, size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        // A file that grows meanwhile is damaged; one byte more than its size is enough to see it.
        file.take(size.saturating_add(1)).read_to_end(&mut bytes).map_err(at)?;
        if *blake3::keyed_hash(&self.key, &bytes).as_bytes() == id.0 {
            Ok(bytes)
        } else {
            Err(ReadBlobError::Damaged { id })
        }
    }

    pub(super) fn read(
        &self,
        id: BlobId,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, ReadBlobError> {
        let at = |error| ReadBlobError::at(id, error);
        let file = self.open(id).map_err(at)?;
        let left = file.metadata().map_err(at)?.len().saturating_sub(offset);
        let mut bytes = vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
        file.read_exact_at(&mut bytes, offset).map_err(at)?;
        Ok(bytes)
    }

    pub(super) fn verify(&self, id: BlobId) -> Result<u64, ReadBlobError> {
        let mut file = self.open(id).map_err(|error| ReadBlobError::at(id, error))?;
        let mut hasher = self.hasher();
        let mut buffer = vec![0; CHUNK];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ReadBlobError::at(id, error)),
            };
        }
        if *hasher.finalize().as_bytes() == id.0 {
            Ok(hasher.count())
        } else {
            Err(ReadBlobError::Damaged { id })
        }
    }

    pub(super) fn size(&self, id: BlobId) -> Result<Option<u64>, ReadBlobError> {
        match self.open(id).and_then(|file| file.metadata()) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ReadBlobError::at(id, error)),
        }
    }

    fn open(&self, id: BlobId) -> io::Result<File> {
        let final_path = self.final_path(id);
        match self.pending_path(id) {
            None => File::open(final_path),
            // A sync may be giving the file its final name just now.
            Some(pending) => File::open(pending).or_else(|_| File::open(final_path)),
        }
    }

    pub(super) fn delete(&self, id: BlobId) -> Result<bool, WriteBlobError> {
        // Not while a sync runs, which could bring the file back under its final name.
        let _syncing = self.syncing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let pending = self.state().pending.remove(&id);
        let was_pending = pending.is_some_and(|path| fs::remove_file(path).is_ok());
        let path = self.final_path(id);
        match fs::remove_file(&path) {
            Ok(()) => {
                if let Some(dir) = path.parent() {
                    self.state().dirty_dirs.insert(dir.to_owned());
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(was_pending),
            Err(error) => Err(WriteBlobError::at(path, error)),
        }
    }
}
