use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use moat_core::BlobId;

/// Blobs that this process remembers; past it, the store is asked again.
const MOST: usize = 262_144;

/// What is known to be in the store, with its size in bytes, so that a commit touches only what is
/// new. Only a memory: forgetting costs time, never truth.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<BlobId, u64>>, AtomicBool);

impl Known {
    pub(super) fn size(&self, id: BlobId) -> Option<u64> {
        self.lock().get(&id).copied()
    }

    /// Whether anything was ever stored, and so its id compared with the store's.
    pub(super) fn is_checked(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, id: BlobId, size: u64) {
        let mut known = self.lock();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(id, size);
        self.1.store(true, Ordering::Relaxed);
    }

    /// After a sync that failed: what was put may be gone.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BlobId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
