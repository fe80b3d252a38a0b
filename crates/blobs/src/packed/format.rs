//! The stored format of packs and of recipes.
//!
//! ```text
//! pack    "moat-pack" version(1) sealed:u8  stored*  table  mac:32  length-of-table:u32
//! table   count:u32 { id:32 kind:u8 offset:u32 stored:u32 raw:u32 }*      in the order of offsets
//! stored  the raw bytes or a zstd frame of them; sealed: nonce:24 text tag:16
//! kind    1 raw   2 zstd   3 recipe, raw   4 recipe, zstd
//! recipe  mac:32 { id:32 size:u64 }*        of all zeroes the id stands for a run of zero bytes
//! ```
//!
//! Numbers are little-endian. A table is never larger than [`MAX_TABLE`]. Its `mac` is keyed and
//! covers the pack's name and the table as it is stored, so no table is taken for that of another
//! pack, and one that was cut or changed is found. What is sealed is bound to its id and kind.

use moat_core::{BlobId, SealingKey};

use super::Keys;

mod contexts;

pub(super) const MAGIC: &[u8] = b"moat-pack";
pub(super) const VERSION: u8 = 1;
/// Bytes in front of what is stored.
pub(super) const HEAD: usize = MAGIC.len() + 2;
/// Bytes behind a table: its mac and its length.
pub(super) const FOOT: usize = 32 + 4;
/// Bytes of one row of a table.
const ROW: usize = 32 + 1 + 4 + 4 + 4;
/// Bytes of the largest table.
pub(super) const MAX_TABLE: usize = 16 << 20;
/// Rows that one pack has at most.
pub(super) const MAX_ROWS: usize = 64 << 10;
/// Bytes of one entry before it is compressed, at most.
pub(super) const MAX_RAW: usize = 16 << 20;

/// What an entry of a pack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// It says of which chunks a content consists, instead of being one.
    pub(super) recipe: bool,
    pub(super) compressed: bool,
}

impl Kind {
    fn byte(self) -> u8 {
        1 + u8::from(self.compressed) + 2 * u8::from(self.recipe)
    }

    fn of(byte: u8) -> Option<Self> {
        let number = byte.checked_sub(1).filter(|number| *number < 4)?;
        Some(Self { recipe: number & 2 != 0, compressed: number & 1 != 0 })
    }
}

/// A row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: BlobId,
    pub(super) kind: Kind,
    pub(super) offset: u32,
    /// Bytes in the pack.
    pub(super) stored: u32,
    /// Bytes once decompressed.
    pub(super) raw: u32,
}

/// A pack's bytes are not a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormatError {
    #[error("it is not a pack of this tenant, or its table is damaged or cut off")]
    Damaged,
    #[error("its format is version {0}, which needs a newer Moat")]
    Newer(u8),
}

/// Turns bytes into what a pack holds of them.
pub(super) fn encode_entry(
    keys: &Keys,
    id: BlobId,
    recipe: bool,
    raw: &[u8],
) -> std::io::Result<(Kind, Vec<u8>)> {
    let packed = contexts::compress(raw)?;
    // Decompressing costs time: only where it is worth it.
    let compressed = packed.len() + packed.len() / 32 < raw.len();
    let kind = Kind { recipe, compressed };
    let plain = if compressed { packed } else { raw.to_vec() };
    let stored = match &keys.sealing {
        None => plain,
        Some(key) => key.seal(&[], &aad(id, kind), &plain).map_err(std::io::Error::other)?,
    };
    Ok((kind, stored))
}

/// The bytes that an entry was made of; `None`: they are damaged.
pub(super) fn decode_entry(keys: &Keys, row: &Row, stored: &[u8]) -> Option<Vec<u8>> {
    let raw = row.raw as usize;
    if raw > MAX_RAW || stored.len() != row.stored as usize {
        return None;
    }
    let opened;
    let plain = match &keys.sealing {
        None => stored,
        Some(key) => {
            opened = key.open(&aad(row.id, row.kind), stored)?;
            opened.as_slice()
        }
    };
    let bytes =
        if row.kind.compressed { contexts::decompress(plain, raw).ok()? } else { plain.to_vec() };
    (bytes.len() == raw).then_some(bytes)
}

fn aad(id: BlobId, kind: Kind) -> [u8; 33] {
    let mut aad = [0; 33];
    if let Some((first, rest)) = aad.split_first_mut() {
        *first = kind.byte();
        rest.copy_from_slice(&id.0);
    }
    aad
}

pub(super) fn begin(pack: &mut Vec<u8>, sealed: bool) {
    pack.extend(MAGIC);
    pack.push(VERSION);
    pack.push(u8::from(sealed));
}

