use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use moat_core::{BlobId, SnapshotId};

use super::{ArchiveError, CHUNK, CONTENT, END, FOLDER, MAGIC, ROOT, VERSION};
use crate::node::{MAX_FOLDER_BYTES, MAX_ROOT_BYTES, decode_folder, decode_root};
use crate::tree::{Entry, Listing, MAX_ENTRIES, MAX_PATH, Meta, Node, Tree};
use crate::{InvalidTree, LoadError, RootName, Snapshots};

/// What an archive may hold.
#[derive(Clone, Copy, Debug)]
pub struct ImportLimits {
    /// Bytes of all contents.
    pub contents: u64,
    /// Bytes of all folders, which are held in memory.
    pub folders: u64,
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self { contents: 256 << 30, folders: 1 << 30 }
    }
}

/// A snapshot that came out of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// What the exporter called it.
    pub from: SnapshotId,
    /// What it is called here.
    pub snapshot: SnapshotId,
}

impl Snapshots {
    /// Stores what an archive holds. Everything is checked before the first snapshot is committed.
    ///
    /// # Errors
    ///
    /// It is no archive, is damaged, holds more than is allowed, or something that no snapshot can
    /// be. Contents that were stored by then are collected sooner or later.
    pub async fn import(
        &self,
        archive: &mut (impl Read + Send),
        limits: ImportLimits,
    ) -> Result<Vec<Imported>, ArchiveError> {
        let mut reader = Reader::begin(archive)?;
        let mut taken = Taken::default();
        let (mut contents_left, mut folders_left) = (limits.contents, limits.folders);
        loop {
            let tag = reader.byte()?;
            if tag == END {
                break;
            }
            let (id, size) = (BlobId(reader.array()?), u64::from_le_bytes(reader.array()?));
            let left = if tag == CONTENT { &mut contents_left } else { &mut folders_left };
            let limit = *left;
            *left = left.checked_sub(size).ok_or(ArchiveError::TooLarge { limit })?;
            match tag {
                CONTENT => {
                    let put = self.import_content(&mut reader, size).await?;
                    taken.contents.insert(id, (put, size));
                }
                FOLDER if size <= MAX_FOLDER_BYTES => {
                    taken.folders.insert(id, reader.checked(size)?);
                }
                ROOT if size <= MAX_ROOT_BYTES => taken.roots.push((id, reader.checked(size)?)),
                _ => return Err(ArchiveError::Damaged("it has a part that is none".to_owned())),
            }
        }
        reader.end()?;
        let mut trees = Vec::new();
        for (id, root) in &taken.roots {
            trees.push((SnapshotId(id.0), taken.tree(root)?));
        }
        let mut imported = Vec::new();
        for (from, tree) in trees {
            let snapshot = self.commit(&tree).await?.snapshot;
            imported.push(Imported { from, snapshot });
        }
        Ok(imported)
    }

    async fn import_content(
        &self,
        reader: &mut Reader<'_, impl Read + Send>,
        size: u64,
    ) -> Result<BlobId, ArchiveError> {
        let mut hasher = blake3::Hasher::new();
        let mut writer = self.writer().await?;
        let mut left = size;
        while left > 0 {
            let some = left.min(CHUNK as u64);
            let bytes = reader.take(some as usize)?;
            hasher.update(&bytes);
            writer.write(bytes).await?;
            left -= some;
        }
        if hasher.finalize() != blake3::Hash::from_bytes(reader.array()?) {
            return Err(damaged("a content does not have its hash"));
        }
        Ok(writer.finish().await?.content)
    }
}

/// What was read of an archive, by the exporter's ids.
#[derive(Default)]
struct Taken {
    contents: HashMap<BlobId, (BlobId, u64)>,
    folders: HashMap<BlobId, Vec<u8>>,
    roots: Vec<(BlobId, Vec<u8>)>,
}

