//! Collecting what nothing needs any more, beside those who write.
//!
//! A pack goes in two steps. First it is *doomed*: an object says since when nothing has needed it,
//! and whoever begins to write from then on lets no new snapshot refer to it. It is removed by a
//! later collection, if still nothing needs it, after a grace, and only once everybody has ended
//! who began to write before it was doomed. So a snapshot that was being committed while the first
//! collection looked is known to the second one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use moat_core::BlobId;

use super::format;
use super::index::PackNumber;
use super::upload::PACKS;
use super::{PackedBlobs, Shared};
use crate::objects::{Lease, now_ms};
use crate::{ReadBlobError, WriteBlobError};

/// The folder of what says that packs are doomed.
pub(super) const DOOMED: &str = "doomed";
/// Packs with fewer bytes than this are put together.
const SMALL: u64 = 1 << 20;
/// So many small packs may be.
const MANY_SMALL: usize = 32;
/// Contents whose chunks are looked up at a time.
const SIDE_BY_SIDE: usize = 16;
/// Milliseconds that a sign may take from its time until everybody sees it, in a bucket and in a
/// folder: a writer who began so long after may not have seen it, and counts as one from before.
const UNSEEN: (u64, u64) = (60_000, 2_000);

/// How to collect.
#[derive(Clone, Copy, Debug)]
pub struct CollectOptions {
    /// How long a pack stays after it was found that nothing needs it.
    pub grace: Duration,
    /// Says what would be done, and does nothing.
    pub dry_run: bool,
    /// Also writes those packs anew of which much is needed, if anything in them is not: once they
    /// are removed, nothing is left of what nothing needs. Otherwise it stays until little of its
    /// pack is needed.
    pub leave_nothing: bool,
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Packs that were removed.
    pub removed_packs: u64,
    /// Bytes of those.
    pub removed_bytes: u64,
    /// Bytes of doomed packs: removed by a later collection.
    pub doomed_bytes: u64,
    /// Bytes that were moved into new packs.
    pub moved_bytes: u64,
    /// Bytes that stay.
    pub kept_bytes: u64,
    /// Somebody who wrote before packs were doomed still writes, so that they had to stay.
    pub waited_for_writers: bool,
}

impl PackedBlobs {
    /// Removes what is not live. A content's chunks are live with it.
    ///
    /// `live` says what is needed at this moment. It is asked twice: what was needed by nobody when
    /// packs were doomed may be needed by somebody who was writing then and has ended since.
    ///
    /// # Errors
    ///
    /// Packs cannot be listed, read, written or removed, or a live content is damaged or missing:
    /// then nothing is removed.
    pub async fn collect<E: From<WriteBlobError>>(
        &self,
        live: impl AsyncFn() -> Result<HashSet<BlobId>, E>,
        options: CollectOptions,
    ) -> Result<Collected, E> {
        let shared = &self.shared;
        let needed = shared.needed(live().await?).await?;
        // What it writes itself is no reason to wait, unlike what others write through this store.
        let own = match options.dry_run {
            true => None,
            false => Some(shared.objects.lease().await.map_err(WriteBlobError::of)?),
        };
        let (mut report, doomed) = shared.doom_unneeded(&needed, options).await?;
        if !doomed.is_empty() {
            // Whoever begins from now on sees what is doomed and does not rely on it. Whoever began
            // before is seen now; or he has ended, and what he needs is in what is live now.
            let oldest_writer = shared.oldest_writer(own.as_deref()).await?;
            let needed = shared.needed(live().await?).await?;
            shared.remove_doomed(doomed, &needed, oldest_writer, options, &mut report).await?;
        }
        Ok(report)
    }
}

impl Shared {
    /// Dooms what nothing needs, and moves what little is needed out of packs that are doomed with
    /// it. Answers what is doomed, and since when.
    async fn doom_unneeded(
        self: &Arc<Self>,
        needed: &HashSet<BlobId>,
        options: CollectOptions,
    ) -> Result<(Collected, Vec<(PackNumber, u64)>), WriteBlobError> {
        let signs = self.doomed().await?;
        let mut plan = Plan::make(self, needed, &signs, options.leave_nothing);
        let mut report = Collected { kept_bytes: plan.kept_bytes, ..Collected::default() };
        if options.dry_run {
            report.doomed_bytes = plan.bytes_to_go(self);
            return Ok((report, Vec::new()));
        }
        if !plan.thin.is_empty() {
            report.moved_bytes = self.move_out(&plan.thin, |id| needed.contains(&id)).await?;
            self.flush(None).await?;
            plan.dead.append(&mut plan.thin);
        }
        for pack in plan.needed_again {
            self.absolve(pack).await?;
        }
        let mut doomed = Vec::new();
        for pack in plan.dead {
            doomed.push((pack, self.doom(pack, &signs).await?));
        }
        Ok((report, doomed))
    }

