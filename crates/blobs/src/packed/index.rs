//! What is where.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use moat_core::BlobId;

use super::format::{Kind, Row};
use super::open::OpenPack;
use crate::objects::Lease;
use crate::{ObjectError, WriteBlobError};

/// A pack, by its place in [`State::packs`].
pub(super) type PackNumber = u32;

/// What is known about a store.
#[derive(Default)]
pub(super) struct State {
    /// Tables were read.
    pub(super) loaded: bool,
    entries: HashMap<BlobId, Place>,
    pub(super) packs: Vec<Pack>,
    by_name: HashMap<String, PackNumber>,
    pub(super) open: Option<OpenPack>,
    /// Packs that are being written.
    pub(super) uploading: usize,
    /// Why packs were lost since the last sync.
    pub(super) lost: Option<Arc<ObjectError>>,
    /// Blobs that go with the next sync.
    pub(super) deleted: HashSet<BlobId>,
    /// Says to collectors that somebody writes. The one before is kept for as long: what it
    /// covered may not be known to them yet.
    pub(super) leases: [Option<Box<dyn Lease>>; 2],
    /// Something was put since the last sync.
    pub(super) writing: bool,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) pack: PackNumber,
    pub(super) kind: Kind,
    offset: u32,
    pub(super) stored: u32,
    pub(super) raw: u32,
}

impl Place {
    pub(super) fn row(&self, id: BlobId) -> Row {
        let Self { kind, offset, stored, raw, .. } = *self;
        Row { id, kind, offset, stored, raw }
    }
}

/// A pack that is open, being written, or stored.
pub(super) struct Pack {
    pub(super) name: String,
    /// What is in it, until it is stored.
    pub(super) bytes: Option<Arc<Vec<u8>>>,
    /// Bytes; 0 until it is stored.
    pub(super) size: u64,
    /// It is gone, or on its way: nothing new may refer to it.
    pub(super) doomed: bool,
    /// Its table cannot be read, so nobody knows what is in it.
    pub(super) damaged: bool,
}

impl State {
    pub(super) fn place(&self, id: BlobId) -> Option<Place> {
        if self.deleted.contains(&id) { None } else { self.entries.get(&id).copied() }
    }

    /// Where something is that new snapshots may refer to.
    pub(super) fn lasting(&self, id: BlobId) -> Option<Place> {
        self.place(id).filter(|place| self.pack(place.pack).is_some_and(|pack| !pack.doomed))
    }

    pub(super) fn pack(&self, number: PackNumber) -> Option<&Pack> {
        self.packs.get(number as usize)
    }

    pub(super) fn pack_mut(&mut self, number: PackNumber) -> Option<&mut Pack> {
        self.packs.get_mut(number as usize)
    }

    pub(super) fn number_of(&self, name: &str) -> Option<PackNumber> {
        self.by_name.get(name).copied()
    }

    pub(super) fn add_pack(&mut self, name: String, size: u64) -> PackNumber {
        let number = self.packs.len() as PackNumber;
        self.by_name.insert(name.clone(), number);
        self.packs.push(Pack { name, bytes: None, size, doomed: false, damaged: false });
        number
    }

    /// Notes an entry, unless it is known in a pack that lasts.
    pub(super) fn add_entry(&mut self, pack: PackNumber, row: &Row) {
        let Row { id, kind, offset, stored, raw } = *row;
        if self.lasting(id).is_none() {
            self.entries.insert(id, Place { pack, kind, offset, stored, raw });
        }
    }

    /// Forgets a pack and what is in it.
    pub(super) fn drop_pack(&mut self, number: PackNumber) {
        self.entries.retain(|_, place| place.pack != number);
        if let Some(pack) = self.packs.get_mut(number as usize) {
            pack.doomed = true;
            pack.bytes = None;
            self.by_name.remove(&pack.name);
        }
    }

    /// Forgets everything that was stored by others or earlier; what is in memory stays.
    pub(super) fn forget_stored(&mut self) {
        let in_memory = |pack: &Pack| pack.size == 0 && !pack.doomed;
        let stays: Vec<_> = self.packs.iter().map(in_memory).collect();
        self.entries.retain(|_, place| stays.get(place.pack as usize).copied().unwrap_or_default());
        for (pack, stays) in self.packs.iter_mut().zip(stays) {
            if !stays {
                pack.doomed = true;
                self.by_name.remove(&pack.name);
            }
        }
    }

    /// Packs that are stored, by their numbers.
    pub(super) fn stored(&self) -> impl Iterator<Item = (PackNumber, &Pack)> {
        let numbered = self.packs.iter().enumerate();
        numbered
            .filter(|(number, pack)| {
                pack.size > 0 && self.number_of(&pack.name) == Some(*number as PackNumber)
            })
            .map(|(number, pack)| (number as PackNumber, pack))
    }

    /// The entries of a pack that are found through it.
    pub(super) fn entries_of(&self, number: PackNumber) -> Vec<(BlobId, Place)> {
        let entries = self.entries.iter().filter(|(_, place)| place.pack == number);
        let mut entries: Vec<_> = entries.map(|(id, place)| (*id, *place)).collect();
        entries.sort_unstable_by_key(|(_, place)| place.offset);
        entries
    }

    /// All entries.
    pub(super) fn all(&self) -> impl Iterator<Item = (BlobId, Place)> + '_ {
        self.entries.iter().map(|(id, place)| (*id, *place))
    }

    /// Why something that was put is gone, once.
    pub(super) fn take_lost(&mut self) -> Result<(), WriteBlobError> {
        self.lost.take().map_or(Ok(()), |lost| Err(WriteBlobError::Objects(lost)))
    }
}
