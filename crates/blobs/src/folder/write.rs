use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use moat_core::BlobId;

use super::{Shared, blocking};
use crate::{BlobWriter, WriteBlobError};

/// Bytes that are moved at a time.
pub(super) const CHUNK: usize = 256 * 1024;

/// A file that becomes a blob, hashed while it is written. Removed unless it was finished.
pub(super) struct OpenBlob {
    file: File,
    path: PathBuf,
    hasher: blake3::Hasher,
    written: u64,
    finished: bool,
}

impl OpenBlob {
    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteBlobError> {
        self.file.write_all(bytes).map_err(|error| WriteBlobError::at(&self.path, error))?;
        self.hasher.update(bytes);
        self.written = self.written.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

impl Drop for OpenBlob {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Shared {
    pub(super) fn open_blob(&self) -> Result<OpenBlob, WriteBlobError> {
        let (file, path) = self.create_pending()?;
        Ok(OpenBlob { file, path, hasher: self.hasher(), written: 0, finished: false })
    }

    pub(super) fn put(&self, bytes: &[u8]) -> Result<(BlobId, bool), WriteBlobError> {
        // The id is known before anything is written, so equal bytes cost no write.
        let id = BlobId(*blake3::keyed_hash(&self.key, bytes).as_bytes());
        let is_known = self.note_if_known(id);
        if !is_known {
            let mut open = self.open_blob()?;
            open.file.write_all(bytes).map_err(|error| WriteBlobError::at(&open.path, error))?;
            open.finished = true;
            self.adopt(id, &open.path);
        }
        Ok((id, !is_known))
    }

    pub(super) fn put_file(&self, source: &Path) -> Result<(BlobId, u64), WriteBlobError> {
        let at_source =
            |error: io::Error| WriteBlobError::Io { path: source.to_owned(), source: error };
        let mut reader = File::open(source).map_err(at_source)?;
        let mut open = self.open_blob()?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(at_source(error)),
            };
            open.write(buffer.get(..count).unwrap_or_default())?;
        }
        let size = open.written;
        Ok((self.finish_blob(open).0, size))
    }

    fn finish_blob(&self, mut open: OpenBlob) -> (BlobId, bool) {
        let id = BlobId(*open.hasher.finalize().as_bytes());
        open.finished = true;
        (id, self.adopt(id, &open.path))
    }
}

/// A blob whose bytes come bit by bit.
pub(super) struct FolderWriter {
    shared: Arc<Shared>,
    /// Absent while a write is under way, and after one failed or was given up: what the file
    /// then holds is not known, so the blob cannot be finished.
    open: Option<OpenBlob>,
    written: u64,
}

impl FolderWriter {
    pub(super) fn new(shared: Arc<Shared>, open: OpenBlob) -> Self {
        Self { shared, open: Some(open), written: 0 }
    }

    fn take(&mut self) -> Result<OpenBlob, WriteBlobError> {
        self.open.take().ok_or_else(|| WriteBlobError::Io {
            path: self.shared.dir.clone(),
            source: io::Error::other("an earlier write to this blob failed or was given up"),
        })
    }
}

#[async_trait]
impl BlobWriter for FolderWriter {
    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), WriteBlobError> {
        let mut open = self.take()?;
        let open = blocking(&self.shared, move |_| open.write(&bytes).map(|()| open)).await?;
        self.written = open.written;
        self.open = Some(open);
        Ok(())
    }

    fn written(&self) -> u64 {
        self.written
    }

    async fn finish_new(mut self: Box<Self>) -> Result<(BlobId, bool), WriteBlobError> {
        let open = self.take()?;
        Ok(blocking(&self.shared, move |shared| shared.finish_blob(open)).await)
    }
}
