//! Objects that lie far away, with copies in a folder near by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;

use super::{FolderObjects, Lease, ListedObject, ObjectError, Objects};

/// Bytes of the largest object that is kept.
const LARGEST: u64 = 64 << 20;

/// Objects of a store that is far away; those of one folder are fetched whole, once, and kept near
/// by. Objects never change, so a copy is as good as what it was made from; whoever reads checks
/// hashes anyway.
pub struct KeptObjects {
    far: Arc<dyn Objects>,
    near: FolderObjects,
    folder: String,
    /// Bytes that the copies may have together.
    limit: u64,
    /// Objects that are being fetched, so that none is fetched twice at once.
    fetching: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl KeptObjects {
    /// Keeps copies of `far`'s objects in `folder` (`packs`) in `near`, at most `limit` bytes.
    pub fn new(
        far: Arc<dyn Objects>,
        near: FolderObjects,
        folder: impl Into<String>,
        limit: u64,
    ) -> Self {
        Self { far, near, folder: folder.into(), limit, fetching: Mutex::default() }
    }

    fn keeps(&self, name: &str) -> bool {
        name.split_once('/').is_some_and(|(folder, _)| folder == self.folder)
    }

    /// Makes sure that a copy is near by. `false`: it is too large to be kept.
    async fn fetch(&self, name: &str) -> Result<bool, ObjectError> {
        let lock = {
            let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            fetching.retain(|_, lock| lock.strong_count() > 0);
            let known = fetching.get(name).and_then(Weak::upgrade);
            let lock = known.unwrap_or_default();
            fetching.insert(name.to_owned(), Arc::downgrade(&lock));
            lock
        };
        let _alone = lock.lock().await;
        if self.near.read(name, 0, 1).await.is_ok() {
            return Ok(true);
        }
        let bytes = match self.far.get(name, LARGEST).await {
            Err(ObjectError::TooLarge { .. }) => return Ok(false),
            bytes => bytes?,
        };
        self.keep(name, bytes).await;
        Ok(true)
    }

    /// Best effort: without a copy it is fetched again.
    async fn keep(&self, name: &str, bytes: Bytes) {
        let size = bytes.len() as u64;
        if size <= LARGEST && self.make_room(size).await.is_ok() {
            let _ = self.near.create(name, bytes).await;
        }
    }

    async fn make_room(&self, size: u64) -> Result<(), ObjectError> {
        let copies = self.near.list(&self.folder).await?;
        let mut held = copies.iter().fold(size, |sum, copy| sum.saturating_add(copy.size));
        for copy in copies {
            if held <= self.limit {
                break;
            }
            if self.near.remove(&copy.name).await? {
                held = held.saturating_sub(copy.size);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Objects for KeptObjects {
    fn place(&self) -> String {
        self.far.place()
    }

    fn is_near(&self) -> bool {
        self.far.is_near()
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, ObjectError> {
        let created = self.far.create(name, bytes.clone()).await?;
        if created && self.keeps(name) {
            self.keep(name, bytes).await;
        }
        Ok(created)
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, ObjectError> {
        if self.keeps(name) && self.fetch(name).await? {
            match self.near.get(name, limit).await {
                // Somebody made room meanwhile.
                Err(ObjectError::Missing { .. }) => {}
                got => return got,
            }
        }
        self.far.get(name, limit).await
    }

    async fn read(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        if self.keeps(name) && self.fetch(name).await? {
            match self.near.read(name, offset, length).await {
                Err(ObjectError::Missing { .. }) => {}
                read => return read,
            }
        }
        self.far.read(name, offset, length).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<ListedObject>, ObjectError> {
        self.far.list(folder).await
    }

    async fn remove(&self, name: &str) -> Result<bool, ObjectError> {
        let removed = self.far.remove(name).await?;
        if self.keeps(name) {
            self.near.remove(name).await?;
        }
        Ok(removed)
    }

    async fn lease(&self) -> Result<Box<dyn Lease>, ObjectError> {
        self.far.lease().await
    }

    async fn leases(&self) -> Result<Vec<u64>, ObjectError> {
        self.far.leases().await
    }

    async fn free_bytes(&self) -> Result<Option<u64>, ObjectError> {
        self.far.free_bytes().await
    }
}
