use std::collections::BTreeMap;

use crate::MAX_PATH;

/// Extended attributes by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Bytes of names and values of extended attributes that one path may have.
pub const MAX_XATTRS: usize = 256 << 10;

/// Bytes of content that an apply record may carry itself.
pub const MAX_INLINE: usize = 1 << 20;

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A pipe, socket or device.
    Other,
}

/// One path of a listing. See `PROTOCOL.md` for its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatRecord {
    /// Relative to the root; empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: StatKind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// Nanoseconds since the Unix epoch.
    pub ctime_ns: i64,
    /// Its number in its file system.
    pub inode: u64,
    /// Names that it has.
    pub links: u64,
    /// Its `user.*` attributes.
    pub xattrs: Xattrs,
}

/// What an [`ApplyRecord`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyKind {
    /// A folder.
    Dir,
    /// A file of that many bytes, whose content is here or follows.
    File(u64, Option<Vec<u8>>),
    /// A symbolic link with that target.
    Symlink(Vec<u8>),
    /// Another name of the file at that path.
    Hardlink(Vec<u8>),
}

/// A path that is to be as said. See `PROTOCOL.md` for its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyRecord {
    /// Relative to the root.
    pub path: Vec<u8>,
    /// What it is to be.
    pub kind: ApplyKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// Bytes are no record: cut off, over a limit, or of an unknown kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordError;

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a listing holds a record that cannot be read")
    }
}

impl std::error::Error for RecordError {}

impl StatRecord {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.path);
        let (tag, target) = match &self.kind {
            StatKind::File => (0, None),
            StatKind::Dir => (1, None),
            StatKind::Symlink(target) => (2, Some(target)),
            StatKind::Other => (3, None),
        };
        out.push(tag);
        if let Some(target) = target {
            put_bytes(out, target);
        }
        put_u32(out, self.mode);
        put_u32(out, self.uid);
        put_u32(out, self.gid);
        put_u64(out, self.size);
        put_i64(out, self.mtime_ns);
        put_i64(out, self.ctime_ns);
        put_u64(out, self.inode);
        put_u64(out, self.links);
        put_xattrs(out, &self.xattrs);
    }

    /// Takes one record from the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, RecordError> {
        Ok(Self {
            path: take_bytes(bytes, MAX_PATH)?,
            kind: match take::<1>(bytes)? {
                [0] => StatKind::File,
                [1] => StatKind::Dir,
                [2] => StatKind::Symlink(take_bytes(bytes, MAX_PATH)?),
                [3] => StatKind::Other,
                _ => return Err(RecordError),
            },
            mode: take_u32(bytes)?,
            uid: take_u32(bytes)?,
            gid: take_u32(bytes)?,
            size: take_u64(bytes)?,
            mtime_ns: take_i64(bytes)?,
            ctime_ns: take_i64(bytes)?,
            inode: take_u64(bytes)?,
            links: take_u64(bytes)?,
            xattrs: take_xattrs(bytes)?,
        })
    }
}

impl ApplyRecord {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.path);
        match &self.kind {
            ApplyKind::Dir => out.push(0),
            ApplyKind::File(size, None) => {
                out.push(1);
                put_u64(out, *size);
            }
            ApplyKind::File(size, Some(content)) => {
                out.push(2);
                put_u64(out, *size);
                put_bytes(out, content);
            }
            ApplyKind::Symlink(target) => {
                out.push(3);
                put_bytes(out, target);
            }
            ApplyKind::Hardlink(target) => {
                out.push(4);
                put_bytes(out, target);
            }
        }
        put_u32(out, self.mode);
        put_u32(out, self.uid);
        put_u32(out, self.gid);
        put_i64(out, self.mtime_ns);
        put_xattrs(out, &self.xattrs);
    }

    /// Takes one record from the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, RecordError> {
        Ok(Self {
            path: take_bytes(bytes, MAX_PATH)?,
            kind: match take::<1>(bytes)? {
                [0] => ApplyKind::Dir,
                [1] => ApplyKind::File(take_u64(bytes)?, None),
                [2] => ApplyKind::File(take_u64(bytes)?, Some(take_bytes(bytes, MAX_INLINE)?)),
                [3] => ApplyKind::Symlink(take_bytes(bytes, MAX_PATH)?),
                [4] => ApplyKind::Hardlink(take_bytes(bytes, MAX_PATH)?),
                _ => return Err(RecordError),
            },
            mode: take_u32(bytes)?,
            uid: take_u32(bytes)?,
            gid: take_u32(bytes)?,
            mtime_ns: take_i64(bytes)?,
            xattrs: take_xattrs(bytes)?,
        })
    }
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // Whatever is put here is far below 4 GiB: the limits above are checked by whoever makes it.
    put_u32(out, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(bytes);
}

fn put_xattrs(out: &mut Vec<u8>, xattrs: &Xattrs) {
    put_u32(out, u32::try_from(xattrs.len()).unwrap_or(u32::MAX));
    for (name, value) in xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], RecordError> {
    let (first, rest) = bytes.split_first_chunk::<N>().ok_or(RecordError)?;
    *bytes = rest;
    Ok(*first)
}

fn take_u32(bytes: &mut &[u8]) -> Result<u32, RecordError> {
    take(bytes).map(u32::from_le_bytes)
}

fn take_u64(bytes: &mut &[u8]) -> Result<u64, RecordError> {
    take(bytes).map(u64::from_le_bytes)
}

fn take_i64(bytes: &mut &[u8]) -> Result<i64, RecordError> {
    take(bytes).map(i64::from_le_bytes)
}

fn take_bytes(bytes: &mut &[u8], limit: usize) -> Result<Vec<u8>, RecordError> {
    let length = take_u32(bytes)? as usize;
    if length > limit {
        return Err(RecordError);
    }
    let (first, rest) = bytes.split_at_checked(length).ok_or(RecordError)?;
    *bytes = rest;
    Ok(first.to_vec())
}

fn take_xattrs(bytes: &mut &[u8]) -> Result<Xattrs, RecordError> {
    let count = take_u32(bytes)?;
    let mut xattrs = Xattrs::new();
    let mut total = 0;
    for _ in 0..count {
        let name = take_bytes(bytes, MAX_XATTRS)?;
        let value = take_bytes(bytes, MAX_XATTRS)?;
        total += name.len() + value.len();
        // Names count at least one byte each, so a count of millions ends at the limit too.
        if name.is_empty() || total > MAX_XATTRS {
            return Err(RecordError);
        }
        xattrs.insert(name, value);
    }
    Ok(xattrs)
}