impl Taken {
    fn tree(&self, root: &[u8]) -> Result<Tree, ArchiveError> {
        let malformed = |source| LoadError::Malformed { path: PathBuf::new(), source };
        let mut tree = Tree::empty();
        for (name, meta, id) in decode_root(root).map_err(malformed)? {
            let listing = self.listing(meta, id)?;
            match name {
                RootName::Home => tree.home = listing,
                RootName::Workspace => tree.workspace = listing,
            }
        }
        tree.validate().map_err(LoadError::Invalid)?;
        Ok(tree)
    }

    fn listing(&self, meta: Meta, id: BlobId) -> Result<Listing, ArchiveError> {
        let mut entries = Vec::new();
        let mut open = vec![(PathBuf::new(), id)];
        while let Some((path, id)) = open.pop() {
            let bytes = self.folders.get(&id).ok_or_else(|| damaged("a folder is not in it"))?;
            let malformed = |source| LoadError::Malformed { path: path.clone(), source };
            for found in decode_folder(bytes).map_err(malformed)? {
                let at = path.join(&found.name);
                if at.as_os_str().len() > MAX_PATH || entries.len() >= MAX_ENTRIES {
                    return Err(LoadError::Invalid(InvalidTree::Path { path: at }).into());
                }
                open.extend(found.folder.map(|id| (at.clone(), id)));
                let node = self.node(&at, found.node)?;
                entries.push(Entry { path: at, meta: found.meta, node });
            }
        }
        Ok(Listing::from_entries(meta, entries).map_err(LoadError::Invalid)?)
    }

    /// The node, with the id that its content has here.
    fn node(&self, path: &Path, node: Node) -> Result<Node, ArchiveError> {
        let Node::File { content, size, link } = node else { return Ok(node) };
        match self.contents.get(&content) {
            Some((here, stored)) if *stored == size => {
                Ok(Node::File { content: *here, size, link })
            }
            _ => Err(damaged(&format!("the content of `{}` is not in it", path.display()))),
        }
    }
}

fn damaged(what: &str) -> ArchiveError {
    ArchiveError::Damaged(what.to_owned())
}

struct Reader<'a, R: Read> {
    input: zstd::stream::read::Decoder<'static, std::io::BufReader<&'a mut R>>,
    hasher: blake3::Hasher,
}

impl<'a, R: Read> Reader<'a, R> {
    fn begin(input: &'a mut R) -> Result<Self, ArchiveError> {
        let mut input = zstd::stream::read::Decoder::new(input)?;
        // No more memory than the exporter's level needs.
        input.window_log_max(24)?;
        let mut reader = Self { input, hasher: blake3::Hasher::new() };
        let mut magic = [0; MAGIC.len()];
        let begun = reader.fill(&mut magic);
        if begun.is_err() || magic != MAGIC {
            return Err(ArchiveError::NotOne);
        }
        match reader.byte()? {
            VERSION => Ok(reader),
            newer => Err(ArchiveError::Newer(newer)),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ArchiveError> {
        self.input.read_exact(bytes).map_err(|error| damaged(&error.to_string()))?;
        self.hasher.update(bytes);
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, ArchiveError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ArchiveError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// At most [`CHUNK`] bytes.
    fn take(&mut self, size: usize) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = vec![0; size];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Bytes and their hash. Memory is taken as they come, not as they are claimed.
    fn checked(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size {
            let some = (size - bytes.len() as u64).min(CHUNK as u64);
            bytes.extend(self.take(some as usize)?);
        }
        if blake3::hash(&bytes) != blake3::Hash::from_bytes(self.array()?) {
            return Err(damaged("a folder does not have its hash"));
        }
        Ok(bytes)
    }

    fn end(&mut self) -> Result<(), ArchiveError> {
        let computed = self.hasher.finalize();
        if computed != blake3::Hash::from_bytes(self.array()?) {
            return Err(damaged("it does not have the hash at its end"));
        }
        let mut more = [0];
        match self.input.read(&mut more)? {
            0 => Ok(()),
            _ => Err(damaged("something follows its end")),
        }
    }
}
