//! Of what a large content consists.

use moat_core::BlobId;

use super::Keys;

/// Bytes of one part.
const PART: usize = 32 + 8;
/// What stands for zeroes where the id of a chunk would be.
const ZEROES: BlobId = BlobId([0; 32]);

/// A piece of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The chunk; `None`: so many zeroes.
    pub(super) chunk: Option<BlobId>,
    /// Bytes.
    pub(super) size: u64,
}

/// The pieces of a content, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Recipe {
    pub(super) parts: Vec<Part>,
}

impl Recipe {
    /// Bytes of the content.
    pub(super) fn size(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.size))
    }

    /// Adds zeroes at the end.
    pub(super) fn add_zeroes(&mut self, size: u64) {
        match self.parts.last_mut() {
            Some(Part { chunk: None, size: last }) => *last = last.saturating_add(size),
            _ => self.parts.push(Part { chunk: None, size }),
        }
    }

    /// The chunks that it names.
    pub(super) fn chunks(&self) -> impl Iterator<Item = BlobId> + '_ {
        self.parts.iter().filter_map(|part| part.chunk)
    }

    pub(super) fn encode(&self, keys: &Keys, id: BlobId) -> Vec<u8> {
        let mut list = Vec::with_capacity(self.parts.len() * PART);
        for part in &self.parts {
            list.extend(part.chunk.unwrap_or(ZEROES).0);
            list.extend(part.size.to_le_bytes());
        }
        let mut bytes = mac(keys, id, &list).as_bytes().to_vec();
        bytes.extend(list);
        bytes
    }

    /// Reads it back; `None`: it is damaged, or the recipe of something else.
    pub(super) fn decode(keys: &Keys, id: BlobId, bytes: &[u8]) -> Option<Self> {
        let (given, mut list) = bytes.split_first_chunk::<32>()?;
        if mac(keys, id, list) != blake3::Hash::from_bytes(*given) || list.len() % PART != 0 {
            return None;
        }
        let mut parts = Vec::with_capacity(list.len() / PART);
        while let Some((chunk, rest)) = list.split_first_chunk::<32>() {
            let (size, rest) = rest.split_first_chunk::<8>()?;
            let chunk = Some(BlobId(*chunk)).filter(|chunk| *chunk != ZEROES);
            parts.push(Part { chunk, size: u64::from_le_bytes(*size) });
            list = rest;
        }
        Some(Self { parts })
    }
}

fn mac(keys: &Keys, id: BlobId, list: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(&keys.recipes);
    hasher.update(&id.0).update(list);
    hasher.finalize()
}
