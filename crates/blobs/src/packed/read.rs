//! Contents come back from packs.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use moat_core::BlobId;

use super::Shared;
use super::index::Place;
use super::recipe::Recipe;
use crate::{ObjectError, ReadBlobError, blocking};

/// Pieces that are kept after they were read: whoever reads a content in parts comes back.
const RECENT: usize = 16;

/// What was read last.
#[derive(Default)]
pub(super) struct Recent {
    recipes: VecDeque<(BlobId, Arc<Recipe>)>,
    chunks: VecDeque<(BlobId, Arc<Vec<u8>>)>,
}

fn recall<T: Clone>(kept: &VecDeque<(BlobId, T)>, id: BlobId) -> Option<T> {
    kept.iter().find(|(known, _)| *known == id).map(|(_, value)| value.clone())
}

fn keep<T>(kept: &mut VecDeque<(BlobId, T)>, id: BlobId, value: T) {
    if kept.len() >= RECENT {
        kept.pop_front();
    }
    kept.push_back((id, value));
}

/// A content as it is stored.
enum Content {
    /// As one entry.
    Whole(Place),
    /// In pieces.
    Cut(Arc<Recipe>),
}

impl Shared {
    pub(super) async fn get(
        self: &Arc<Self>,
        id: BlobId,
        limit: u64,
    ) -> Result<Vec<u8>, ReadBlobError> {
        let content = self.content(id).await?;
        let size = content.size();
        if size > limit {
            return Err(ReadBlobError::TooLarge { id, size, limit });
        }
        let recipe = match content {
            Content::Whole(place) => return self.entry(id, place).await,
            Content::Cut(recipe) => recipe,
        };
        let mut bytes = Vec::new();
        for part in &recipe.parts {
            match part.chunk {
                None => bytes.resize(bytes.len() + part.size as usize, 0),
                Some(chunk) => bytes.extend_from_slice(&self.chunk(id, chunk, part.size).await?),
            }
        }
        let shared = Arc::clone(self);
        let (whole, bytes) = blocking(move || (shared.keys.id_of(&bytes) == id, bytes)).await;
        if whole { Ok(bytes) } else { Err(ReadBlobError::Damaged { id }) }
    }

