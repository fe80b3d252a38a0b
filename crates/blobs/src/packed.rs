//! Blobs in packs.
//!
//! ```text
//! packs/RANDOM    many compressed, perhaps sealed, pieces of contents, and a table of them
//! doomed/RANDOM   says since when nothing has needed that pack
//! ```
//!
//! A content of at most [`WHOLE`] bytes is one entry of a pack; a larger one is cut where its bytes
//! say so, and an entry of its own, the recipe, names the chunks. Entries go into a pack in memory;
//! a full one is written as one object, by which it and its table are there together or not at all.
//! What is in a table is therefore durable. Ids are hashes of whole contents, whatever they are cut
//! into: nothing of this can be seen from outside.
//!
//! Cuts depend on the key, so nobody can tell from the sizes of chunks which contents are stored.

mod collect;
mod cut;
mod delete;
mod format;
mod index;
mod load;
mod open;
mod put;
mod read;
mod recipe;
mod spare;
mod upload;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use moat_core::{BlobId, SealingKey};
use tokio::sync::{Notify, Semaphore};
use zeroize::Zeroizing;

use crate::{BlobStore, BlobWriter, Objects, ReadBlobError, WriteBlobError};

pub use collect::{CollectOptions, Collected};
pub use load::{PackDamage, PackUsage};

use index::State;
use put::PackedWriter;
use read::Recent;
use spare::Spare;

/// Bytes of the largest content that is one entry.
pub(crate) const WHOLE: usize = 256 << 10;
/// Packs that are in memory at a time: one that is filled, and two that are written.
const BUFFERS: usize = 3;

/// How blobs are packed.
#[derive(Default)]
pub struct PackedOptions {
    /// Seals everything that is stored, names of objects apart.
    pub sealing: Option<SealingKey>,
    /// Bytes that stay free where the packs are; with less, nothing is written.
    pub free_space_floor: u64,
    /// A name (`a-z`, `0-9`, `-`) under which others who store here see this one: whoever collects
    /// has to know what all of them need.
    pub user: Option<String>,
    /// A store that is looked into for what is not in packs. Nothing is written to it.
    pub older: Option<Arc<dyn BlobStore>>,
}

/// Blobs in packs. Cloning is cheap; several processes may use the same objects.
#[derive(Clone)]
pub struct PackedBlobs {
    shared: Arc<Shared>,
}

struct Shared {
    objects: Arc<dyn Objects>,
    keys: Keys,
    floor: u64,
    user: Option<String>,
    older: Option<Arc<dyn BlobStore>>,
    state: Mutex<State>,
    /// Held while tables are read.
    loading: tokio::sync::Mutex<()>,
    /// One permit for each pack in memory.
    buffers: Arc<Semaphore>,
    spare: Spare,
    /// Told when a pack was written, or was not.
    settled: Notify,
    recent: Mutex<Recent>,
}

/// What is derived from the key of the ids, and what seals.
pub(crate) struct Keys {
    ids: Zeroizing<[u8; 32]>,
    tables: Zeroizing<[u8; 32]>,
    recipes: Zeroizing<[u8; 32]>,
    cuts: cut::Cuts,
    sealing: Option<SealingKey>,
}

impl Keys {
    fn new(ids: [u8; 32], sealing: Option<SealingKey>) -> Self {
        let ids = Zeroizing::new(ids);
        let derive = |purpose: &str| Zeroizing::new(blake3::derive_key(purpose, ids.as_slice()));
        let cuts = cut::Cuts::new(&derive("moat 2026 cuts of contents v1"));
        let (tables, recipes) =
            (derive("moat 2026 pack tables v1"), derive("moat 2026 recipes v1"));
        Self { tables, recipes, cuts, sealing, ids }
    }

    fn id_of(&self, bytes: &[u8]) -> BlobId {
        BlobId(*blake3::keyed_hash(&self.ids, bytes).as_bytes())
    }

    fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.ids)
    }
}

impl PackedBlobs {
    /// Packs blobs into `objects`. `key` keys the hashes: derive it for this purpose alone. Does no
    /// I/O.
    pub fn new(objects: Arc<dyn Objects>, key: [u8; 32], options: PackedOptions) -> Self {
        let shared = Shared {
            objects,
            keys: Keys::new(key, options.sealing),
            floor: options.free_space_floor,
            user: options.user,
            older: options.older,
            state: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
            buffers: Arc::new(Semaphore::new(BUFFERS)),
            spare: Spare::default(),
            settled: Notify::new(),
            recent: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl PackedBlobs {
    async fn older_size(&self, id: BlobId) -> Result<Option<u64>, ReadBlobError> {
        match &self.shared.older {
            Some(older) => older.size(id).await,
            None => Ok(None),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole even if a thread died while holding it: at worst an
        // entry is stored twice.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BlobStore for PackedBlobs {
    async fn put(&self, bytes: Vec<u8>) -> Result<BlobId, WriteBlobError> {
        Ok(self.shared.put(bytes).await?.0)
    }

    async fn put_new(&self, bytes: Vec<u8>) -> Result<(BlobId, bool), WriteBlobError> {
        self.shared.put(bytes).await
    }

    async fn put_last(&self, bytes: Vec<u8>) -> Result<(BlobId, bool), WriteBlobError> {
        self.shared.put_last(bytes).await
    }

    async fn put_file(&self, path: &std::path::Path) -> Result<(BlobId, u64), WriteBlobError> {
        self.shared.put_file(path).await
    }

    async fn writer(&self) -> Result<Box<dyn BlobWriter>, WriteBlobError> {
        self.shared.begin().await?;
        Ok(Box::new(PackedWriter::new(Arc::clone(&self.shared))))
    }

    async fn get(&self, id: BlobId, limit: u64) -> Result<Vec<u8>, ReadBlobError> {
        let found = self.shared.get(id, limit).await;
        match (found, &self.shared.older) {
            (Err(ReadBlobError::Missing { .. }), Some(older)) => older.get(id, limit).await,
            (found, _) => found,
        }
    }

    async fn read(&self, id: BlobId, offset: u64, length: usize) -> Result<Vec<u8>, ReadBlobError> {
        let found = self.shared.read(id, offset, length).await;
        match (found, &self.shared.older) {
            (Err(ReadBlobError::Missing { .. }), Some(older)) => {
                older.read(id, offset, length).await
            }
            (found, _) => found,
        }
    }

    async fn verify(&self, id: BlobId) -> Result<u64, ReadBlobError> {
        let found = self.shared.verify(id).await;
        match (found, &self.shared.older) {
            (Err(ReadBlobError::Missing { .. }), Some(older)) => older.verify(id).await,
            (found, _) => found,
        }
    }

    async fn size(&self, id: BlobId) -> Result<Option<u64>, ReadBlobError> {
        match self.shared.size(id).await? {
            None => self.older_size(id).await,
            size => Ok(size),
        }
    }

    async fn begin(&self) -> Result<(), WriteBlobError> {
        self.shared.begin().await
    }

    async fn lasts(&self, id: BlobId) -> Result<Option<u64>, ReadBlobError> {
        if self.shared.lasts(id).await? { self.size(id).await } else { self.older_size(id).await }
    }

    fn still_lasts(&self, id: BlobId) -> bool {
        self.shared.state().lasting(id).is_some()
    }

    async fn delete(&self, id: BlobId) -> Result<bool, WriteBlobError> {
        self.shared.delete(id).await
    }

    async fn sync(&self) -> Result<(), WriteBlobError> {
        self.shared.sync().await
    }
}

#[cfg(test)]
mod tests;
