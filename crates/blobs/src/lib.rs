//! Content-addressed storage of bytes that are too large for the journal's rows: large event
//! bodies, whole outputs of calls, files of snapshots.
//!
//! Bytes go in through [`BlobStore::put`], [`BlobStore::put_file`] or a [`BlobWriter`] and are
//! named by their keyed BLAKE3 hash, so equal bytes are kept once and nobody without the key can
//! tell from a name what is stored. [`BlobStore::sync`] makes everything durable that was put
//! before; only then may an event refer to it. [`BlobStore::get`] checks the hash on the way out.
//!
//! [`FolderBlobs`] keeps blobs in a folder; [`conformance`] is what every store has to pass.
//!
//! This crate must not know what is stored, who refers to it, or when it may be deleted.

pub mod conformance;
mod error;
mod folder;
mod store;

pub use error::{ReadBlobError, WriteBlobError};
pub use folder::FolderBlobs;
pub use store::{BlobStore, BlobWriter};
