use std::collections::HashMap;
use std::path::{Path, PathBuf};

use moat_core::Hash;
use moat_sandbox::FileChange;

use super::plan::Plan;
use super::view::{FileSource, SourceError};

/// How much of a file is read at once, in bytes.
const READ_SIZE: u32 = 4 * 1024 * 1024;

/// The files that operations touched so far, in the order in which they were touched.
#[derive(Default)]
pub(super) struct Files {
    pub(super) slots: HashMap<PathBuf, Slot>,
    order: Vec<PathBuf>,
    pub(super) unlinked: Vec<PathBuf>,
    /// Bytes of content in `slots`.
    pub(super) held: u64,
}

/// One file before the patch and after the operations so far.
pub(super) struct Slot {
    pub(super) before: Option<Hash>,
    /// Its content before, if it was read.
    pub(super) original: Vec<u8>,
    /// Outer `None`: not changed yet; inner `None`: there is no file.
    pub(super) now: Option<Option<(Vec<u8>, u32)>>,
}

impl Files {
    pub(super) fn add(&mut self, path: PathBuf, slot: Slot) {
        self.held += slot.original.len() as u64;
        self.order.push(path.clone());
        self.slots.insert(path, slot);
    }

    /// The content of a file that was read or made.
    pub(super) fn now(&self, path: &Path) -> Option<&[u8]> {
        let slot = self.slots.get(path)?;
        match &slot.now {
            None => Some(&slot.original),
            Some(Some((content, _))) => Some(content),
            Some(None) => None,
        }
    }

    pub(super) fn set(&mut self, path: PathBuf, content: Option<(Vec<u8>, u32)>) {
        if !self.slots.contains_key(&path) {
            let slot = Slot { before: None, original: Vec::new(), now: None };
            self.add(path.clone(), slot);
        }
        let Some(slot) = self.slots.get_mut(&path) else { return };
        let size = |now: &Option<(Vec<u8>, u32)>| {
            now.as_ref().map_or(0, |(content, _)| content.len() as u64)
        };
        self.held += size(&content);
        self.held -= slot.now.as_ref().map_or(0, size);
        slot.now = Some(content);
    }

    pub(super) fn into_plan(mut self, output: String) -> Plan {
        let mut changes = Vec::new();
        for path in self.order {
            let Some(slot) = self.slots.remove(&path) else { continue };
            let Some(after) = slot.now else { continue };
            let is_same = match (&slot.before, &after) {
                (None, None) => true,
                (Some(_), Some((content, _))) => {
                    !slot.original.is_empty() && *content == slot.original
                }
                _ => false,
            };
            if !is_same {
                let after = after.map(|(content, mode)| (content, Some(mode)));
                changes.push(FileChange { path, before: slot.before, after });
            }
        }
        // A file may have to make room for a folder of the same name.
        changes.sort_by_key(|change| change.after.is_some());
        Plan { changes, unlinked: self.unlinked, output }
    }
}

pub(super) async fn hash_file(
    source: &dyn FileSource,
    path: &Path,
    size: u64,
) -> Result<Hash, SourceError> {
    let mut hasher = blake3::Hasher::new();
    read_file(source, path, size, |part| {
        hasher.update(&part);
    })
    .await?;
    Ok(Hash(*hasher.finalize().as_bytes()))
}

/// A whole file of at most [`super::MAX_FILE_BYTES`].
pub(super) async fn read_whole(
    source: &dyn FileSource,
    path: &Path,
    size: u64,
) -> Result<Vec<u8>, SourceError> {
    let mut content = Vec::new();
    read_file(source, path, size, |part| {
        // Most files come in one piece, which is not copied.
        if content.is_empty() {
            content = part;
        } else {
            content.extend(part);
        }
    })
    .await?;
    Ok(content)
}

/// Reads exactly `size` bytes. A source that gives more than it was asked for, or another size
/// than it said, is refused: the file changed, or the source lies.
async fn read_file(
    source: &dyn FileSource,
    path: &Path,
    size: u64,
    mut sink: impl FnMut(Vec<u8>) + Send,
) -> Result<(), SourceError> {
    let changed = || SourceError::Refused("the file changed while it was read; try again".into());
    let mut offset = 0;
    while offset < size {
        let wanted = u32::try_from(size - offset).unwrap_or(READ_SIZE).min(READ_SIZE);
        let part = source.read_at(path, offset, wanted).await?;
        if part.is_empty() || part.len() as u64 > u64::from(wanted) {
            return Err(changed());
        }
        offset += part.len() as u64;
        sink(part);
    }
    Ok(())
}
