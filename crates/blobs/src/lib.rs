//! Content-addressed storage of bytes that are too large for the journal's rows: large event
//! bodies, whole outputs of calls, files of snapshots.
//!
//! Bytes go in through [`BlobStore::put`], [`BlobStore::put_file`] or a [`BlobWriter`] and are
//! named by their keyed BLAKE3 hash, so equal bytes are kept once and nobody without the key can
//! tell from a name what is stored. [`BlobStore::sync`] makes everything durable that was put
//! before; only then may an event refer to it. [`BlobStore::get`] checks the hash on the way out.
//!
//! [`FolderBlobs`] keeps each blob in a file of its own: what comes and goes one by one. In
//! [`PackedBlobs`] contents are cut where they say so, compressed, perhaps sealed, and put together
//! into packs, which are [`Objects`] of a folder or of an object store: what is kept in many similar
//! versions. [`conformance`] is what every store has to pass.
//!
//! This crate must not know what is stored, who refers to it, or when it may be deleted.

mod blocking;
pub mod conformance;
mod error;
mod folder;
mod objects;
mod packed;
mod store;

pub(crate) use blocking::blocking;
pub use error::{ReadBlobError, WriteBlobError};
pub use folder::FolderBlobs;
#[cfg(feature = "buckets")]
pub use objects::{CloudObjects, CloudOptions};
pub use objects::{FolderObjects, KeptObjects, Lease, ListedObject, ObjectError, Objects};
pub use packed::{CollectOptions, Collected, PackDamage, PackUsage, PackedBlobs, PackedOptions};
pub use store::{BlobStore, BlobWriter};
