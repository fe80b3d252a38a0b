//! Memory for packs, used again: the system's allocator would keep what it is given back, once for
//! each thread that made a pack.

use std::sync::{Mutex, PoisonError};

/// Bytes that a full pack may take, its table among them, unless its contents are very many.
const ROOM: usize = (8 << 20) + (512 << 10);

/// Buffers that nobody uses at the moment.
#[derive(Default)]
pub(super) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// An empty buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        let spare = self.buffers().pop();
        spare.unwrap_or_else(|| Vec::with_capacity(ROOM))
    }

    /// Keeps a buffer for the next pack.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.buffers().push(buffer);
    }

    /// Nobody writes packs at the moment.
    pub(super) fn release(&self) {
        self.buffers().clear();
    }

    fn buffers(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
