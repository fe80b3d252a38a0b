//! Reading the tables of packs, and checking them.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use moat_core::BlobId;

use super::collect::DOOMED;
use super::format::{self, FormatError, HEAD, Row};
use super::upload::PACKS;
use super::{PackedBlobs, Shared};
use crate::objects::now_ms;
use crate::{ListedObject, ObjectError, ReadBlobError, WriteBlobError, blocking};

/// Packs whose tables are read at a time.
const SIDE_BY_SIDE: usize = 16;
/// Bytes at the end of a pack that are read in the hope that the table is in them.
const TAIL: u64 = 32 << 10;
/// The folder of pins, by the ids of what they keep.
const PINS: &str = "pins";
/// The folder of names of those who store here.
const USERS: &str = "users";
/// Milliseconds after which a lease is replaced by a new one.
const RENEWED_AFTER: u64 = 10 * 60 * 1000;

/// What is wrong with a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackDamage {
    /// The pack's name.
    pub pack: String,
    /// The blob or chunk that it hits; absent: the pack as a whole.
    pub blob: Option<BlobId>,
    /// What is wrong, for a person.
    pub reason: String,
}

/// What packs take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackUsage {
    /// Packs.
    pub packs: u64,
    /// Bytes of their objects.
    pub bytes: u64,
    /// Pieces of contents in them.
    pub entries: u64,
    /// Bytes of those pieces before they were compressed.
    pub raw_bytes: u64,
}

impl PackedBlobs {
    /// What is stored, by the tables of all packs.
    ///
    /// # Errors
    ///
    /// Packs cannot be listed or read.
    pub async fn usage(&self) -> Result<PackUsage, ObjectError> {
        self.shared.reload().await?;
        let state = self.shared.state();
        let mut usage = PackUsage::default();
        for (_, pack) in state.stored() {
            usage.packs += 1;
            usage.bytes += pack.size;
        }
        for (_, place) in state.all() {
            usage.entries += 1;
            usage.raw_bytes += u64::from(place.raw);
        }
        Ok(usage)
    }

    /// Whether it is known at once when somebody who wrote here dies.
    pub fn is_near(&self) -> bool {
        self.shared.objects.is_near()
    }

    /// Keeps a blob, with what the caller knows it to need, from being collected.
    ///
    /// # Errors
    ///
    /// The store cannot be written.
    pub async fn pin(&self, id: BlobId) -> Result<(), ObjectError> {
        self.shared.objects.create(&pin_name(id), bytes::Bytes::new()).await?;
        Ok(())
    }

    /// Takes a pin away. `false`: there was none.
    ///
    /// # Errors
    ///
    /// The store cannot be written.
    pub async fn unpin(&self, id: BlobId) -> Result<bool, ObjectError> {
        self.shared.objects.remove(&pin_name(id)).await
    }

    /// What is pinned.
    ///
    /// # Errors
    ///
    /// The store cannot be listed.
    pub async fn pins(&self) -> Result<Vec<BlobId>, ObjectError> {
        let pins = self.shared.objects.list(PINS).await?;
        let id = |pin: &ListedObject| pin.name.rsplit('/').next()?.parse().ok();
        Ok(pins.iter().filter_map(id).collect())
    }

    /// Who stores here, by the names that were given as [`crate::PackedOptions::user`].
    ///
    /// # Errors
    ///
    /// The store cannot be listed.
    pub async fn users(&self) -> Result<Vec<String>, ObjectError> {
        let users = self.shared.objects.list(USERS).await?;
        let name = |user: &ListedObject| user.name.rsplit('/').next().map(str::to_owned);
        Ok(users.iter().filter_map(name).collect())
    }

    /// Forgets somebody who stores here no longer. `false`: there was nobody of that name.
    ///
    /// # Errors
    ///
    /// The store cannot be listed or written.
    pub async fn forget_user(&self, name: &str) -> Result<bool, ObjectError> {
        if !self.users().await?.iter().any(|user| user == name) {
            return Ok(false);
        }
        self.shared.objects.remove(&format!("{USERS}/{name}")).await
    }

