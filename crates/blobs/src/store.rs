use std::path::Path;

use async_trait::async_trait;
use moat_core::BlobId;

use crate::{ReadBlobError, WriteBlobError};

/// Where blobs are. Methods are called inside a tokio runtime.
///
/// Contract, checked by [`crate::conformance`]:
/// - a blob's id is the BLAKE3 hash of its bytes under the store's key; putting the same bytes
///   again gives the same id and changes nothing;
/// - what was put is readable through the same store at once; after [`BlobStore::sync`] returned
///   it is durable and readable through every store over the same place;
/// - a blob is there whole or not at all, whatever dies meanwhile, and is never overwritten;
/// - if `sync` fails, what was put since the last `sync` that succeeded may be gone: put it again.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Stores bytes that are in memory.
    async fn put(&self, bytes: Vec<u8>) -> Result<BlobId, WriteBlobError> {
        Ok(self.put_new(bytes).await?.0)
    }

    /// Stores bytes that are in memory. Returns whether they were not there before.
    async fn put_new(&self, bytes: Vec<u8>) -> Result<(BlobId, bool), WriteBlobError>;

    /// Stores bytes and makes them durable, after everything that was put before: whoever finds
    /// them finds what they refer to.
    async fn put_last(&self, bytes: Vec<u8>) -> Result<(BlobId, bool), WriteBlobError> {
        self.sync().await?;
        let put = self.put_new(bytes).await?;
        self.sync().await?;
        Ok(put)
    }

    /// Stores a copy of a file's content, without holding it in memory. Returns the id and the
    /// number of bytes.
    async fn put_file(&self, path: &Path) -> Result<(BlobId, u64), WriteBlobError>;

    /// Starts a blob whose bytes come bit by bit. Dropping the writer forgets them.
    async fn writer(&self) -> Result<Box<dyn BlobWriter>, WriteBlobError>;

    /// Reads a blob of at most `limit` bytes and checks its hash.
    async fn get(&self, id: BlobId, limit: u64) -> Result<Vec<u8>, ReadBlobError>;

    /// Reads up to `length` bytes from `offset` on; fewer at the end, none behind it. A part
    /// cannot be checked against the hash of the whole: call [`BlobStore::verify`] where that
    /// matters.
    async fn read(&self, id: BlobId, offset: u64, length: usize) -> Result<Vec<u8>, ReadBlobError>;

    /// Checks a blob's hash without holding it in memory. Returns its size in bytes.
    async fn verify(&self, id: BlobId) -> Result<u64, ReadBlobError>;

    /// A blob's size in bytes; `None`: it is not there.
    async fn size(&self, id: BlobId) -> Result<Option<u64>, ReadBlobError>;

    /// Whether the blob is there. Its bytes are not checked.
    async fn contains(&self, id: BlobId) -> Result<bool, ReadBlobError> {
        Ok(self.size(id).await?.is_some())
    }

    /// Says that something is about to be put, and that collectors are to leave alone what is there.
    async fn begin(&self) -> Result<(), WriteBlobError> {
        Ok(())
    }

    /// A blob's size in bytes, if something new may refer to it; `None`: put it again. After
    /// [`BlobStore::begin`] it stays for as long as something is being put.
    async fn lasts(&self, id: BlobId) -> Result<Option<u64>, ReadBlobError> {
        self.size(id).await
    }

    /// Whether a blob that lasted earlier still does. Does no I/O.
    fn still_lasts(&self, id: BlobId) -> bool {
        let _ = id;
        true
    }

    /// Removes a blob, durably once [`BlobStore::sync`] returned. `Ok(false)`: it was not there.
    async fn delete(&self, id: BlobId) -> Result<bool, WriteBlobError>;

    /// Waits until everything that was put or deleted through this store is durable.
    async fn sync(&self) -> Result<(), WriteBlobError>;
}

/// A blob that is being written.
#[async_trait]
pub trait BlobWriter: Send {
    /// Adds bytes at the end.
    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), WriteBlobError>;

    /// The number of bytes so far.
    fn written(&self) -> u64;

    /// Ends it. From now on it is as if it had been put.
    async fn finish(self: Box<Self>) -> Result<BlobId, WriteBlobError> {
        Ok(self.finish_new().await?.0)
    }

    /// Ends it. Returns whether its bytes were not there before.
    async fn finish_new(self: Box<Self>) -> Result<(BlobId, bool), WriteBlobError>;
}
