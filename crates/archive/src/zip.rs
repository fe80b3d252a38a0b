//! Zip archives, read by their central directory and believed only where the rest agrees with it.
//!
//! What other readers disagree about is refused: a member whose own header, or what stands behind its
//! content, says something else (name, method, sizes, check sum), members with two names or two
//! sizes, two directories, contents that overlap, encrypted members, methods other than stored and
//! deflated, archives in several parts. A content has to have the length and the check sum that the
//! directory says.

mod content;
mod own;
mod record;

use std::io::{Read, Seek, SeekFrom};

use crate::error::ArchiveError;
use crate::survey::{Found, FoundKind};

pub(crate) use content::ZipContent;
use record::{Record, at, dos_time};

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;

/// Bytes of the record at the end, without its comment.
const END_BYTES: usize = 22;
/// Bytes of the longest comment.
const MAX_COMMENT: usize = 65_535;
/// Bytes of the largest central directory that is taken into memory.
const MAX_DIRECTORY: u64 = 256 << 20;
/// Bytes of an entry of it, and of a member's own header, without names and extras.
const CENTRAL_BYTES: usize = 46;
const LOCAL_BYTES: usize = 30;
/// What stands for a number that does not fit into 32 bits.
const LARGE: u64 = 0xffff_ffff;
/// The bits of encrypted members.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
/// An extra field with sizes of 64 bits, and one with another name.
const WIDE: u64 = 1;
const OTHER_NAME: u64 = 0x7075;
/// Bytes of the longest target of a link.
const MAX_TARGET: u64 = 4096;

/// The bits of a mode that say what something is, and what they say.
const KIND: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// A member, as the central directory has it.
#[derive(Clone, Debug)]
pub(crate) struct ZipEntry {
    name: Vec<u8>,
    unix_mode: u32,
    flags: u16,
    method: u16,
    crc: u32,
    stored: u64,
    size: u64,
    header: u64,
    /// Where the next member begins, or the directory.
    limit: u64,
    modified: i64,
}

/// Whether the source begins as a zip archive does, or as an empty one.
pub(crate) fn is_zip(source: &mut (impl Read + Seek)) -> Result<bool, ArchiveError> {
    source.seek(SeekFrom::Start(0)).map_err(ArchiveError::Read)?;
    let mut magic = Vec::new();
    source.take(4).read_to_end(&mut magic).map_err(ArchiveError::Read)?;
    source.seek(SeekFrom::Start(0)).map_err(ArchiveError::Read)?;
    Ok(magic == LOCAL.to_le_bytes() || magic == END.to_le_bytes())
}

/// The central directory of an archive of `size` bytes.
pub(crate) fn directory(
    source: &mut (impl Read + Seek),
    size: u64,
) -> Result<Vec<ZipEntry>, ArchiveError> {
    let end = End::find(source, size)?;
    if end.size > MAX_DIRECTORY || end.offset.saturating_add(end.size) > end.begin {
        return Err(corrupt("its directory does not lie where it says"));
    }
    let bytes = read_at(source, end.offset, end.size)?;
    let mut rest = &*bytes;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (entry, after) = ZipEntry::parse(rest)?;
        entries.push(entry);
        rest = after;
    }
    if entries.len() as u64 != end.entries {
        return Err(corrupt("its directory has another number of members than it says"));
    }
    check_overlaps(&mut entries, end.offset)?;
    Ok(entries)
}

/// Two members that share bytes make small archives large. How long a member's own header is, is
/// found out when its content is read.
fn check_overlaps(entries: &mut [ZipEntry], directory: u64) -> Result<(), ArchiveError> {
    let mut places: Vec<_> = entries.iter_mut().collect();
    places.sort_by_key(|entry| entry.header);
    let mut free = 0;
    for entry in &places {
        let needed = (LOCAL_BYTES + entry.name.len()) as u64;
        let end = entry.header.saturating_add(needed).saturating_add(entry.stored);
        if entry.header < free || end > directory {
            return Err(entry.corrupt("it shares its bytes with something else"));
        }
        free = end;
    }
    let mut limit = directory;
    for entry in places.into_iter().rev() {
        entry.limit = std::mem::replace(&mut limit, entry.header);
    }
    Ok(())
}

/// Where the central directory is.
struct End {
    entries: u64,
    size: u64,
    offset: u64,
    /// Where the records at the end begin.
    begin: u64,
}