    /// Reads every pack and checks all that is in it. Returns what is damaged.
    ///
    /// # Errors
    ///
    /// Packs cannot be listed or read.
    pub async fn check(&self) -> Result<Vec<PackDamage>, ObjectError> {
        let shared = &self.shared;
        let listed = shared.objects.list(PACKS).await?;
        let checks = listed.into_iter().map(|pack| shared.check_pack(pack));
        let found: Vec<Vec<PackDamage>> = stream::iter(checks).buffered(2).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }
}

impl Shared {
    /// Before the first write since a sync: tables are known, and collectors know that somebody
    /// writes.
    pub(super) async fn begin(&self) -> Result<(), WriteBlobError> {
        let now = now_ms();
        {
            let mut state = self.state();
            let fresh = |began: u64| now.saturating_sub(began) < RENEWED_AFTER;
            let held = state.leases.first().and_then(Option::as_ref);
            let covered = held.is_some_and(|lease| state.writing || fresh(lease.began()));
            if state.loaded && covered {
                state.writing = true;
                return Ok(());
            }
        }
        let _alone = self.loading.lock().await;
        let lease = self.objects.lease().await.map_err(WriteBlobError::of)?;
        self.load_changes().await.map_err(WriteBlobError::of)?;
        if let Some(user) = &self.user {
            let name = format!("{USERS}/{user}");
            let _is_new = self
                .objects
                .create(&name, bytes::Bytes::new())
                .await
                .map_err(WriteBlobError::of)?;
        }
        let mut state = self.state();
        state.leases.rotate_right(1);
        if let Some(first) = state.leases.first_mut() {
            *first = Some(lease);
        }
        state.writing = true;
        Ok(())
    }

    /// Reads the tables, unless that was done.
    pub(super) async fn load(&self) -> Result<(), ObjectError> {
        if self.state().loaded {
            return Ok(());
        }
        let _alone = self.loading.lock().await;
        if self.state().loaded { Ok(()) } else { self.load_changes().await }
    }

    /// Looks again: others may have stored or removed packs.
    pub(super) async fn reload(&self) -> Result<(), ObjectError> {
        let _alone = self.loading.lock().await;
        self.load_changes().await
    }

    async fn load_changes(&self) -> Result<(), ObjectError> {
        for _ in 0..3 {
            if self.load_once().await? {
                return Ok(());
            }
        }
        // Packs keep vanishing while they are read; what was read is true all the same.
        Ok(())
    }

    /// `false`: a pack vanished meanwhile, so there is another one with its entries.
    async fn load_once(&self) -> Result<bool, ObjectError> {
        // First what is doomed: a pack that is doomed later is covered by our lease.
        let doomed = self.objects.list(DOOMED).await?;
        let listed = self.objects.list(PACKS).await?;
        let unread: Vec<ListedObject> = {
            let mut state = self.state();
            let gone = state.stored().any(|(_, pack)| {
                listed.binary_search_by(|listed| listed.name.cmp(&pack.name)).is_err()
            });
            if gone {
                // Their entries may be in other packs that were read already.
                state.forget_stored();
            }
            let unread = listed.iter().filter(|pack| state.number_of(&pack.name).is_none());
            unread.cloned().collect()
        };
        let tables = unread.into_iter().map(|pack| async move {
            match self.table(&pack).await {
                Ok(rows) => Ok(Some((pack, Some(rows)))),
                // Named by `check`, and by whoever misses what is in it.
                Err(TableError::Format(_)) => Ok(Some((pack, None))),
                Err(TableError::Object(ObjectError::Missing { .. })) => Ok(None),
                Err(TableError::Object(error)) => Err(error),
            }
        });
        let tables: Vec<_> = stream::iter(tables).buffered(SIDE_BY_SIDE).try_collect().await?;
        let mut state = self.state();
        let numbers: Vec<_> = state.stored().map(|(number, _)| number).collect();
        for number in numbers {
            if let Some(pack) = state.pack_mut(number) {
                pack.doomed |= is_doomed(&doomed, &pack.name);
            }
        }
        let mut whole = true;
        for table in tables {
            let Some((pack, rows)) = table else {
                whole = false;
                continue;
            };
            let number = state.add_pack(pack.name.clone(), pack.size);
            if let Some(known) = state.pack_mut(number) {
                known.damaged = rows.is_none();
                known.doomed = is_doomed(&doomed, &pack.name);
            }
            for row in rows.unwrap_or_default() {
                state.add_entry(number, &row);
            }
        }
        state.loaded = true;
        Ok(whole)
    }

