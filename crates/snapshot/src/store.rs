mod commit;
mod content;
mod diff;
mod known;
mod load;
mod reach;

use std::sync::Arc;

use moat_blobs::BlobStore;
use moat_core::{BlobId, SealingKey, TenantKey};
use zeroize::Zeroizing;

pub use commit::Committed;
pub use content::{ContentWriter, Put};

use known::Known;

/// How many blobs are asked for at a time.
const SIDE_BY_SIDE: usize = 16;

/// Blobs of a list that are gone through before the next ones are looked at, so that what waits for
/// its turn takes little memory.
const AT_A_TIME: usize = 1000;

/// Snapshots of one tenant in one blob store. Cloning is cheap; clones share what is known to be
/// stored.
#[derive(Clone)]
pub struct Snapshots {
    blobs: Arc<dyn BlobStore>,
    key: Arc<Zeroizing<[u8; 32]>>,
    known: Arc<Known>,
}

impl Snapshots {
    /// Uses a store that hashes under [`Snapshots::blob_key`] of the same tenant. Does no I/O.
    pub fn new(blobs: Arc<dyn BlobStore>, tenant: &TenantKey) -> Self {
        Self { blobs, key: Arc::new(Self::blob_key(tenant)), known: Arc::default() }
    }

    /// The key that a tenant's blob store has to be opened with. Ids are hashes under it, so that
    /// nobody can claim a content he never stored.
    pub fn blob_key(tenant: &TenantKey) -> Zeroizing<[u8; 32]> {
        tenant.derive("moat 2026 blob ids v1")
    }

    /// Computes the id that a content would have, without storing it.
    pub fn hasher(&self) -> ContentHasher {
        ContentHasher(blake3::Hasher::new_keyed(&self.key))
    }

    /// What seals bytes that belong to this tenant's snapshots. `purpose` is a constant that names
    /// project, purpose and version.
    pub fn sealing_key(&self, purpose: &str) -> SealingKey {
        SealingKey::new(&Zeroizing::new(blake3::derive_key(purpose, self.key.as_slice())))
    }

    /// The id of bytes that are in memory.
    pub fn id_of(&self, bytes: &[u8]) -> BlobId {
        BlobId(*blake3::keyed_hash(&self.key, bytes).as_bytes())
    }
}

/// The id of a content, bit by bit.
#[derive(Clone)]
pub struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    /// Adds bytes at the end.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The id of all bytes so far.
    pub fn id(&self) -> BlobId {
        BlobId(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests;
