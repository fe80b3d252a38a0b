//! Contexts of zstd that are used again: to make one takes as long as to compress a small file. A few
//! are kept, whoever uses them: of large contents each holds some MiB.

use std::io;
use std::sync::{Mutex, PoisonError};

use zstd::bulk::{Compressor, Decompressor};

const LEVEL: i32 = 1;
/// Contexts of each kind that are kept.
const KEPT: usize = 2;

static COMPRESSORS: Mutex<Vec<Compressor<'static>>> = Mutex::new(Vec::new());
static DECOMPRESSORS: Mutex<Vec<Decompressor<'static>>> = Mutex::new(Vec::new());

pub(super) fn compress(raw: &[u8]) -> io::Result<Vec<u8>> {
    with(&COMPRESSORS, || Compressor::new(LEVEL), |context| context.compress(raw))
}

/// At most `limit` bytes.
pub(super) fn decompress(packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    with(&DECOMPRESSORS, Decompressor::new, |context| context.decompress(packed, limit))
}

/// Does it with a context that is kept, or else with a new one.
fn with<C, T>(
    kept: &Mutex<Vec<C>>,
    make: impl FnOnce() -> io::Result<C>,
    work: impl FnOnce(&mut C) -> io::Result<T>,
) -> io::Result<T> {
    let lock = || kept.lock().unwrap_or_else(PoisonError::into_inner);
    let one = lock().pop();
    let mut context = match one {
        Some(context) => context,
        None => make()?,
    };
    let done = work(&mut context);
    let mut kept = lock();
    if kept.len() < KEPT {
        kept.push(context);
    }
    done
}
