//! Contents become entries.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use moat_core::BlobId;

use super::cut::{self, Piece};
use super::open::NewEntry;
use super::recipe::{Part, Recipe};
use super::{Shared, WHOLE};
use crate::{BlobWriter, WriteBlobError, blocking};

/// Chunks that one content compresses at a time.
const SIDE_BY_SIDE: usize = 2;
/// Bytes that are moved at a time.
const STEP: usize = 256 << 10;

impl Shared {
    /// Stores bytes that are in memory. Returns whether they were new.
    pub(super) async fn put(
        self: &Arc<Self>,
        bytes: Vec<u8>,
    ) -> Result<(BlobId, bool), WriteBlobError> {
        self.begin().await?;
        if bytes.len() > WHOLE {
            return self.put_large(bytes).await;
        }
        match self.encode_whole(bytes).await? {
            (id, None) => Ok((id, false)),
            (id, Some(entry)) => Ok((id, self.add(entry).await?)),
        }
    }

    async fn put_large(self: &Arc<Self>, bytes: Vec<u8>) -> Result<(BlobId, bool), WriteBlobError> {
        let shared = Arc::clone(self);
        let (id, known, bytes) = blocking(move || {
            let id = shared.keys.id_of(&bytes);
            let known = shared.state().lasting(id).is_some();
            (id, known, bytes)
        })
        .await;
        if known && self.lasts(id).await.map_err(WriteBlobError::of_read)? {
            return Ok((id, false));
        }
        let mut writer = PackedWriter::new(Arc::clone(self));
        writer.write(bytes).await?;
        writer.finish_new().await
    }

    /// Stores bytes that are durable only after everything that was put before.
    pub(super) async fn put_last(
        self: &Arc<Self>,
        bytes: Vec<u8>,
    ) -> Result<(BlobId, bool), WriteBlobError> {
        self.begin().await?;
        self.delete_pending().await?;
        if bytes.len() > WHOLE {
            self.flush(None).await?;
            let put = self.put_large(bytes).await?;
            self.flush(None).await?;
            return Ok(put);
        }
        let (id, entry) = self.encode_whole(bytes).await?;
        let new = entry.is_some();
        self.flush(entry).await?;
        Ok((id, new))
    }

    /// The entry of a small content; `None`: it is known.
    async fn encode_whole(
        self: &Arc<Self>,
        bytes: Vec<u8>,
    ) -> Result<(BlobId, Option<NewEntry>), WriteBlobError> {
        let shared = Arc::clone(self);
        let encoded = blocking(move || {
            let id = shared.keys.id_of(&bytes);
            if shared.state().lasting(id).is_some() {
                return Ok((id, None));
            }
            NewEntry::encode(&shared.keys, id, false, &bytes).map(|entry| (id, Some(entry)))
        });
        encoded.await.map_err(|error| self.cannot_pack(error))
    }

    fn cannot_pack(&self, source: std::io::Error) -> WriteBlobError {
        WriteBlobError::Io { path: self.objects.place().into(), source }
    }

    pub(super) async fn put_file(
        self: &Arc<Self>,
        path: &Path,
    ) -> Result<(BlobId, u64), WriteBlobError> {
        let at = |source| WriteBlobError::Io { path: path.to_owned(), source };
        let mut file = tokio::fs::File::open(path).await.map_err(at)?;
        self.begin().await?;
        let mut writer = PackedWriter::new(Arc::clone(self));
        loop {
            let mut bytes = Vec::with_capacity(STEP);
            let mut limited = tokio::io::AsyncReadExt::take(&mut file, STEP as u64);
            let read = tokio::io::AsyncReadExt::read_to_end(&mut limited, &mut bytes).await;
            if read.map_err(at)? == 0 {
                break;
            }
            writer.write(bytes).await?;
        }
        let size = writer.written;
        Ok((writer.finish_new().await?.0, size))
    }
}

/// A content whose bytes come bit by bit, cut while they come.
pub(super) struct PackedWriter {
    shared: Arc<Shared>,
    /// Absent while bytes are hashed, and after that was given up.
    hasher: Option<blake3::Hasher>,
    written: u64,
    /// Bytes that are not cut yet.
    rest: Vec<u8>,
    recipe: Recipe,
    /// Chunks on their way into packs.
    chunks: tokio::task::JoinSet<Result<(), WriteBlobError>>,
}