impl End {
    fn find(source: &mut (impl Read + Seek), size: u64) -> Result<Self, ArchiveError> {
        let length = size.min((END_BYTES + MAX_COMMENT) as u64);
        let start = size - length;
        let tail = read_at(source, start, length)?;
        // The last one whose comment reaches to the end, so that no comment can pose as it.
        let place = (0..=tail.len().saturating_sub(END_BYTES)).rev().find(|place| {
            let record = tail.get(*place..).unwrap_or_default();
            let comment = at(record, 20, 2).map(|length| length as usize);
            at(record, 0, 4) == Some(END.into())
                && comment.is_some_and(|length| length + END_BYTES == record.len())
        });
        let place = place.ok_or_else(|| corrupt("it is no zip archive, or its end is missing"))?;
        let record = Record::new(tail.get(place..).unwrap_or_default());
        let begin = start + place as u64;
        let (disk, first) = (record.number(4, 2)?, record.number(6, 2)?);
        let (here, entries) = (record.number(8, 2)?, record.number(10, 2)?);
        let (size, offset) = (record.number(12, 4)?, record.number(16, 4)?);
        if let Some(wide) = Self::find_64(source, begin)? {
            // Some readers look for it always, others only where a number does not fit.
            let agrees = |narrow: u64, largest: u64, wide| narrow == largest || narrow == wide;
            let agree = agrees(entries, 0xffff, wide.entries)
                && agrees(size, 0xffff_ffff, wide.size)
                && agrees(offset, 0xffff_ffff, wide.offset);
            return if agree { Ok(wide) } else { Err(corrupt("it has two directories")) };
        }
        if size == 0xffff_ffff || offset == 0xffff_ffff {
            return Err(corrupt("its 64-bit directory is missing"));
        }
        if disk != 0 || first != 0 || here != entries {
            return Err(corrupt("it is one of several parts"));
        }
        Ok(Self { entries, size, offset, begin })
    }

    /// The one of 64 bits, if there is one.
    fn find_64(source: &mut (impl Read + Seek), end: u64) -> Result<Option<Self>, ArchiveError> {
        let missing = || corrupt("its 64-bit directory is missing");
        let Some(place) = end.checked_sub(20) else { return Ok(None) };
        let locator = read_at(source, place, 20)?;
        let locator = Record::new(&locator);
        if locator.number(0, 4)? != u64::from(LOCATOR_64) {
            return Ok(None);
        }
        let begin = locator.number(8, 8)?;
        if begin.saturating_add(76) > end {
            return Err(missing());
        }
        let record = read_at(source, begin, 56)?;
        let record = Record::new(&record);
        let (here, entries) = (record.number(24, 8)?, record.number(32, 8)?);
        if record.number(0, 4)? != u64::from(END_64)
            || record.number(16, 8)? != 0
            || here != entries
        {
            return Err(missing());
        }
        let (size, offset) = (record.number(40, 8)?, record.number(48, 8)?);
        Ok(Some(Self { entries, size, offset, begin }))
    }
}