    async fn remove_doomed(
        &self,
        doomed: Vec<(PackNumber, u64)>,
        needed: &HashSet<BlobId>,
        oldest_writer: Option<u64>,
        options: CollectOptions,
        report: &mut Collected,
    ) -> Result<(), WriteBlobError> {
        let holding: HashSet<PackNumber> = {
            let state = self.state();
            needed.iter().filter_map(|id| state.place(*id)).map(|place| place.pack).collect()
        };
        let unseen = if self.objects.is_near() { UNSEEN.1 } else { UNSEEN.0 };
        for (pack, since) in doomed {
            let size = self.state().pack(pack).map_or(0, |pack| pack.size);
            if holding.contains(&pack) {
                self.absolve(pack).await?;
                report.kept_bytes += size;
                continue;
            }
            let rested = now_ms().saturating_sub(since) >= options.grace.as_millis() as u64;
            let writes = oldest_writer.is_some_and(|began| began <= since.saturating_add(unseen));
            report.waited_for_writers |= rested && writes;
            if rested && !writes {
                report.removed_bytes += self.remove_pack(pack).await?;
                report.removed_packs += 1;
                self.take_sign_away(pack).await?;
            } else {
                report.doomed_bytes += size;
            }
        }
        Ok(())
    }

    /// What is live with its chunks, all of which is there.
    async fn needed(
        self: &Arc<Self>,
        live: HashSet<BlobId>,
    ) -> Result<HashSet<BlobId>, WriteBlobError> {
        // After it was said what is live: all of that was stored before.
        self.reload().await.map_err(WriteBlobError::of)?;
        self.check_live(&live).await.map_err(WriteBlobError::of_read)?;
        self.with_chunks(live).await.map_err(WriteBlobError::of_read)
    }

    /// When the first of all others began who write now, in this process or elsewhere.
    async fn oldest_writer(&self, own: Option<&dyn Lease>) -> Result<Option<u64>, WriteBlobError> {
        let mut writers = self.objects.leases().await.map_err(WriteBlobError::of)?;
        // One: somebody else may have begun in the same millisecond.
        let own = own.and_then(|own| writers.iter().position(|began| *began == own.began()));
        if let Some(index) = own {
            writers.swap_remove(index);
        }
        Ok(writers.into_iter().min())
    }

    /// Everything live is there: whoever misses something does not know what it may remove.
    async fn check_live(&self, live: &HashSet<BlobId>) -> Result<(), ReadBlobError> {
        let missing: Vec<BlobId> = {
            let state = self.state();
            live.iter().filter(|id| state.place(**id).is_none()).copied().collect()
        };
        for id in missing {
            let older = match &self.older {
                Some(older) => older.contains(id).await?,
                None => false,
            };
            if !older {
                return Err(ReadBlobError::Missing { id });
            }
        }
        Ok(())
    }

    /// The live blobs with their chunks.
    async fn with_chunks(
        self: &Arc<Self>,
        live: HashSet<BlobId>,
    ) -> Result<HashSet<BlobId>, ReadBlobError> {
        let cut: Vec<BlobId> = {
            let state = self.state();
            let is_cut = |id: &&BlobId| state.place(**id).is_some_and(|place| place.kind.recipe);
            live.iter().filter(is_cut).copied().collect()
        };
        let chunks = cut.into_iter().map(|id| self.chunks_of(id));
        let chunks: Vec<_> =
            stream::iter(chunks).buffer_unordered(SIDE_BY_SIDE).try_collect().await?;
        Ok(live.into_iter().chain(chunks.into_iter().flatten()).collect())
    }

