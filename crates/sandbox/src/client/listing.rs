//! Listings as they arrive, checked name by name.

use moat_guest::{StatKind, StatRecord};

use super::check::{Check, bounded, is_on};
use super::convert;
use crate::{GuestError, ScanEntry};

/// Paths that one listing may have.
const MAX_ENTRIES: usize = 4_000_000;

/// Bytes of this side's memory that one listing may take.
const MAX_MEMORY: usize = 1 << 30;

/// Bytes that an extended attribute takes beside its name and value: both are found on their own.
const XATTR: usize = 128;

/// Entries so far. Each has to come after the one before in the order of a walk, and be in a
/// folder that came before: so none comes twice and none leads anywhere else.
pub(super) struct Listing {
    entries: Vec<ScanEntry>,
    /// Bytes that the entries take.
    held: usize,
    last: Option<Vec<u8>>,
    /// Folders that hold what comes next, from the outside in.
    folders: Vec<Vec<u8>>,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Everything beneath a root, which comes first itself.
    Tree,
    /// What is in one folder.
    Folder,
}

impl Listing {
    pub(super) fn tree() -> Self {
        Self::new(Shape::Tree, Vec::new())
    }

    /// What is in a folder, whose path has no needless parts.
    pub(super) fn folder(path: Vec<u8>) -> Self {
        Self::new(Shape::Folder, vec![path])
    }

    fn new(shape: Shape, folders: Vec<Vec<u8>>) -> Self {
        Self { entries: Vec::new(), held: 0, last: None, folders, shape }
    }

    /// Takes the records of one message.
    pub(super) fn add(&mut self, mut records: &[u8]) -> Result<(), GuestError> {
        while !records.is_empty() {
            if is_on(Check::Entries) && self.entries.len() >= bounded(MAX_ENTRIES) {
                return Err(convert::broken("a listing has too many entries"));
            }
            let record = StatRecord::decode(&mut records).map_err(convert::broken)?;
            self.held = self.held.saturating_add(memory(&record));
            if is_on(Check::Memory) && self.held > bounded(MAX_MEMORY) {
                return Err(convert::broken("a listing has too many bytes"));
            }
            if is_on(Check::Paths) && !self.fits(&record) {
                let path = record.path.escape_ascii();
                return Err(convert::broken(format_args!("a listing has `{path}` out of place")));
            }
            self.entries.push(convert::entry(record));
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<ScanEntry> {
        self.entries
    }

    /// Whether a record may come now.
    fn fits(&mut self, record: &StatRecord) -> bool {
        let path = &record.path;
        if self.shape == Shape::Tree && self.last.is_none() {
            self.folders.push(Vec::new());
            self.last = Some(Vec::new());
            return path.is_empty() && record.kind == StatKind::Dir;
        }
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (path.get(..slash), path.get(slash + 1..)),
            None => (Some(&[][..]), Some(path.as_slice())),
        };
        let (Some(parent), Some(name)) = (parent, name) else { return false };
        // A path that begins with a slash would be taken for an absolute one.
        let absolute = path.starts_with(b"/");
        if absolute
            || !is_name(name)
            || self.last.as_ref().is_some_and(|last| !is_before(last, path))
        {
            return false;
        }
        if self.shape == Shape::Tree {
            while self.folders.last().is_some_and(|folder| folder.as_slice() != parent) {
                self.folders.pop();
            }
        }
        if self.folders.last().is_none_or(|folder| folder.as_slice() != parent) {
            return false;
        }
        if self.shape == Shape::Tree && record.kind == StatKind::Dir {
            self.folders.push(path.clone());
        }
        self.last = Some(path.clone());
        true
    }
}

/// Bytes that an entry takes, about.
fn memory(record: &StatRecord) -> usize {
    let target = match &record.kind {
        StatKind::Symlink(target) => target.len(),
        _ => 0,
    };
    let xattrs = record.xattrs.iter().map(|(name, value)| name.len() + value.len() + XATTR);
    size_of::<ScanEntry>() + record.path.len() + target + xattrs.sum::<usize>()
}

fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&0) && !name.contains(&b'/')
}

/// Whether a walk that takes names in byte order comes to `a` before `b`.
fn is_before(a: &[u8], b: &[u8]) -> bool {
    // The end of a name sorts before every byte that a name can hold.
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.iter().map(key).lt(b.iter().map(key))
}

#[cfg(test)]
mod tests;
