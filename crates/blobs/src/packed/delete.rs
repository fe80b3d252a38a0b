//! Removing single blobs, bytes and all.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use moat_core::BlobId;

use super::Shared;
use super::index::PackNumber;
use super::open::NewEntry;
use crate::{ReadBlobError, WriteBlobError};

impl Shared {
    /// Notes that a blob is to go; the next sync removes it.
    pub(super) async fn delete(self: &Arc<Self>, id: BlobId) -> Result<bool, WriteBlobError> {
        self.begin().await?;
        match self.size(id).await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(false),
            // What is damaged can go as well.
            Err(ReadBlobError::Damaged { .. }) => {}
            Err(error) => return Err(WriteBlobError::of_read(error)),
        }
        Ok(self.state().deleted.insert(id))
    }

    /// Writes the packs of deleted blobs anew without them. Chunks of a large content stay until
    /// they are collected: others may share them.
    pub(super) async fn delete_pending(self: &Arc<Self>) -> Result<(), WriteBlobError> {
        if self.state().deleted.is_empty() {
            return Ok(());
        }
        // What is in memory becomes an object first, so that there is one kind of place only.
        self.flush(None).await?;
        let (affected, deleted) = {
            let mut state = self.state();
            let deleted = std::mem::take(&mut state.deleted);
            let mut affected = BTreeMap::<PackNumber, HashSet<BlobId>>::new();
            for id in &deleted {
                if let Some(place) = state.place(*id) {
                    affected.entry(place.pack).or_default().insert(*id);
                }
            }
            state.deleted.clone_from(&deleted);
            (affected, deleted)
        };
        let packs: Vec<_> = affected.keys().copied().collect();
        self.move_out(&packs, |id| !deleted.contains(&id)).await?;
        self.flush(None).await?;
        for pack in packs {
            self.remove_pack(pack).await?;
        }
        self.state().deleted.retain(|id| !deleted.contains(id));
        Ok(())
    }

    /// Copies those entries of packs that are wanted into new packs. They are durable after the
    /// next flush.
    pub(super) async fn move_out(
        self: &Arc<Self>,
        packs: &[PackNumber],
        wanted: impl Fn(BlobId) -> bool,
    ) -> Result<u64, WriteBlobError> {
        let mut moved = 0;
        for pack in packs {
            let entries = {
                let mut state = self.state();
                if let Some(pack) = state.pack_mut(*pack) {
                    // So that what is put now is put elsewhere.
                    pack.doomed = true;
                }
                state.entries_of(*pack)
            };
            for (id, place) in entries.into_iter().filter(|(id, _)| wanted(*id)) {
                let raw = self.entry(id, place).await.map_err(WriteBlobError::of_read)?;
                let shared = Arc::clone(self);
                let entry = crate::blocking(move || {
                    NewEntry::encode(&shared.keys, id, place.kind.recipe, &raw)
                });
                let entry = entry.await.map_err(|source| WriteBlobError::Io {
                    path: self.objects.place().into(),
                    source,
                })?;
                moved += u64::from(place.stored);
                self.add(entry).await?;
            }
        }
        Ok(moved)
    }

    pub(super) async fn remove_pack(&self, number: PackNumber) -> Result<u64, WriteBlobError> {
        let known = self.state().pack(number).map(|pack| (pack.name.clone(), pack.size));
        let Some((name, size)) = known else { return Ok(0) };
        self.objects.remove(&name).await.map_err(WriteBlobError::of)?;
        self.state().drop_pack(number);
        Ok(size)
    }
}

impl WriteBlobError {
    pub(super) fn of_read(error: ReadBlobError) -> Self {
        Self::Io { path: "packs".into(), source: std::io::Error::other(error) }
    }
}