/// Appends table, mac and length to what a pack holds so far.
pub(super) fn finish(
    keys: &Keys,
    name: &str,
    pack: &mut Vec<u8>,
    rows: &[Row],
) -> std::io::Result<()> {
    let mut table = Vec::with_capacity(4 + rows.len() * ROW);
    table.extend((rows.len() as u32).to_le_bytes());
    for row in rows {
        table.extend(row.id.0);
        table.push(row.kind.byte());
        table.extend(row.offset.to_le_bytes());
        table.extend(row.stored.to_le_bytes());
        table.extend(row.raw.to_le_bytes());
    }
    if let Some(key) = &keys.sealing {
        table = key.seal(&[], name.as_bytes(), &table).map_err(std::io::Error::other)?;
    }
    let mac = table_mac(keys, name, &table);
    pack.extend_from_slice(&table);
    pack.extend_from_slice(mac.as_bytes());
    pack.extend((table.len() as u32).to_le_bytes());
    Ok(())
}

/// Bytes of a pack beside what is stored in it.
pub(super) fn size_around(rows: usize, sealed: bool) -> u64 {
    let sealing = if sealed { SealingKey::OVERHEAD } else { 0 };
    (HEAD + 4 + rows * ROW + sealing + FOOT) as u64
}

fn table_mac(keys: &Keys, name: &str, table: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(&keys.tables);
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(table);
    hasher.finalize()
}

/// How many bytes before the end of a pack its table begins, by its last bytes.
pub(super) fn table_length(tail: &[u8]) -> Result<usize, FormatError> {
    let (_, length) = tail.split_last_chunk::<4>().ok_or(FormatError::Damaged)?;
    let length = u32::from_le_bytes(*length) as usize;
    let sealed = MAX_TABLE + SealingKey::OVERHEAD;
    if length > sealed { Err(FormatError::Damaged) } else { Ok(length + FOOT) }
}

/// Reads a table. `tail` are the last bytes of the pack, from the table on.
pub(super) fn read_table(
    keys: &Keys,
    name: &str,
    size: u64,
    tail: &[u8],
) -> Result<Vec<Row>, FormatError> {
    let damaged = FormatError::Damaged;
    let length = tail.len().checked_sub(FOOT).ok_or(damaged)?;
    let (table, foot) = tail.split_at_checked(length).ok_or(damaged)?;
    let mac: [u8; 32] = *foot.first_chunk().ok_or(damaged)?;
    if table_mac(keys, name, table) != blake3::Hash::from_bytes(mac) {
        return Err(damaged);
    }
    let opened;
    let table = match &keys.sealing {
        None => table,
        Some(key) => {
            opened = key.open(name.as_bytes(), table).ok_or(damaged)?;
            opened.as_slice()
        }
    };
    let end = size.checked_sub(tail.len() as u64).ok_or(damaged)?;
    rows(table, end).ok_or(damaged)
}

/// The rows of a table whose entries end before `end`.
fn rows(table: &[u8], end: u64) -> Option<Vec<Row>> {
    let (count, mut rest) = table.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    if count > MAX_ROWS || rest.len() != count * ROW {
        return None;
    }
    let mut rows = Vec::with_capacity(count);
    while !rest.is_empty() {
        let row = take_row(&mut rest)?;
        let ends = u64::from(row.offset) + u64::from(row.stored);
        if (row.offset as usize) < HEAD || ends > end || row.raw as usize > MAX_RAW {
            return None;
        }
        rows.push(row);
    }
    Some(rows)
}

fn take_row(rest: &mut &[u8]) -> Option<Row> {
    let (id, after) = rest.split_first_chunk::<32>()?;
    let (kind, after) = after.split_first()?;
    let (offset, after) = after.split_first_chunk::<4>()?;
    let (stored, after) = after.split_first_chunk::<4>()?;
    let (raw, after) = after.split_first_chunk::<4>()?;
    *rest = after;
    Some(Row {
        id: BlobId(*id),
        kind: Kind::of(*kind)?,
        offset: u32::from_le_bytes(*offset),
        stored: u32::from_le_bytes(*stored),
        raw: u32::from_le_bytes(*raw),
    })
}

/// A pack's first bytes are those of one that this version reads.
pub(super) fn check_head(keys: &Keys, head: &[u8]) -> Result<(), FormatError> {
    match head.strip_prefix(MAGIC) {
        Some([VERSION, sealed, ..]) if (*sealed == 1) == keys.sealing.is_some() => Ok(()),
        Some([VERSION, ..]) | None => Err(FormatError::Damaged),
        Some([newer, ..]) => Err(FormatError::Newer(*newer)),
        Some([]) => Err(FormatError::Damaged),
    }
}

#[cfg(test)]
mod tests;
