//! Snapshots as one file, to be carried elsewhere.
//!
//! ```text
//! zstd(  "moat-archive" version(1)
//!        { 1 id:32 size:u64 bytes hash:32 }*      contents, each once
//!        { 2 id:32 size:u64 bytes hash:32 }*      folders
//!        { 3 id:32 size:u64 bytes hash:32 }+      roots: the snapshots
//!        0 hash:32                                of everything before            )
//! ```
//!
//! Ids are those of the tenant who exported, and tie roots, folders and contents together. `hash`
//! is BLAKE3 without a key, so that whoever has no key can check an archive as well. Importing
//! computes ids anew: under the same key they come out the same, under another one the same files
//! have other ids.

mod export;
mod import;
mod tar;

pub use import::{ImportLimits, Imported};

const MAGIC: &[u8] = b"moat-archive";
const VERSION: u8 = 1;

const END: u8 = 0;
const CONTENT: u8 = 1;
const FOLDER: u8 = 2;
const ROOT: u8 = 3;

/// Bytes that are moved at a time.
const CHUNK: usize = 1 << 20;

/// A snapshot could not be exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is no archive of snapshots.
    #[error("it is no archive of snapshots")]
    NotOne,
    /// It was written by a later version.
    #[error("its format is version {0}, which needs a newer Moat")]
    Newer(u8),
    /// It ends early, or bytes of it were changed.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It holds more than is allowed.
    #[error("it holds more than the {limit} bytes that are allowed")]
    TooLarge {
        /// What is allowed, in bytes.
        limit: u64,
    },
    /// A snapshot could not be read.
    #[error(transparent)]
    Load(#[from] crate::LoadError),
    /// A content could not be stored.
    #[error(transparent)]
    Put(#[from] crate::PutError),
    /// A snapshot could not be committed.
    #[error(transparent)]
    Commit(#[from] crate::CommitError),
    /// The archive could not be read or written.
    #[error("cannot read or write the archive: {0}")]
    Io(#[from] std::io::Error),
}

#[cfg(test)]
mod tests;
