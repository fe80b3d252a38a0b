use std::collections::HashMap;
use std::io::Write;

use moat_core::{BlobId, SnapshotId};

use super::{ArchiveError, CHUNK, CONTENT, END, FOLDER, MAGIC, ROOT, VERSION};
use crate::node::{MAX_FOLDER_BYTES, MAX_ROOT_BYTES};
use crate::tree::Node;
use crate::{LoadError, Snapshots};

/// zstd's own default.
const LEVEL: i32 = 3;

impl Snapshots {
    /// Writes snapshots and all that they need. Contents are checked while they are read, and are
    /// never held in memory whole.
    ///
    /// # Errors
    ///
    /// A snapshot is damaged or missing, or `out` cannot be written.
    pub async fn export(
        &self,
        snapshots: &[SnapshotId],
        out: &mut (impl Write + Send),
    ) -> Result<(), ArchiveError> {
        let mut archive = Writer::begin(out)?;
        let mut contents = HashMap::new();
        let mut folders = Vec::new();
        for snapshot in snapshots {
            let needed = self.needed_by(&[*snapshot]).await?;
            let tree = self.load(*snapshot).await?;
            for entry in tree.home.entries().iter().chain(tree.workspace.entries()) {
                if let Node::File { content, size, .. } = entry.node {
                    contents.insert(content, size);
                }
            }
            folders.extend(needed.into_iter().filter(|id| id.0 != snapshot.0));
        }
        folders.retain(|id| !contents.contains_key(id));
        folders.sort_unstable_by_key(|id| id.0);
        folders.dedup();
        let mut sorted: Vec<_> = contents.into_iter().collect();
        sorted.sort_unstable_by_key(|(id, _)| id.0);
        for (id, size) in sorted {
            self.export_content(&mut archive, id, size).await?;
        }
        for id in folders {
            let bytes = self.read_file(id, MAX_FOLDER_BYTES).await?;
            archive.record(FOLDER, id, &bytes)?;
        }
        for snapshot in snapshots {
            let id = BlobId(snapshot.0);
            let bytes = self.read_file(id, MAX_ROOT_BYTES).await?;
            archive.record(ROOT, id, &bytes)?;
        }
        archive.end()
    }

    async fn export_content(
        &self,
        archive: &mut Writer<'_, impl Write + Send>,
        id: BlobId,
        size: u64,
    ) -> Result<(), ArchiveError> {
        archive.head(CONTENT, id, size)?;
        let (mut plain, mut keyed) = (blake3::Hasher::new(), self.hasher());
        let mut offset = 0;
        while offset < size {
            let bytes = self.read_part(id, offset, CHUNK).await?;
            if bytes.is_empty() {
                break;
            }
            offset += bytes.len() as u64;
            plain.update(&bytes);
            keyed.update(&bytes);
            archive.write(&bytes)?;
        }
        if keyed.id() != id {
            return Err(Self::damaged(id).into());
        }
        if offset != size {
            return Err(LoadError::Size { content: id, expected: size, found: offset }.into());
        }
        archive.write(plain.finalize().as_bytes())
    }
}

struct Writer<'a, W: Write> {
    out: zstd::stream::write::Encoder<'static, &'a mut W>,
    hasher: blake3::Hasher,
}

impl<'a, W: Write> Writer<'a, W> {
    fn begin(out: &'a mut W) -> Result<Self, ArchiveError> {
        let out = zstd::stream::write::Encoder::new(out, LEVEL)?;
        let mut writer = Self { out, hasher: blake3::Hasher::new() };
        writer.write(MAGIC)?;
        writer.write(&[VERSION])?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.hasher.update(bytes);
        Ok(self.out.write_all(bytes)?)
    }

    fn head(&mut self, tag: u8, id: BlobId, size: u64) -> Result<(), ArchiveError> {
        self.write(&[tag])?;
        self.write(&id.0)?;
        self.write(&size.to_le_bytes())
    }

    fn record(&mut self, tag: u8, id: BlobId, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.head(tag, id, bytes.len() as u64)?;
        self.write(bytes)?;
        self.write(blake3::hash(bytes).as_bytes())
    }

    fn end(mut self) -> Result<(), ArchiveError> {
        self.write(&[END])?;
        let hash = self.hasher.finalize();
        self.out.write_all(hash.as_bytes())?;
        self.out.finish()?.flush()?;
        Ok(())
    }
}