    pub(super) async fn read(
        self: &Arc<Self>,
        id: BlobId,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, ReadBlobError> {
        let recipe = match self.content(id).await? {
            Content::Cut(recipe) => recipe,
            Content::Whole(place) => {
                let bytes = self.kept(id, place).await?;
                return Ok(slice(&bytes, offset, length as u64).to_vec());
            }
        };
        let end = offset.saturating_add(length as u64).min(recipe.size());
        let mut bytes = Vec::new();
        let mut at: u64 = 0;
        for part in &recipe.parts {
            let (start, next) = (at, at.saturating_add(part.size));
            at = next;
            if next <= offset || start >= end {
                continue;
            }
            let (from, to) = (offset.max(start), end.min(next));
            match part.chunk {
                None => bytes.resize(bytes.len() + (to - from) as usize, 0),
                Some(chunk) => {
                    let chunk = self.chunk(id, chunk, part.size).await?;
                    bytes.extend_from_slice(slice(&chunk, from - start, to - from));
                }
            }
        }
        Ok(bytes)
    }

    pub(super) async fn verify(self: &Arc<Self>, id: BlobId) -> Result<u64, ReadBlobError> {
        let recipe = match self.content(id).await? {
            Content::Whole(place) => return Ok(self.entry(id, place).await?.len() as u64),
            Content::Cut(recipe) => recipe,
        };
        let mut hasher = self.keys.hasher();
        for part in &recipe.parts {
            let piece = match part.chunk {
                // Not from memory: this is about what is stored.
                Some(chunk) => Some(self.entry(chunk, self.find(chunk).await?).await),
                None => None,
            };
            let piece = match piece.transpose() {
                Err(ReadBlobError::Missing { .. } | ReadBlobError::Damaged { .. }) => {
                    return Err(ReadBlobError::Damaged { id });
                }
                piece => piece?,
            };
            let size = part.size;
            hasher = blocking(move || {
                match piece {
                    Some(piece) => drop(hasher.update(&piece)),
                    None => hash_zeroes(&mut hasher, size),
                }
                hasher
            })
            .await;
        }
        let whole = *hasher.finalize().as_bytes() == id.0;
        if whole { Ok(recipe.size()) } else { Err(ReadBlobError::Damaged { id }) }
    }

    pub(super) async fn size(self: &Arc<Self>, id: BlobId) -> Result<Option<u64>, ReadBlobError> {
        match self.content(id).await {
            Ok(content) => Ok(Some(content.size())),
            Err(ReadBlobError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where a content is. Looks again if it is not known: another process may have stored it.
    async fn content(self: &Arc<Self>, id: BlobId) -> Result<Content, ReadBlobError> {
        let place = self.find(id).await?;
        if !place.kind.recipe {
            return Ok(Content::Whole(place));
        }
        if let Some(recipe) = recall(&self.recent().recipes, id) {
            return Ok(Content::Cut(recipe));
        }
        let bytes = self.entry(id, place).await?;
        let recipe = Recipe::decode(&self.keys, id, &bytes);
        let recipe = Arc::new(recipe.ok_or(ReadBlobError::Damaged { id })?);
        keep(&mut self.recent().recipes, id, Arc::clone(&recipe));
        Ok(Content::Cut(recipe))
    }

    async fn find(&self, id: BlobId) -> Result<Place, ReadBlobError> {
        self.load().await.map_err(|error| ReadBlobError::of(id, error))?;
        let known = self.state().place(id);
        if let Some(place) = known {
            return Ok(place);
        }
        self.reload().await.map_err(|error| ReadBlobError::of(id, error))?;
        self.state().place(id).ok_or(ReadBlobError::Missing { id })
    }

    /// Whether something new may refer to it, with all its chunks.
    pub(super) async fn lasts(self: &Arc<Self>, id: BlobId) -> Result<bool, ReadBlobError> {
        let failed = |error| ReadBlobError::of(id, error);
        self.load().await.map_err(failed)?;
        if self.state().lasting(id).is_none() {
            self.reload().await.map_err(failed)?;
        }
        if self.state().lasting(id).is_none() {
            return Ok(false);
        }
        let chunks = self.chunks_of(id).await?;
        let state = self.state();
        Ok(chunks.into_iter().all(|chunk| state.lasting(chunk).is_some()))
    }

    /// A chunk of a content; what is wrong with it is told of the content.
    async fn chunk(
        self: &Arc<Self>,
        content: BlobId,
        id: BlobId,
        size: u64,
    ) -> Result<Arc<Vec<u8>>, ReadBlobError> {
        let damaged = || ReadBlobError::Damaged { id: content };
        let found = async { self.kept(id, self.find(id).await?).await };
        let chunk = found.await.map_err(|error| match error {
            ReadBlobError::Missing { .. } | ReadBlobError::Damaged { .. } => damaged(),
            error => error,
        })?;
        if chunk.len() as u64 == size { Ok(chunk) } else { Err(damaged()) }
    }

    /// An entry, from memory if it was read a moment ago.
    async fn kept(
        self: &Arc<Self>,
        id: BlobId,
        place: Place,
    ) -> Result<Arc<Vec<u8>>, ReadBlobError> {
        if let Some(chunk) = recall(&self.recent().chunks, id) {
            return Ok(chunk);
        }
        let chunk = Arc::new(self.entry(id, place).await?);
        keep(&mut self.recent().chunks, id, Arc::clone(&chunk));
        Ok(chunk)
    }

    /// The bytes of an entry, checked.
    pub(super) async fn entry(
        self: &Arc<Self>,
        id: BlobId,
        place: Place,
    ) -> Result<Vec<u8>, ReadBlobError> {
        match self.try_entry(id, place).await {
            Err(error) if is_gone(&error) => {}
            tried => return tried,
        }
        // Its pack was collected: what was needed of it is in another one.
        self.reload().await.map_err(|error| ReadBlobError::of(id, error))?;
        let place = self.state().place(id).ok_or(ReadBlobError::Missing { id })?;
        match self.try_entry(id, place).await {
            Err(error) if is_gone(&error) => Err(ReadBlobError::Missing { id }),
            tried => tried,
        }
    }

    async fn try_entry(
        self: &Arc<Self>,
        id: BlobId,
        place: Place,
    ) -> Result<Vec<u8>, ReadBlobError> {
        let row = place.row(id);
        let (held, name) = {
            let state = self.state();
            let held = state.in_memory(place.pack, &row);
            (held, state.pack(place.pack).map(|pack| pack.name.clone()).unwrap_or_default())
        };
        let shared = Arc::clone(self);
        let decoded = match held {
            Some(stored) => blocking(move || shared.decode(&row, &stored)).await,
            None => {
                let (offset, length) = (u64::from(row.offset), u64::from(row.stored));
                let stored = self.objects.read(&name, offset, length).await;
                let stored = stored.map_err(|error| ReadBlobError::of(id, error))?;
                blocking(move || shared.decode(&row, &stored)).await
            }
        };
        decoded.ok_or(ReadBlobError::Damaged { id })
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunks of a content that is in pieces.
    pub(super) async fn chunks_of(
        self: &Arc<Self>,
        id: BlobId,
    ) -> Result<Vec<BlobId>, ReadBlobError> {
        match self.content(id).await? {
            Content::Whole(_) => Ok(Vec::new()),
            Content::Cut(recipe) => Ok(recipe.chunks().collect()),
        }
    }
}

/// Whether the pack that an entry was in is not there any more.
fn is_gone(error: &ReadBlobError) -> bool {
    matches!(error, ReadBlobError::Objects { source, .. }
        if matches!(**source, ObjectError::Missing { .. }))
}

impl Content {
    fn size(&self) -> u64 {
        match self {
            Self::Whole(place) => u64::from(place.raw),
            Self::Cut(recipe) => recipe.size(),
        }
    }
}

fn slice(bytes: &[u8], offset: u64, length: u64) -> &[u8] {
    let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get(clamp(offset)..clamp(offset.saturating_add(length))).unwrap_or_default()
}

fn hash_zeroes(hasher: &mut blake3::Hasher, mut size: u64) {
    static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
    while size > 0 {
        let some = size.min(ZEROES.len() as u64);
        hasher.update(ZEROES.get(..some as usize).unwrap_or_default());
        size -= some;
    }
}
