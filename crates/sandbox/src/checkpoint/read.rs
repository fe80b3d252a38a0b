use std::collections::HashMap;
use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use moat_snapshot::{ContentWriter, Put};

use super::memory::{Facts, RootScan};
use super::{CheckpointError, Checkpointer};
use crate::{FileKind, GuestError, Root, ScanEntry};

/// Files that are read at a time: more are no quicker, and large ones take some MiB each.
const SIDE_BY_SIDE: usize = 3;
/// Files that are gone through before the next ones are looked at: each takes some thousand bytes.
const AT_A_TIME: usize = 1000;
/// Bytes that are asked for at a time; a file up to this size is held in memory whole.
const CHUNK: u32 = 1024 * 1024;
/// Bytes that an answer brings at least, taken over all before it: of two that follow each other one
/// brings all that was asked for, or a hole, and holes of less than twice this are sent as data.
const LEAST: u64 = 32 << 10;
/// How often a file is read that changes meanwhile.
const TRIES: u32 = 3;
/// New bytes that one checkpoint takes.
const MOST_BYTES: u64 = 64 << 30;

impl Checkpointer {
    /// Reads every file of a scan that is not known to be unchanged. Returns the bytes that the
    /// store did not have before.
    pub(super) async fn read_changed(
        &mut self,
        root: Root,
        scan: &RootScan,
    ) -> Result<u64, CheckpointError> {
        let groups = scan.groups();
        let mut changed = Vec::new();
        // Names of a file that is read under another name.
        let mut others: HashMap<u64, Vec<&ScanEntry>> = HashMap::new();
        for entry in scan.entries.iter().filter(|entry| entry.stat.kind == FileKind::File) {
            if self.memory.recall(root, &entry.path, Facts::of(&entry.stat)).is_some() {
                continue;
            }
            let is_linked = groups.get(&entry.stat.inode).copied().flatten().is_some();
            match others.get_mut(&entry.stat.inode) {
                Some(names) if is_linked => names.push(entry),
                _ => {
                    changed.push(entry);
                    if is_linked {
                        others.insert(entry.stat.inode, Vec::new());
                    }
                }
            }
        }
        check_total(&changed)?;

        let mut new_bytes = 0;
        for some in changed.chunks(AT_A_TIME) {
            let reads = some.iter().map(|entry| self.read_settled(root, entry));
            let reads: Vec<_> = stream::iter(reads.collect::<Vec<_>>())
                .buffer_unordered(SIDE_BY_SIDE)
                .try_collect()
                .await?;
            for (entry, put) in reads {
                let facts = Facts::of(&entry.stat);
                new_bytes += if put.new { put.size } else { 0 };
                for other in others.get(&entry.stat.inode).into_iter().flatten() {
                    self.memory.learn(root, other.path.clone(), facts, put.content);
                }
                self.memory.learn(root, entry.path.clone(), facts, put.content);
            }
        }
        Ok(new_bytes)
    }

    /// Reads a file that is after reading as it was before.
    async fn read_settled<'a>(
        &self,
        root: Root,
        entry: &'a ScanEntry,
    ) -> Result<(&'a ScanEntry, Put), CheckpointError> {
        for _ in 0..TRIES {
            let put = self.read(root, &entry.path, entry.stat.size).await?;
            let after = self.guest.stat(root, &entry.path).await?;
            let same = after.is_some_and(|after| Facts::of(&after) == Facts::of(&entry.stat));
            if let (Some(put), true) = (put, same) {
                return Ok((entry, put));
            }
        }
        Err(CheckpointError::Changing { path: entry.path.clone(), tries: TRIES })
    }

    /// Stores a file's content; `None`: it does not have that size.
    async fn read(
        &self,
        root: Root,
        path: &Path,
        size: u64,
    ) -> Result<Option<Put>, CheckpointError> {
        if size <= u64::from(CHUNK) {
            let bytes = self.read_part(root, path, 0, CHUNK).await?;
            let whole = bytes.len() as u64 == size;
            return Ok(if whole { Some(self.snapshots.put(bytes).await?) } else { None });
        }
        let mut writer = self.snapshots.writer().await?;
        let mut offset = 0;
        let mut answers: u64 = 0;
        while offset < size {
            // A guest that sends a byte at a time would be asked for ever.
            if answers.saturating_mul(LEAST) > offset.saturating_add(LEAST) {
                return Ok(None);
            }
            let data = self.guest.read_data(root, path, offset..size, CHUNK).await?;
            answers += 1;
            if data.hole == 0 && data.bytes.is_empty() {
                return Ok(None);
            }
            offset = offset.saturating_add(data.hole).saturating_add(data.bytes.len() as u64);
            if offset > size || data.bytes.len() > CHUNK as usize {
                return Err(sent_more(path));
            }
            write_zeroes(&mut writer, data.hole).await?;
            writer.write(data.bytes).await?;
        }
        Ok(Some(writer.finish().await?))
    }

    async fn read_part(
        &self,
        root: Root,
        path: &Path,
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, CheckpointError> {
        let bytes = self.guest.read_at(root, path, offset, length).await?;
        if bytes.len() as u64 > u64::from(length) {
            return Err(sent_more(path));
        }
        Ok(bytes)
    }
}

fn sent_more(path: &Path) -> CheckpointError {
    let problem = format!("it sent more than was asked of `{}`", path.display());
    GuestError::Protocol(problem).into()
}

/// A hole: its zeroes are hashed, and neither sent nor stored.
async fn write_zeroes(writer: &mut ContentWriter, mut count: u64) -> Result<(), CheckpointError> {
    while count > 0 {
        let some = count.min(u64::from(CHUNK));
        writer.write(vec![0; some as usize]).await?;
        count -= some;
    }
    Ok(())
}

fn check_total(changed: &[&ScanEntry]) -> Result<(), CheckpointError> {
    let bytes = changed.iter().fold(0, |sum: u64, entry| sum.saturating_add(entry.stat.size));
    match changed.iter().max_by_key(|entry| entry.stat.size) {
        Some(largest) if bytes > MOST_BYTES => Err(CheckpointError::TooLarge {
            bytes,
            limit: MOST_BYTES,
            largest: largest.path.clone(),
        }),
        _ => Ok(()),
    }
}
