//! What is known of a sandbox's files, kept for a harness that comes back: without it every file
//! would be read again.
//!
//! ```text
//! sealed( "moat-files" version(1)  count:u32 { root:u8 length:u16 path size:u64 mtime:i64
//!                                              ctime:i64 inode:u64 unsettled:u8 content:32 }* )
//! ```
//!
//! It is bound to one boot of one guest: inodes and times of another one mean nothing. A lost or
//! stale file costs time only, since every entry says under which facts it is true.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use moat_core::{BlobId, BootNonce, SealingKey};

use super::{Facts, Memory, Seen};
use crate::Root;

const MAGIC: &[u8] = b"moat-files\x01";
/// Bytes of the largest file that is read.
const MOST_BYTES: u64 = 1 << 30;

impl Memory {
    /// All that is known, as it is stored.
    pub(in super::super) fn encode(&self) -> Vec<u8> {
        let count = self.workspace.len() + self.home.len();
        let mut bytes = MAGIC.to_vec();
        bytes.extend((count as u32).to_le_bytes());
        for (root, files) in [(0, &self.workspace), (1, &self.home)] {
            for (path, seen) in files {
                let path = path.as_os_str().as_bytes();
                bytes.push(root);
                bytes.extend((path.len() as u16).to_le_bytes());
                bytes.extend(path);
                let Facts { size, mtime_ns, ctime_ns, inode } = seen.facts;
                bytes.extend(size.to_le_bytes());
                bytes.extend(mtime_ns.to_le_bytes());
                bytes.extend(ctime_ns.to_le_bytes());
                bytes.extend(inode.to_le_bytes());
                bytes.push(u8::from(seen.unsettled));
                bytes.extend(seen.content.0);
            }
        }
        bytes
    }

    /// What was known; `None`: the bytes are not that.
    pub(in super::super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let count = u32::from_le_bytes(take(&mut rest)?);
        let mut memory = Self::default();
        for _ in 0..count {
            let root = match take(&mut rest)? {
                [0] => Root::Workspace,
                [1] => Root::Home,
                _ => return None,
            };
            let length = u16::from_le_bytes(take(&mut rest)?);
            let (path, after) = rest.split_at_checked(length.into())?;
            rest = after;
            let path = PathBuf::from(OsString::from_vec(path.to_vec()));
            let facts = Facts {
                size: u64::from_le_bytes(take(&mut rest)?),
                mtime_ns: i64::from_le_bytes(take(&mut rest)?),
                ctime_ns: i64::from_le_bytes(take(&mut rest)?),
                inode: u64::from_le_bytes(take(&mut rest)?),
            };
            let unsettled = take(&mut rest)? != [0];
            let content = BlobId(take(&mut rest)?);
            memory.root(root).insert(path, Seen { facts, content, unsettled, current: false });
        }
        rest.is_empty().then_some(memory)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*first)
}

/// Reads what an earlier harness knew of this boot's files; `None`: nothing that can be used.
pub(in super::super) fn read(path: &Path, key: &SealingKey, boot: &BootNonce) -> Option<Memory> {
    let mut sealed = Vec::new();
    fs::File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut sealed).ok()?;
    Memory::decode(&key.open(boot.0.as_bytes(), &sealed)?)
}

/// Best effort: whoever does not find it reads the files again.
pub(in super::super) fn write(path: &Path, key: &SealingKey, boot: &BootNonce, memory: &[u8]) {
    let written = || -> std::io::Result<()> {
        let sealed = key.seal(&[], boot.0.as_bytes(), memory).map_err(std::io::Error::other)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&sealed)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    let _ = written();
}
