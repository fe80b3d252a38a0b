//! The stored format of folders and roots. There is one way to write each, so that equal trees
//! have equal ids; a reader refuses every other.
//!
//! ```text
//! root    "moat-snapshot" version(1)  count:u8   { name meta id }*
//! folder  "moat-folder"   version(1)  count:u32  { name kind:u8 meta payload }*
//!
//! name    length:u16 bytes                    in byte order
//! meta    mode:u16 uid:u32 gid:u32 mtime:i64  count:u16 { length:u16 name length:u32 value }*
//! payload 0 file     size:u64 content:32 linked:u8 [group:16]
//!         1 folder   id:32
//!         2 symlink  length:u16 target
//! ```
//!
//! Numbers are little-endian; times are nanoseconds since the Unix epoch. A later version adds a
//! version number, never another meaning to this one.

mod decode;
mod encode;

pub(crate) use decode::{FolderEntry, decode_folder, decode_root};
pub(crate) use encode::{FolderNode, encode_root};

const ROOT_MAGIC: &[u8] = b"moat-snapshot";
const FOLDER_MAGIC: &[u8] = b"moat-folder";
const VERSION: u8 = 1;

const KIND_FILE: u8 = 0;
const KIND_DIR: u8 = 1;
const KIND_SYMLINK: u8 = 2;

/// Bytes of the largest folder that is read.
pub(crate) const MAX_FOLDER_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes of the largest root that is read.
pub(crate) const MAX_ROOT_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