    pub(super) async fn table(&self, pack: &ListedObject) -> Result<Vec<Row>, TableError> {
        let start = pack.size.saturating_sub(TAIL);
        let mut tail = self.objects.read(&pack.name, start, TAIL).await?;
        let length = format::table_length(&tail)?;
        if length as u64 > pack.size {
            return Err(FormatError::Damaged.into());
        }
        if length > tail.len() {
            let start = pack.size - length as u64;
            tail = self.objects.read(&pack.name, start, length as u64).await?;
        }
        let from = tail.len().checked_sub(length).ok_or(FormatError::Damaged)?;
        Ok(format::read_table(&self.keys, &pack.name, pack.size, tail.get(from..).unwrap_or(&[]))?)
    }

    async fn check_pack(
        self: &Arc<Self>,
        pack: ListedObject,
    ) -> Result<Vec<PackDamage>, ObjectError> {
        let damage = |blob, reason: &dyn std::fmt::Display| PackDamage {
            pack: pack.name.clone(),
            blob,
            reason: reason.to_string(),
        };
        let head = self.objects.read(&pack.name, 0, HEAD as u64).await;
        let rows = match self.table(&pack).await {
            Ok(rows) => rows,
            Err(TableError::Object(ObjectError::Missing { .. })) => return Ok(Vec::new()),
            Err(TableError::Object(error)) => return Err(error),
            Err(TableError::Format(error)) => return Ok(vec![damage(None, &error)]),
        };
        let mut found = Vec::new();
        if let Err(error) = format::check_head(&self.keys, &head?) {
            found.push(damage(None, &error));
        }
        let bytes = self.objects.read(&pack.name, 0, pack.size).await?;
        let shared = Arc::clone(self);
        let wrong = blocking(move || {
            let broken = |row: &&Row| !shared.is_whole(row, &bytes);
            rows.iter().filter(broken).map(|row| row.id).collect::<Vec<_>>()
        });
        let wrong = wrong.await.into_iter();
        found.extend(wrong.map(|id| damage(Some(id), &"its bytes do not have that hash")));
        Ok(found)
    }

    /// Whether an entry is in a pack's bytes as its table says.
    fn is_whole(&self, row: &Row, pack: &[u8]) -> bool {
        let start = row.offset as usize;
        let stored = pack.get(start..start.saturating_add(row.stored as usize));
        stored.and_then(|stored| self.decode(row, stored)).is_some()
    }

    /// The bytes of an entry, checked.
    pub(super) fn decode(&self, row: &Row, stored: &[u8]) -> Option<Vec<u8>> {
        let bytes = format::decode_entry(&self.keys, row, stored)?;
        let whole = if row.kind.recipe {
            super::recipe::Recipe::decode(&self.keys, row.id, &bytes).is_some()
        } else {
            self.keys.id_of(&bytes) == row.id
        };
        whole.then_some(bytes)
    }
}

fn pin_name(id: BlobId) -> String {
    format!("{PINS}/{id}")
}

fn is_doomed(doomed: &[ListedObject], pack: &str) -> bool {
    let same = |doomed: &ListedObject| doomed.name.strip_prefix(DOOMED) == pack.strip_prefix(PACKS);
    doomed.iter().any(same)
}

/// Why a table could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl WriteBlobError {
    pub(super) fn of(error: ObjectError) -> Self {
        Self::Objects(Arc::new(error))
    }
}

impl ReadBlobError {
    pub(super) fn of(id: BlobId, source: ObjectError) -> Self {
        Self::Objects { id, source: Box::new(source) }
    }
}
