//! Contexts of zstd that a thread keeps: to make one takes as long as to compress a small file.

use std::cell::RefCell;
use std::io;

use zstd::bulk::{Compressor, Decompressor};

const LEVEL: i32 = 1;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

pub(super) fn compress(raw: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(context) => context.compress(raw),
        None => kept.insert(Compressor::new(LEVEL)?).compress(raw),
    })
}

/// At most `limit` bytes.
pub(super) fn decompress(packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(context) => context.decompress(packed, limit),
        None => kept.insert(Decompressor::new()?).decompress(packed, limit),
    })
}
