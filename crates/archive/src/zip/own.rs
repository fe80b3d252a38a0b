//! The header that stands before a member's content, and what may stand behind it. Readers of
//! streams believe these and never see the directory, so they have to say the same.

use std::io::{Read, Seek};

use super::record::{Record, at};
use super::{ENCRYPTED, LARGE, LOCAL, LOCAL_BYTES, ZipEntry, read_at};
use crate::error::ArchiveError;

/// The bit of a member whose sum and sizes stand behind its content, since nobody knew them before.
const IS_DESCRIBED: u64 = 1 << 3;
/// What that may begin with.
const DESCRIPTOR: u64 = 0x0807_4b50;
/// Bytes of the longest: a magic number, a sum and two sizes of 64 bits.
const DESCRIPTOR_BYTES: u64 = 24;

/// Where the content begins.
pub(super) fn content_begins(
    entry: &ZipEntry,
    source: &mut (impl Read + Seek),
) -> Result<u64, ArchiveError> {
    let fixed = read_at(source, entry.header, LOCAL_BYTES as u64)?;
    let record = Record::new(&fixed);
    if record.number(0, 4)? != u64::from(LOCAL) {
        return Err(entry.corrupt("its own header is missing"));
    }
    let (name, extra) = (record.number(26, 2)?, record.number(28, 2)?);
    let rest = read_at(source, entry.header + LOCAL_BYTES as u64, name + extra)?;
    let (own_name, fields) = rest.split_at_checked(name as usize).unwrap_or_default();
    let own = Own::parse(entry, &record, fields)?;
    if own_name != entry.name || !own.agrees(entry) {
        return Err(entry.corrupt("its own header says something else than the directory"));
    }
    let begin = entry.header + LOCAL_BYTES as u64 + name + extra;
    let end = begin.saturating_add(entry.stored);
    let Some(behind) = entry.limit.checked_sub(end) else {
        return Err(entry.corrupt("it shares its bytes with something else"));
    };
    if own.is_described {
        let bytes = read_at(source, end, behind.min(DESCRIPTOR_BYTES))?;
        if !describes(&bytes, entry) {
            return Err(entry.corrupt("what stands behind its content says something else"));
        }
    }
    Ok(begin)
}

/// What the header says that the directory says as well.
struct Own {
    flags: u64,
    method: u64,
    crc: u64,
    stored: u64,
    size: u64,
    is_described: bool,
}

impl Own {
    fn parse(entry: &ZipEntry, record: &Record<'_>, fields: &[u8]) -> Result<Self, ArchiveError> {
        let flags = record.number(6, 2)?;
        let mut own = Self {
            flags,
            method: record.number(8, 2)?,
            crc: record.number(14, 4)?,
            stored: record.number(18, 4)?,
            size: record.number(22, 4)?,
            is_described: flags & IS_DESCRIBED != 0,
        };
        entry.each_extra(fields, |field| {
            // Sizes that do not fit into 32 bits, or might not have.
            let large = [&mut own.size, &mut own.stored].into_iter().filter(|n| **n == LARGE);
            for (index, number) in large.enumerate() {
                *number = at(field, index * 8, 8)?;
            }
            Some(())
        })?;
        Ok(own)
    }

    fn agrees(&self, entry: &ZipEntry) -> bool {
        // What is said behind the content is left open here.
        let same = |own: u64, listed: u64| {
            own == listed || (self.is_described && matches!(own, 0 | LARGE))
        };
        self.flags & u64::from(ENCRYPTED) == 0
            && self.method == u64::from(entry.method)
            && same(self.crc, entry.crc.into())
            && same(self.stored, entry.stored)
            && same(self.size, entry.size)
    }
}

/// Whether these bytes begin with the member's sum and sizes: with or without a magic number, in 32
/// or 64 bits. Nothing says which.
fn describes(bytes: &[u8], entry: &ZipEntry) -> bool {
    let says = |bytes: &[u8], width: usize| {
        at(bytes, 0, 4) == Some(entry.crc.into())
            && at(bytes, 4, width) == Some(entry.stored)
            && at(bytes, 4 + width, width) == Some(entry.size)
    };
    let marked = bytes.get(4..).filter(|_| at(bytes, 0, 4) == Some(DESCRIPTOR));
    [Some(bytes), marked].into_iter().flatten().any(|bytes| says(bytes, 4) || says(bytes, 8))
}
