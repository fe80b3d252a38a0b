//! Where large contents are cut.

use std::borrow::Cow;

use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};

/// Bytes of the smallest chunk but the last.
const MIN: usize = 64 << 10;
/// Bytes that chunks have on average.
const AVERAGE: usize = 256 << 10;
/// Bytes of the largest chunk, and what has to be at hand to find a cut.
pub(super) const MAX: usize = 1 << 20;
/// A run of this many zeroes is not stored.
pub(super) const HOLE: usize = 64 << 10;

static ZEROES: [u8; HOLE] = [0; HOLE];

/// Cuts that follow from the bytes and from a key.
pub(crate) struct Cuts {
    gear: Cow<'static, [u64]>,
    gear_ls: Cow<'static, [u64]>,
    masks: (u64, u64),
}

impl Cuts {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let seed = key.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
        let (gear, gear_ls) = get_gear_with_seed(seed);
        Self { gear, gear_ls, masks: select_masks(AVERAGE, Normalization::Level1) }
    }

    /// What comes first of these bytes, which are all that is left or at least [`MAX`].
    pub(super) fn next(&self, bytes: &[u8]) -> Piece {
        let zeroes = leading_zeroes(bytes);
        if zeroes > 0 {
            return Piece::Zeroes(zeroes);
        }
        if bytes.len() <= MIN {
            return Piece::Chunk(bytes.len());
        }
        let (small, large) = self.masks;
        let (_, cut) = cut_gear(
            bytes.get(..MAX).unwrap_or(bytes),
            MIN,
            AVERAGE,
            MAX,
            small,
            large,
            small << 1,
            large << 1,
            &self.gear,
            &self.gear_ls,
        );
        Piece::Chunk(if cut == 0 { bytes.len().min(MAX) } else { cut })
    }
}

/// The beginning of a content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many bytes are a chunk.
    Chunk(usize),
    /// So many bytes are zero.
    Zeroes(usize),
}

/// Zero bytes at the beginning, in whole [`HOLE`]s.
fn leading_zeroes(bytes: &[u8]) -> usize {
    bytes.chunks_exact(HOLE).take_while(|chunk| **chunk == ZEROES).count() * HOLE
}