    /// Since when packs are doomed, by their names.
    async fn doomed(&self) -> Result<HashMap<String, u64>, WriteBlobError> {
        let mut doomed = HashMap::new();
        for listed in self.objects.list(DOOMED).await.map_err(WriteBlobError::of)? {
            let Some(rest) = listed.name.strip_prefix(DOOMED) else { continue };
            let bytes = self.objects.get(&listed.name, 64).await.map_err(WriteBlobError::of)?;
            let since = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
            // Nobody else writes here; what cannot be read is taken for doomed just now.
            doomed.insert(format!("{PACKS}{rest}"), since.unwrap_or_else(now_ms));
        }
        Ok(doomed)
    }

    /// Dooms a pack, unless it is. Returns since when it is.
    async fn doom(
        &self,
        number: PackNumber,
        doomed: &HashMap<String, u64>,
    ) -> Result<u64, WriteBlobError> {
        let name = self.name_of(number);
        if let Some(since) = doomed.get(&name) {
            return Ok(*since);
        }
        let now = now_ms();
        let sign = name.replacen(PACKS, DOOMED, 1);
        let text = Bytes::from(now.to_string());
        self.objects.create(&sign, text).await.map_err(WriteBlobError::of)?;
        if let Some(pack) = self.state().pack_mut(number) {
            pack.doomed = true;
        }
        // Whoever lists signs from now on sees it.
        Ok(now_ms())
    }

    /// A doomed pack is needed: what is new may refer to it.
    async fn absolve(&self, number: PackNumber) -> Result<(), WriteBlobError> {
        self.take_sign_away(number).await?;
        if let Some(pack) = self.state().pack_mut(number) {
            pack.doomed = false;
        }
        Ok(())
    }

    async fn take_sign_away(&self, number: PackNumber) -> Result<(), WriteBlobError> {
        let sign = self.name_of(number).replacen(PACKS, DOOMED, 1);
        self.objects.remove(&sign).await.map_err(WriteBlobError::of)?;
        Ok(())
    }

    fn name_of(&self, number: PackNumber) -> String {
        self.state().pack(number).map(|pack| pack.name.clone()).unwrap_or_default()
    }
}

/// What is needed of a pack.
#[derive(Default)]
struct Needed {
    entries: usize,
    /// Bytes in the pack.
    bytes: u64,
}

impl Needed {
    /// Bytes of a pack that holds nothing else, not even what is found elsewhere.
    fn size_alone(&self, sealed: bool) -> u64 {
        self.bytes + format::size_around(self.entries, sealed)
    }
}

/// What is to become of the packs.
struct Plan {
    /// Nothing needs them.
    dead: Vec<PackNumber>,
    /// Little of them is needed, or they are small, or what is not needed may not stay.
    thin: Vec<PackNumber>,
    /// They are doomed, and something needs them.
    needed_again: Vec<PackNumber>,
    kept_bytes: u64,
}

impl Plan {
    fn make(
        shared: &Shared,
        live: &HashSet<BlobId>,
        doomed: &HashMap<String, u64>,
        leave_nothing: bool,
    ) -> Self {
        let state = shared.state();
        let mut needed = HashMap::<PackNumber, Needed>::new();
        for (_, place) in state.all().filter(|(id, _)| live.contains(id)) {
            let needed = needed.entry(place.pack).or_default();
            needed.entries += 1;
            needed.bytes += u64::from(place.stored);
        }
        let mut plan =
            Self { dead: Vec::new(), thin: Vec::new(), needed_again: Vec::new(), kept_bytes: 0 };
        let mut small = BTreeSet::new();
        for (number, pack) in state.stored() {
            match needed.get(&number) {
                None if pack.damaged => plan.kept_bytes += pack.size,
                None => plan.dead.push(number),
                Some(needed) => {
                    plan.kept_bytes += pack.size;
                    let whole = || pack.size == needed.size_alone(shared.keys.sealing.is_some());
                    if needed.bytes * 2 < pack.size || (leave_nothing && !whole()) {
                        plan.thin.push(number);
                    } else if pack.size < SMALL {
                        small.insert(number);
                    }
                    if doomed.contains_key(&pack.name) {
                        plan.needed_again.push(number);
                    }
                }
            }
        }
        if small.len() > MANY_SMALL {
            plan.thin.extend(small);
        }
        plan.needed_again.retain(|number| !plan.thin.contains(number));
        plan
    }

    fn bytes_to_go(&self, shared: &Shared) -> u64 {
        let state = shared.state();
        self.dead.iter().filter_map(|number| state.pack(*number)).map(|pack| pack.size).sum()
    }
}
