use moat_blobs::{BlobWriter, ReadBlobError};
use moat_core::BlobId;

use super::{ContentHasher, Snapshots};
use crate::{LoadError, PutError};

/// What became of a content that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// The keyed hash of the content.
    pub content: BlobId,
    /// Bytes.
    pub size: u64,
    /// Whether the store did not have it before.
    pub new: bool,
}

impl Snapshots {
    /// Stores a content. It is durable once a tree that refers to it was committed.
    pub async fn put(&self, bytes: Vec<u8>) -> Result<Put, PutError> {
        let size = bytes.len() as u64;
        // Hashing twice only to see that both use one key is done once.
        let computed = (!self.known.is_checked()).then(|| self.id_of(&bytes));
        let (content, new) = self.blobs.put_new(bytes).await?;
        self.accept(content, computed.unwrap_or(content), size)?;
        Ok(Put { content, size, new })
    }

    /// Stores bytes whose id was computed already. Returns whether they were new.
    pub(super) async fn put_as(&self, id: BlobId, bytes: Vec<u8>) -> Result<bool, PutError> {
        if self.is_known(id) {
            return Ok(false);
        }
        let size = bytes.len() as u64;
        // Also if it is there: its name may not be durable yet, and only a put sees to that.
        let (given, new) = self.blobs.put_new(bytes).await?;
        self.accept(given, id, size)?;
        Ok(new)
    }

    /// Starts a content whose bytes come bit by bit.
    pub async fn writer(&self) -> Result<ContentWriter, PutError> {
        let blob = self.blobs.writer().await?;
        Ok(ContentWriter { snapshots: self.clone(), hasher: self.hasher(), blob })
    }

    pub(super) fn accept(
        &self,
        given: BlobId,
        computed: BlobId,
        size: u64,
    ) -> Result<(), PutError> {
        if given != computed {
            return Err(PutError::ForeignKey { given, computed });
        }
        self.known.add(computed, size);
        Ok(())
    }

    /// Whether it is stored for sure, and stays.
    pub(super) fn is_known(&self, id: BlobId) -> bool {
        self.known.size(id).is_some() && self.blobs.still_lasts(id)
    }

    /// A whole content of at most `limit` bytes, its hash checked.
    pub async fn read_file(&self, content: BlobId, limit: u64) -> Result<Vec<u8>, LoadError> {
        Ok(self.blobs.get(content, limit).await?)
    }

    /// Up to `length` bytes of a content from `offset` on; fewer at its end. A part cannot be
    /// checked: whoever reads a content in parts checks the whole with [`Snapshots::hasher`].
    pub async fn read_part(
        &self,
        content: BlobId,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, LoadError> {
        Ok(self.blobs.read(content, offset, length).await?)
    }

    /// The error of a content whose parts, read one by one, did not have its hash.
    pub fn damaged(content: BlobId) -> LoadError {
        LoadError::Content(ReadBlobError::Damaged { id: content })
    }
}

/// A content that is being written. Dropping it forgets it.
pub struct ContentWriter {
    snapshots: Snapshots,
    hasher: ContentHasher,
    blob: Box<dyn BlobWriter>,
}

impl ContentWriter {
    /// Adds bytes at the end.
    pub async fn write(&mut self, bytes: Vec<u8>) -> Result<(), PutError> {
        self.hasher.update(&bytes);
        Ok(self.blob.write(bytes).await?)
    }

    /// Ends it. It is durable once a tree that refers to it was committed.
    pub async fn finish(self) -> Result<Put, PutError> {
        let (content, size) = (self.hasher.id(), self.blob.written());
        let (given, new) = self.blob.finish_new().await?;
        self.snapshots.accept(given, content, size)?;
        Ok(Put { content, size, new })
    }
}
