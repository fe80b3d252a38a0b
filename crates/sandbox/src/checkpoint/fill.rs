//! Puts a snapshot's files into a sandbox.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use moat_core::{BlobId, SnapshotId};
use moat_snapshot::{Entry, LinkGroup, Listing, LoadError, Meta, Node, Snapshots};

use super::{Checkpointer, RestoreError};
use crate::{ApplyEntry, ApplyNode, Root};

/// Files up to this many bytes travel with the entry that makes them.
const INLINE: u64 = 256 * 1024;
/// Bytes of content in one batch of entries.
const BATCH_BYTES: u64 = 2 * 1024 * 1024;
/// Entries in one batch.
const BATCH_ENTRIES: usize = 2000;
/// Large files that are written before the next ones are looked at: each takes some thousand bytes.
const LARGE_AT_A_TIME: usize = 1000;
/// Bytes of one write into a large file.
const CHUNK: usize = 1024 * 1024;
/// Zeroes of so many bytes are left out.
const HOLE: usize = 64 * 1024;
/// Contents that are read, and large files that are written, at a time.
const SIDE_BY_SIDE: usize = 8;

/// Puts the files of one snapshot into a sandbox.
pub(super) struct Filler<'a> {
    pub(super) checkpointer: &'a Checkpointer,
    pub(super) snapshot: SnapshotId,
}

impl Filler<'_> {
    pub(super) async fn fill(&self, root: Root, listing: &Listing) -> Result<(), RestoreError> {
        self.put(root, apply_entries(listing, |_| true)).await
    }

    /// Makes these, over what is there.
    pub(super) async fn put(&self, root: Root, entries: Vec<Planned>) -> Result<(), RestoreError> {
        let guest = &self.checkpointer.guest;
        let mut large = Vec::new();
        let mut start = 0;
        while start < entries.len() {
            let batch = batch_from(&entries, start);
            start += batch.len();
            large.extend(batch.iter().filter(|(_, file)| is_large(*file)));
            guest.apply(root, &self.with_contents(batch).await?).await?;
        }
        for some in large.chunks(LARGE_AT_A_TIME) {
            let writes = some.iter().filter_map(|(entry, file)| {
                file.map(|(content, size)| self.write_large(root, &entry.path, content, size))
            });
            stream::iter(writes.collect::<Vec<_>>())
                .buffer_unordered(SIDE_BY_SIDE)
                .try_collect::<()>()
                .await?;
        }
        let mut start = 0;
        // Folders get their times last of all, after the last batch that touches what is in them.
        let done: Vec<_> = finish_order(entries);
        while start < done.len() {
            let end = done.len().min(start + BATCH_ENTRIES);
            guest.finish(root, done.get(start..end).unwrap_or_default()).await?;
            start = end;
        }
        Ok(())
    }

    /// A batch, with the contents of its small files.
    async fn with_contents(
        &self,
        batch: &[(ApplyEntry, Option<(BlobId, u64)>)],
    ) -> Result<Vec<ApplyEntry>, RestoreError> {
        let filled = batch.iter().map(|(entry, file)| async move {
            let mut entry = entry.clone();
            if let (ApplyNode::File { content, .. }, Some((id, size)), false) =
                (&mut entry.node, *file, is_large(*file))
            {
                let read = self.checkpointer.snapshots.read_file(id, size).await;
                let bytes = read.map_err(|error| self.damaged(&entry.path, error))?;
                check_size(id, size, bytes.len() as u64)
                    .map_err(|error| self.damaged(&entry.path, error))?;
                *content = Some(bytes);
            }
            Ok::<_, RestoreError>(entry)
        });
        stream::iter(filled.collect::<Vec<_>>()).buffered(SIDE_BY_SIDE).try_collect().await
    }

    async fn write_large(
        &self,
        root: Root,
        path: &Path,
        content: BlobId,
        size: u64,
    ) -> Result<(), RestoreError> {
        let Checkpointer { guest, snapshots, .. } = self.checkpointer;
        let damaged = |error| self.damaged(path, error);
        let mut hasher = snapshots.hasher();
        let mut offset = 0;
        loop {
            let bytes = snapshots.read_part(content, offset, CHUNK).await.map_err(damaged)?;
            if bytes.is_empty() {
                break;
            }
            hasher.update(&bytes);
            // Zeroes are not written, so that a file with holes keeps them.
            for run in written(&bytes) {
                let at = offset + run.start as u64;
                let data = bytes.get(run).unwrap_or_default();
                guest.write_at(root, path, at, data).await?;
            }
            offset += bytes.len() as u64;
        }
        check_size(content, size, offset).map_err(damaged)?;
        if hasher.id() == content { Ok(()) } else { Err(damaged(Snapshots::damaged(content))) }
    }

    fn damaged(&self, path: &Path, source: LoadError) -> RestoreError {
        let (path, source) = (path.to_owned(), Box::new(source));
        RestoreError::Content { snapshot: self.snapshot, path, source }
    }
}

