//! Blobs as files.
//!
//! ```text
//! DIR/blobs/ab/cdef…          a blob under its final name: whole and durable
//! DIR/pending/RANDOM/lock     held by the store that writes beside it
//! DIR/pending/RANDOM/17       bytes that are not durable yet
//! ```
//!
//! A file gets its final name only after its bytes were synced. So a power cut cannot leave a
//! short file under a final name, which later puts would take for the blob and never repair.

mod pending;
mod read;
mod sync;
mod write;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use moat_core::BlobId;

use crate::{BlobStore, BlobWriter, ReadBlobError, WriteBlobError};
use pending::PendingFolder;
use write::FolderWriter;

/// Blobs in a folder. Cloning is cheap; several processes may use one folder.
#[derive(Clone)]
pub struct FolderBlobs {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    key: [u8; 32],
    state: Mutex<State>,
    /// Held during a sync, so that a second one waits for what the first has taken on.
    syncing: Mutex<()>,
}

#[derive(Default)]
struct State {
    folder: Option<PendingFolder>,
    next_name: u64,
    /// Blobs whose files have not got their final names yet.
    pending: HashMap<BlobId, PathBuf>,
    /// Folders whose entries may not be durable yet.
    dirty_dirs: HashSet<PathBuf>,
}

impl FolderBlobs {
    /// Uses `dir`, which need not exist yet. `key` keys the hashes: derive it for this purpose
    /// alone. Does no I/O.
    pub fn new(dir: impl Into<PathBuf>, key: [u8; 32]) -> Self {
        let shared =
            Shared { dir: dir.into(), key, state: Mutex::default(), syncing: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Runs blocking file operations away from the async threads.
    async fn blocking<T, F>(&self, work: F) -> T
    where
        F: FnOnce(&Shared) -> T + Send + 'static,
        T: Send + 'static,
    {
        blocking(&self.shared, work).await
    }
}

async fn blocking<T, F>(shared: &Arc<Shared>, work: F) -> T
where
    F: FnOnce(&Shared) -> T + Send + 'static,
    T: Send + 'static,
{
    let shared = Arc::clone(shared);
    crate::blocking(move || work(&shared)).await
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Every change of the state is a single insertion or removal: it is whole even if a
        // thread died while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn final_path(&self, id: BlobId) -> PathBuf {
        let name = id.to_string();
        let (fan, rest) = name.split_at(2);
        self.dir.join("blobs").join(fan).join(rest)
    }

    fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.key)
    }

    fn make_dir(&self, path: &Path) -> Result<(), WriteBlobError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| WriteBlobError::at(path, error))
    }
}

#[async_trait]
impl BlobStore for FolderBlobs {
    async fn put_new(&self, bytes: Vec<u8>) -> Result<(BlobId, bool), WriteBlobError> {
        self.blocking(move |shared| shared.put(&bytes)).await
    }

    async fn put_file(&self, path: &Path) -> Result<(BlobId, u64), WriteBlobError> {
        let path = path.to_owned();
        self.blocking(move |shared| shared.put_file(&path)).await
    }

    async fn writer(&self) -> Result<Box<dyn BlobWriter>, WriteBlobError> {
        let open = self.blocking(Shared::open_blob).await?;
        Ok(Box::new(FolderWriter::new(Arc::clone(&self.shared), open)))
    }

    async fn get(&self, id: BlobId, limit: u64) -> Result<Vec<u8>, ReadBlobError> {
        self.blocking(move |shared| shared.get(id, limit)).await
    }

    async fn read(&self, id: BlobId, offset: u64, length: usize) -> Result<Vec<u8>, ReadBlobError> {
        self.blocking(move |shared| shared.read(id, offset, length)).await
    }

    async fn verify(&self, id: BlobId) -> Result<u64, ReadBlobError> {
        self.blocking(move |shared| shared.verify(id)).await
    }

    async fn size(&self, id: BlobId) -> Result<Option<u64>, ReadBlobError> {
        self.blocking(move |shared| shared.size(id)).await
    }

    async fn delete(&self, id: BlobId) -> Result<bool, WriteBlobError> {
        self.blocking(move |shared| shared.delete(id)).await
    }

    async fn sync(&self) -> Result<(), WriteBlobError> {
        self.blocking(Shared::sync).await
    }
}

#[cfg(test)]
pub(crate) mod tests;
