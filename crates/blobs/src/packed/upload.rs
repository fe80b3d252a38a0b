//! Packs become objects.

use std::sync::Arc;

use bytes::Bytes;

use super::format;
use super::open::{Added, NewEntry, OpenPack};
use super::{Keys, Shared};
use crate::{ObjectError, WriteBlobError, blocking};

/// The folder of packs.
pub(super) const PACKS: &str = "packs";

impl Shared {
    /// Puts an entry into the open pack. Returns whether it is new.
    pub(super) async fn add(self: &Arc<Self>, entry: NewEntry) -> Result<bool, WriteBlobError> {
        loop {
            let added = self.state().add(&entry);
            match added {
                Added::Done { new, full } => {
                    if let Some(full) = full {
                        self.upload(full);
                    }
                    return Ok(new);
                }
                Added::NoPack => self.open_pack().await?,
            }
        }
    }

    /// Opens a pack, once there is memory for one, unless somebody was quicker.
    async fn open_pack(&self) -> Result<(), WriteBlobError> {
        let Ok(permit) = Arc::clone(&self.buffers).acquire_owned().await else {
            return Ok(());
        };
        let name = random_name(PACKS)?;
        let mut state = self.state();
        if state.open.is_none() {
            state.open_pack(self.keys.sealing.is_some(), name, permit, self.spare.take());
        }
        Ok(())
    }

    /// Writes a pack in the background: `settled` says when it is done.
    pub(super) fn upload(self: &Arc<Self>, pack: OpenPack) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let mut upload = Upload { shared, number: pack.number, outcome: None };
            upload.outcome = Some(upload.write(pack).await);
        });
    }

    pub(super) async fn sync(self: &Arc<Self>) -> Result<(), WriteBlobError> {
        self.delete_pending().await?;
        self.flush(None).await
    }

    /// Writes the open pack and waits for all others. `last` is put into the one that is written
    /// after all others are there.
    pub(super) async fn flush(
        self: &Arc<Self>,
        mut last: Option<NewEntry>,
    ) -> Result<(), WriteBlobError> {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if !self.flush_step(&mut last)? {
                self.spare.release();
                return Ok(());
            }
            if last.is_some() && self.state().open.is_none() && self.state().uploading == 0 {
                self.open_pack().await?;
                continue;
            }
            settled.await;
        }
    }

    /// Whether there is something to wait for.
    fn flush_step(self: &Arc<Self>, last: &mut Option<NewEntry>) -> Result<bool, WriteBlobError> {
        let mut state = self.state();
        state.take_lost()?;
        if last.is_some() && (state.uploading > 0 || state.open.is_none()) {
            return Ok(true);
        }
        let full = match last.take() {
            None => None,
            Some(entry) => match state.add(&entry) {
                Added::Done { full, .. } => full,
                Added::NoPack => None,
            },
        };
        let open = full.or_else(|| state.take_open_if_used());
        if let Some(open) = open {
            drop(state);
            self.upload(open);
            return Ok(true);
        }
        let waits = state.uploading > 0;
        state.writing = waits;
        Ok(waits)
    }
}

/// A pack on its way. Whatever happens to it, those who wait hear of it.
struct Upload {
    shared: Arc<Shared>,
    number: super::index::PackNumber,
    outcome: Option<Result<(), ObjectError>>,
}

impl Upload {
    async fn write(&self, pack: OpenPack) -> Result<(), ObjectError> {
        let OpenPack { name, rows, permit, number, .. } = pack;
        let (shared, object) = (Arc::clone(&self.shared), name.clone());
        let held = shared.state().pack(number).and_then(|pack| pack.bytes.clone());
        let room = shared.spare.take();
        let bytes =
            blocking(move || finish(&shared.keys, &object, &held.unwrap_or_default(), &rows, room));
        let bytes = bytes.await.map_err(|error| self.failed(&name, error.into()))?;
        let size = bytes.len() as u64;
        self.shared.check_floor(size).await?;
        if !self.shared.objects.create(&name, bytes.clone()).await?
            // Perhaps the answer to a first try was lost. Anybody else's has another name.
            && self.shared.objects.get(&name, size).await? != bytes
        {
            return Err(self.failed(&name, "there is another one of that name".into()));
        }
        self.settle(number, size, bytes);
        drop(permit);
        Ok(())
    }

    /// From now on it is read from its object; its memory is used again.
    fn settle(&self, number: super::index::PackNumber, size: u64, written: Bytes) {
        let mut state = self.shared.state();
        let held = state.pack_mut(number).and_then(|pack| {
            pack.size = size;
            pack.bytes.take()
        });
        drop(state);
        if let Some(Ok(held)) = held.map(Arc::try_unwrap) {
            self.shared.spare.give(held);
        }
        // Whoever wrote it may hold it a moment longer.
        if let Ok(written) = written.try_into_mut() {
            self.shared.spare.give(written.into());
        }
    }

    fn failed(&self, name: &str, source: Box<dyn std::error::Error + Send + Sync>) -> ObjectError {
        let (place, name) = (self.shared.objects.place(), name.to_owned());
        ObjectError::Failed { doing: "write", place, name, source }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let outcome = self.outcome.take();
        let stopped = || self.failed("a pack", "the program is ending".into());
        let outcome = outcome.unwrap_or_else(|| Err(stopped()));
        let mut state = self.shared.state();
        state.uploading = state.uploading.saturating_sub(1);
        match outcome {
            Ok(()) => {}
            Err(error) => {
                state.drop_pack(self.number);
                state.lost = Some(Arc::new(error));
            }
        }
        drop(state);
        self.shared.settled.notify_waiters();
    }
}

/// The whole pack, in `pack`, which is empty.
fn finish(
    keys: &Keys,
    name: &str,
    bytes: &[u8],
    rows: &[format::Row],
    mut pack: Vec<u8>,
) -> std::io::Result<Bytes> {
    pack.extend_from_slice(bytes);
    format::finish(keys, name, &mut pack, rows)?;
    Ok(pack.into())
}

impl Shared {
    /// Whether as many bytes may be written.
    pub(super) async fn check_floor(&self, size: u64) -> Result<(), ObjectError> {
        if self.floor == 0 {
            return Ok(());
        }
        match self.objects.free_bytes().await? {
            Some(free) if free < self.floor.saturating_add(size) => {
                Err(ObjectError::Floor { place: self.objects.place(), free, floor: self.floor })
            }
            _ => Ok(()),
        }
    }
}

impl super::index::State {
    /// The open pack, if there is anything in it.
    fn take_open_if_used(&mut self) -> Option<OpenPack> {
        if self.open.as_ref()?.rows.is_empty() { None } else { self.take_open() }
    }
}

/// A name in a folder that nobody else chooses.
pub(super) fn random_name(folder: &str) -> Result<String, WriteBlobError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| WriteBlobError::Io {
        path: folder.into(),
        source: std::io::Error::other(error),
    })?;
    let hex = blake3::Hash::from_bytes([random, [0; 16]].concat().try_into().unwrap_or_default());
    let hex = hex.to_hex();
    Ok(format!("{folder}/{}", hex.get(..32).unwrap_or_default()))
}