impl ZipEntry {
    fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), ArchiveError> {
        let record = Record::new(bytes);
        if record.number(0, 4)? != u64::from(CENTRAL) {
            return Err(corrupt("its directory does not make sense"));
        }
        let short = |start| record.number(start, 2).map(|number| number as usize);
        let (name, extra, comment) = (short(28)?, short(30)?, short(32)?);
        let end = CENTRAL_BYTES + name + extra + comment;
        let (whole, rest) = bytes
            .split_at_checked(end)
            .ok_or_else(|| corrupt("its directory ends within a member"))?;
        let part = |start, length| whole.get(start..start + length).unwrap_or_default();
        let made_by_unix = matches!(record.number(5, 1)?, 3 | 19);
        let attributes = record.number(38, 4)? as u32;
        // Many readers look at the kind whoever made it; of links and devices nothing is a file.
        let is_special = !matches!(attributes >> 16 & KIND, 0 | FOLDER | FILE);
        let mut entry = Self {
            name: part(CENTRAL_BYTES, name).to_vec(),
            unix_mode: if made_by_unix || is_special { attributes >> 16 } else { 0 },
            flags: record.number(8, 2)? as u16,
            method: record.number(10, 2)? as u16,
            crc: record.number(16, 4)? as u32,
            stored: record.number(20, 4)?,
            size: record.number(24, 4)?,
            header: record.number(42, 4)?,
            limit: 0,
            modified: dos_time(record.number(12, 2)? as u32, record.number(14, 2)? as u32),
        };
        entry.read_extra(part(CENTRAL_BYTES + name, extra))?;
        entry.check()?;
        Ok((entry, rest))
    }

    /// Numbers that do not fit into 32 bits stand in an extra field, in a fixed order.
    fn read_extra(&mut self, extra: &[u8]) -> Result<(), ArchiveError> {
        let (mut size, mut stored, mut header) = (self.size, self.stored, self.header);
        self.each_extra(extra, |field| {
            let numbers = [&mut size, &mut stored, &mut header];
            let large = numbers.into_iter().filter(|number| **number == LARGE);
            for (index, number) in large.enumerate() {
                *number = at(field, index * 8, 8)?;
            }
            Some(())
        })?;
        (self.size, self.stored, self.header) = (size, stored, header);
        Ok(())
    }

    /// Looks at extra fields, and hands out the one with sizes of 64 bits. What takes it answers
    /// `None` if it is too short.
    fn each_extra(
        &self,
        mut extra: &[u8],
        mut wide: impl FnMut(&[u8]) -> Option<()>,
    ) -> Result<(), ArchiveError> {
        let mut has_numbers = false;
        while let (Some(kind), Some(length)) = (at(extra, 0, 2), at(extra, 2, 2)) {
            let field = extra.get(4..4 + length as usize);
            let field = field.ok_or_else(|| self.corrupt("its extra fields do not make sense"))?;
            if kind == WIDE {
                if std::mem::replace(&mut has_numbers, true) {
                    return Err(self.corrupt("its 64-bit sizes are there twice"));
                }
                wide(field).ok_or_else(|| self.corrupt("its 64-bit sizes are missing"))?;
            }
            self.check_other_name(kind, field)?;
            extra = extra.get(4 + length as usize..).unwrap_or_default();
        }
        Ok(())
    }

    /// An extra field with a name that some readers take instead, if its sum is that of the name.
    fn check_other_name(&self, kind: u64, field: &[u8]) -> Result<(), ArchiveError> {
        let mut sum = flate2::Crc::new();
        sum.update(&self.name);
        let counts = kind == OTHER_NAME && at(field, 1, 4) == Some(sum.sum().into());
        if counts && field.get(5..) != Some(&*self.name) {
            return Err(self.corrupt("it has two names"));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ArchiveError> {
        if self.flags & ENCRYPTED != 0 {
            return Err(self.corrupt("it is encrypted, which is not read here"));
        }
        if !matches!(self.method, 0 | 8) {
            let reason = format!("it is compressed by method {}, not 0 or 8", self.method);
            return Err(ArchiveError::corrupt(&self.name, reason));
        }
        if self.method == 0 && self.stored != self.size {
            return Err(self.corrupt("it is stored and has two sizes"));
        }
        if self.name.is_empty() || self.name.contains(&0) {
            return Err(self.corrupt("its name is empty or has a zero byte"));
        }
        Ok(())
    }

    fn corrupt(&self, reason: &str) -> ArchiveError {
        ArchiveError::corrupt(&self.name, reason)
    }

    /// Checks what stands before and behind the content, which is not read.
    pub(crate) fn check_own(&self, source: &mut (impl Read + Seek)) -> Result<(), ArchiveError> {
        own::content_begins(self, source).map(drop)
    }

    pub(crate) fn is_link(&self) -> bool {
        self.unix_mode & KIND == LINK
    }

    /// Where a link leads: its content.
    pub(crate) fn target(&self, source: &mut (impl Read + Seek)) -> Result<Vec<u8>, ArchiveError> {
        if !(1..=MAX_TARGET).contains(&self.size) {
            return Err(self.corrupt("it is a link to nothing, or to too long a name"));
        }
        let mut content = self.content(source)?;
        let mut target = Vec::new();
        let read = content.read_to_end(&mut target);
        read.map_err(|error| self.corrupt(&error.to_string()))?;
        content.finish()?;
        if target.contains(&0) {
            return Err(self.corrupt("the name that it links to has a zero byte"));
        }
        Ok(target)
    }

    /// `target` is where it leads, if it is a link and links are taken.
    pub(crate) fn found<'a>(&'a self, target: &'a [u8]) -> Found<'a> {
        let kind = match self.unix_mode & KIND {
            LINK => FoundKind::Symlink(target),
            FOLDER => FoundKind::Folder,
            0 | FILE if self.name.ends_with(b"/") => FoundKind::Folder,
            0 | FILE => FoundKind::File(self.size),
            _ => FoundKind::Special,
        };
        let mode = if self.unix_mode == 0 { 0o644 } else { self.unix_mode };
        Found { name: &self.name, kind, mode: mode & 0o7777, mtime_ns: self.modified }
    }

    /// Its content, decompressed and bounded by what the directory says.
    pub(crate) fn content<'a, S: Read + Seek>(
        &self,
        source: &'a mut S,
    ) -> Result<ZipContent<'a, S>, ArchiveError> {
        let start = own::content_begins(self, source)?;
        source.seek(SeekFrom::Start(start)).map_err(ArchiveError::Read)?;
        Ok(ZipContent::new(source, self))
    }
}

fn read_at(
    source: &mut (impl Read + Seek),
    start: u64,
    length: u64,
) -> Result<Vec<u8>, ArchiveError> {
    source.seek(SeekFrom::Start(start)).map_err(ArchiveError::Read)?;
    let mut bytes = Vec::new();
    source.take(length).read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
    if bytes.len() as u64 == length {
        return Ok(bytes);
    }
    Err(corrupt("it ends too early"))
}

fn corrupt(reason: &str) -> ArchiveError {
    ArchiveError::corrupt(b"", reason)
}