pub(super) type Planned = (ApplyEntry, Option<(BlobId, u64)>);

/// What the guest is told of the paths that are wanted (the root is the empty one), with the content
/// of each file that is to be written. All names of a file are wanted, or none.
pub(super) fn apply_entries(listing: &Listing, is_wanted: impl Fn(&Path) -> bool) -> Vec<Planned> {
    let mut names: HashMap<LinkGroup, &Path> = HashMap::new();
    let mut entries = Vec::new();
    if is_wanted(Path::new("")) {
        entries.push((apply_entry(Path::new(""), listing.root(), ApplyNode::Dir), None));
    }
    for Entry { path, meta, node } in listing.entries().iter().filter(|e| is_wanted(&e.path)) {
        let (node, file) = match node {
            Node::Dir => (ApplyNode::Dir, None),
            Node::Symlink(target) => (ApplyNode::Symlink(target.clone()), None),
            Node::File { content, size, link } => match link.and_then(|link| names.get(&link)) {
                Some(first) => (ApplyNode::Hardlink(first.to_path_buf()), None),
                None => {
                    names.extend(link.map(|link| (link, path.as_path())));
                    (ApplyNode::File { size: *size, content: None }, Some((*content, *size)))
                }
            },
        };
        entries.push((apply_entry(path, meta, node), file));
    }
    entries
}

fn apply_entry(path: &Path, meta: &Meta, node: ApplyNode) -> ApplyEntry {
    ApplyEntry {
        path: path.to_owned(),
        node,
        mode: meta.mode,
        owner: (meta.uid, meta.gid),
        mtime_ns: meta.mtime_ns,
        xattrs: meta.xattrs.clone(),
    }
}

/// As many entries as one message takes.
fn batch_from(entries: &[Planned], start: usize) -> &[Planned] {
    let rest = entries.get(start..).unwrap_or_default();
    let mut bytes = 0;
    let fits = rest.iter().take(BATCH_ENTRIES).take_while(|(entry, file)| {
        let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let content = file.filter(|_| !is_large(*file)).map_or(0, |(_, size)| size);
        bytes += content + xattrs as u64;
        bytes <= BATCH_BYTES
    });
    // One entry always fits: neither content nor attributes are that large.
    let count = fits.count().max(1);
    rest.get(..count).unwrap_or(rest)
}

fn is_large(file: Option<(BlobId, u64)>) -> bool {
    file.is_some_and(|(_, size)| size > INLINE)
}

/// Everything else first, then folders from the inside out, so that no folder's time is changed
/// again after it was set.
fn finish_order(entries: Vec<Planned>) -> Vec<ApplyEntry> {
    let entries = entries.into_iter().map(|(entry, _)| entry);
    let (mut folders, mut done): (Vec<_>, Vec<_>) =
        entries.partition(|entry| entry.node == ApplyNode::Dir);
    folders.reverse();
    done.append(&mut folders);
    done
}

/// The parts of these bytes that are not holes.
fn written(bytes: &[u8]) -> Vec<Range<usize>> {
    static ZEROES: [u8; HOLE] = [0; HOLE];
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, block) in bytes.chunks(HOLE).enumerate() {
        // Compared as memory, which is quick also where a loop over bytes is not.
        if ZEROES.get(..block.len()).is_some_and(|zeroes| zeroes == block) {
            continue;
        }
        let (start, end) = (index * HOLE, index * HOLE + block.len());
        match runs.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => runs.push(start..end),
        }
    }
    runs
}

fn check_size(content: BlobId, expected: u64, found: u64) -> Result<(), LoadError> {
    if expected == found { Ok(()) } else { Err(LoadError::Size { content, expected, found }) }
}