impl PackedWriter {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let hasher = Some(shared.keys.hasher());
        let chunks = tokio::task::JoinSet::new();
        Self { shared, hasher, written: 0, rest: Vec::new(), recipe: Recipe::default(), chunks }
    }

    /// Cuts what can be cut: everything at the end, else as long as there is enough at hand.
    async fn cut(&mut self, at_end: bool) -> Result<(), WriteBlobError> {
        let enough = |left: usize| if at_end { left > 0 } else { left >= cut::MAX };
        let mut start = 0;
        while enough(self.rest.len() - start) {
            let bytes = self.rest.get(start..).unwrap_or_default();
            match self.shared.keys.cuts.next(bytes) {
                Piece::Zeroes(count) => {
                    self.recipe.add_zeroes(count as u64);
                    start += count;
                }
                Piece::Chunk(count) => {
                    let chunk = bytes.get(..count).unwrap_or_default().to_vec();
                    start += count;
                    self.add_chunk(chunk).await?;
                }
            }
        }
        self.rest.drain(..start);
        Ok(())
    }

    async fn add_chunk(&mut self, chunk: Vec<u8>) -> Result<(), WriteBlobError> {
        while self.chunks.len() >= SIDE_BY_SIDE {
            self.join_one().await?;
        }
        let shared = Arc::clone(&self.shared);
        let (id, chunk) = blocking(move || (shared.keys.id_of(&chunk), chunk)).await;
        self.recipe.parts.push(Part { chunk: Some(id), size: chunk.len() as u64 });
        if self.shared.state().lasting(id).is_some() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        self.chunks.spawn(async move {
            let keyed = Arc::clone(&shared);
            let entry = blocking(move || NewEntry::encode(&keyed.keys, id, false, &chunk)).await;
            shared.add(entry.map_err(|error| shared.cannot_pack(error))?).await?;
            Ok(())
        });
        Ok(())
    }

    async fn join_one(&mut self) -> Result<(), WriteBlobError> {
        match self.chunks.join_next().await {
            Some(Ok(done)) => done,
            Some(Err(error)) => Err(self.shared.cannot_pack(std::io::Error::other(error))),
            None => Ok(()),
        }
    }

    async fn finish_new(mut self) -> Result<(BlobId, bool), WriteBlobError> {
        let Some(hasher) = self.hasher.take() else { return Err(self.given_up()) };
        let id = BlobId(*hasher.finalize().as_bytes());
        if self.written <= WHOLE as u64 {
            // However it came, a small content is one entry.
            return match self.shared.encode_whole(self.rest).await? {
                (id, None) => Ok((id, false)),
                (id, Some(entry)) => Ok((id, self.shared.add(entry).await?)),
            };
        }
        self.cut(true).await?;
        while !self.chunks.is_empty() {
            self.join_one().await?;
        }
        let (shared, recipe) = (Arc::clone(&self.shared), self.recipe);
        let entry = blocking(move || {
            let raw = recipe.encode(&shared.keys, id);
            NewEntry::encode(&shared.keys, id, true, &raw)
        });
        let entry = entry.await.map_err(|error| self.shared.cannot_pack(error))?;
        Ok((id, self.shared.add(entry).await?))
    }

    fn given_up(&self) -> WriteBlobError {
        let reason = "an earlier write to this blob failed or was given up";
        self.shared.cannot_pack(std::io::Error::other(reason))
    }
}

#[async_trait]
impl BlobWriter for PackedWriter {
    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), WriteBlobError> {
        let Some(mut hasher) = self.hasher.take() else { return Err(self.given_up()) };
        self.rest.extend_from_slice(&bytes);
        let written = self.written.saturating_add(bytes.len() as u64);
        let hasher = blocking(move || {
            hasher.update(&bytes);
            hasher
        })
        .await;
        if written > WHOLE as u64 {
            self.cut(false).await?;
        }
        self.written = written;
        self.hasher = Some(hasher);
        Ok(())
    }

    fn written(&self) -> u64 {
        self.written
    }

    async fn finish(self: Box<Self>) -> Result<BlobId, WriteBlobError> {
        Ok(self.finish_new().await?.0)
    }

    async fn finish_new(self: Box<Self>) -> Result<(BlobId, bool), WriteBlobError> {
        (*self).finish_new().await
    }
}
