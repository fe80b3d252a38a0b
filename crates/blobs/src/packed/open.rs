//! The pack that is being filled.

use std::sync::Arc;

use moat_core::BlobId;
use tokio::sync::OwnedSemaphorePermit;

use super::Keys;
use super::format::{self, Kind, MAX_ROWS, Row};
use super::index::{PackNumber, State};

/// A pack with this many bytes is full.
const FULL: usize = 8 << 20;

/// Entries that have no object yet.
pub(super) struct OpenPack {
    pub(super) number: PackNumber,
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) rows: Vec<Row>,
    /// Gives the memory back.
    pub(super) permit: OwnedSemaphorePermit,
}

/// What is put into a pack.
pub(super) struct NewEntry {
    pub(super) id: BlobId,
    pub(super) kind: Kind,
    pub(super) stored: Vec<u8>,
    pub(super) raw: u32,
}

impl NewEntry {
    /// Compresses and seals.
    pub(super) fn encode(
        keys: &Keys,
        id: BlobId,
        recipe: bool,
        raw: &[u8],
    ) -> std::io::Result<Self> {
        let (kind, stored) = format::encode_entry(keys, id, recipe, raw)?;
        Ok(Self { id, kind, stored, raw: raw.len() as u32 })
    }
}

impl OpenPack {
    fn push(&mut self, entry: &NewEntry) -> Row {
        let row = Row {
            id: entry.id,
            kind: entry.kind,
            offset: self.bytes.len() as u32,
            stored: entry.stored.len() as u32,
            raw: entry.raw,
        };
        self.bytes.extend_from_slice(&entry.stored);
        self.rows.push(row);
        row
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= FULL || self.rows.len() >= MAX_ROWS
    }
}

/// What became of an entry that was to be added.
pub(super) enum Added {
    /// It is in a pack, or was before.
    Done {
        /// It was not known before.
        new: bool,
        /// The pack that became full by it.
        full: Option<OpenPack>,
    },
    /// There is no open pack.
    NoPack,
}

impl State {
    /// `bytes` is the memory that it is filled in.
    pub(super) fn open_pack(
        &mut self,
        sealed: bool,
        name: String,
        permit: OwnedSemaphorePermit,
        mut bytes: Vec<u8>,
    ) {
        let number = self.add_pack(name.clone(), 0);
        format::begin(&mut bytes, sealed);
        self.open = Some(OpenPack { number, name, bytes, rows: Vec::new(), permit });
    }

    pub(super) fn add(&mut self, entry: &NewEntry) -> Added {
        if self.lasting(entry.id).is_some() {
            return Added::Done { new: false, full: None };
        }
        let Some(open) = &mut self.open else { return Added::NoPack };
        let row = open.push(entry);
        let (number, full) = (open.number, open.is_full());
        // It comes back if it was to go.
        self.deleted.remove(&entry.id);
        self.add_entry(number, &row);
        Added::Done { new: true, full: if full { self.take_open() } else { None } }
    }

    /// Takes the open pack out; what is in it stays readable.
    pub(super) fn take_open(&mut self) -> Option<OpenPack> {
        let mut open = self.open.take()?;
        let bytes = Arc::new(std::mem::take(&mut open.bytes));
        if let Some(pack) = self.pack_mut(open.number) {
            pack.bytes = Some(bytes);
        }
        self.uploading += 1;
        Some(open)
    }

    /// The stored bytes of an entry that is in memory.
    pub(super) fn in_memory(&self, number: PackNumber, row: &Row) -> Option<Vec<u8>> {
        let bytes = match (&self.open, self.pack(number)?) {
            (Some(open), _) if open.number == number => open.bytes.as_slice(),
            (_, pack) => pack.bytes.as_deref()?.as_slice(),
        };
        let start = row.offset as usize;
        bytes.get(start..start.checked_add(row.stored as usize)?).map(<[u8]>::to_vec)
    }
}
