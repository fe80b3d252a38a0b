//! One layer, on its way from where it is stored to whoever applies it: decompressed, bounded, and
//! hashed before and after.

use std::fs::File;
use std::io::{self, BufReader, Read, Take};
use std::path::Path;

use moat_archive::Decoder;

use crate::digest::{Hashed, Hasher};
use crate::source::Layer;
use crate::{ImageError, ImageLimits, LayerBounds, LayerCount, Unpack};

/// Output that is not held against the ratio: small things compress well.
const RATIO_FREE: u64 = 16 << 20;

type Stored = BufReader<Hashed<Take<BufReader<File>>>>;

/// What is left of an image's bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Budget {
    pub(crate) fn of(limits: &ImageLimits) -> Self {
        Self { entries: limits.entries, bytes: limits.unpacked_bytes }
    }
}

/// Applies one layer to a folder and checks that it was the one that was meant.
pub(crate) fn apply(
    layer: &Layer,
    number: usize,
    folder: &Path,
    unpack: &dyn Unpack,
    limits: &ImageLimits,
    budget: &mut Budget,
) -> Result<LayerCount, ImageError> {
    let stored = BufReader::with_capacity(256 << 10, Hashed::new(layer.place.open()?));
    let decoder = Decoder::new(stored).map_err(ImageError::file("read", &layer.place.file))?;
    let most = layer.place.length.saturating_mul(limits.ratio).max(RATIO_FREE);
    // Headers and padding come on top of what the budget counts.
    let framing = budget.entries.saturating_mul(4096);
    let mut tar = Tar {
        source: decoder,
        hasher: Hasher::default(),
        left: most.min(budget.bytes.saturating_add(framing)),
        too_large: false,
    };
    let bounds = LayerBounds { entries: budget.entries, bytes: budget.bytes };
    let applied = unpack.apply(folder, &mut tar, bounds);
    if tar.too_large {
        let what = format!("layer {number}, unpacked,");
        let limit = format!("{most} bytes, or {} times what is stored", limits.ratio);
        return Err(ImageError::TooLarge { what, limit });
    }
    let count = applied.map_err(|source| ImageError::Layer { layer: number, source })?;
    let what = || format!("layer {number}");
    let read = ImageError::file("read", &layer.place.file);
    let (diff_id, stored) = tar.finish().map_err(read)?;
    if let Some(expected) = layer.digest.as_ref().filter(|digest| **digest != stored) {
        return Err(ImageError::Digest { what: what(), expected: expected.clone() });
    }
    if diff_id != layer.diff_id {
        return Err(ImageError::Digest { what: what(), expected: layer.diff_id.clone() });
    }
    // Whoever unpacks counts in a place that is not trusted, so a lie only wastes its own budget.
    budget.entries = budget.entries.saturating_sub(count.entries);
    budget.bytes = budget.bytes.saturating_sub(count.bytes);
    Ok(count)
}

/// What comes out of the decoder, on its way.
struct Tar {
    source: Decoder<Stored>,
    hasher: Hasher,
    left: u64,
    too_large: bool,
}

impl Read for Tar {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(bytes)?;
        let Some(left) = self.left.checked_sub(count as u64) else {
            self.too_large = true;
            return Err(io::Error::other("it is larger than allowed"));
        };
        self.left = left;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl Tar {
    /// Both digests, once everything was read.
    fn finish(mut self) -> io::Result<(crate::Digest, crate::Digest)> {
        io::copy(&mut self, &mut io::sink())?;
        let mut stored = self.source.into_stored();
        io::copy(&mut stored, &mut io::sink())?;
        Ok((self.hasher.finish(), stored.into_inner().hasher.finish()))
    }
}
