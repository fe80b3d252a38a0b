use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use moat_core::BlobId;

use super::{FOLDER_MAGIC, KIND_DIR, KIND_FILE, KIND_SYMLINK, ROOT_MAGIC, VERSION};
use crate::tree::{LinkGroup, MAX_NAME, MAX_PATH, MAX_XATTRS, Meta, Node, is_name};
use crate::{NodeError, RootName};

/// One name in a folder.
pub(crate) struct FolderEntry {
    pub(crate) name: OsString,
    pub(crate) meta: Meta,
    pub(crate) node: Node,
    /// The folder's own node, where `node` is one.
    pub(crate) folder: Option<BlobId>,
}

/// Reads a folder back.
pub(crate) fn decode_folder(bytes: &[u8]) -> Result<Vec<FolderEntry>, NodeError> {
    let mut reader = Reader::open(bytes, FOLDER_MAGIC, "folder")?;
    let count = reader.u32()?;
    // Not reserved by the count: it is only a claim until the entries were read.
    let mut entries: Vec<FolderEntry> = Vec::new();
    for _ in 0..count {
        let entry = folder_entry(&mut reader)?;
        if entries.last().is_some_and(|last| last.name >= entry.name) {
            return Err(NodeError::NotCanonical("order of names"));
        }
        entries.push(entry);
    }
    reader.end()?;
    Ok(entries)
}

fn folder_entry(reader: &mut Reader<'_>) -> Result<FolderEntry, NodeError> {
    let name = reader.short(MAX_NAME)?;
    if !is_name(name) {
        return Err(NodeError::NotCanonical("name"));
    }
    let kind = reader.u8()?;
    let meta = reader.meta()?;
    let mut folder = None;
    let node = match kind {
        KIND_FILE => reader.file()?,
        KIND_DIR => {
            folder = Some(reader.id()?);
            Node::Dir
        }
        KIND_SYMLINK => {
            let target = reader.short(MAX_PATH)?;
            if target.is_empty() || target.contains(&0) {
                return Err(NodeError::NotCanonical("link target"));
            }
            Node::Symlink(PathBuf::from(OsString::from_vec(target.to_vec())))
        }
        _ => return Err(NodeError::NotCanonical("kind of path")),
    };
    Ok(FolderEntry { name: OsString::from_vec(name.to_vec()), meta, node, folder })
}

/// Reads a root back.
pub(crate) fn decode_root(bytes: &[u8]) -> Result<Vec<(RootName, Meta, BlobId)>, NodeError> {
    let mut reader = Reader::open(bytes, ROOT_MAGIC, "snapshot")?;
    let count = reader.u8()?;
    let mut roots: Vec<(RootName, Meta, BlobId)> = Vec::new();
    for _ in 0..count {
        let name = reader.short(MAX_NAME)?;
        let name = RootName::parse(name).ok_or(NodeError::NotCanonical("name of a root"))?;
        if roots.iter().any(|(known, ..)| *known >= name) {
            return Err(NodeError::NotCanonical("order of roots"));
        }
        roots.push((name, reader.meta()?, reader.id()?));
    }
    reader.end()?;
    Ok(roots)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn open(bytes: &'a [u8], magic: &[u8], what: &'static str) -> Result<Self, NodeError> {
        let rest = bytes.strip_prefix(magic).ok_or(NodeError::Kind(what))?;
        let mut reader = Self { rest };
        match reader.u8()? {
            VERSION => Ok(reader),
            newer => Err(NodeError::Newer(newer)),
        }
    }

    fn end(&self) -> Result<(), NodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(NodeError::NotCanonical("end")) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], NodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(NodeError::CutOff)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NodeError> {
        self.take(N)?.try_into().map_err(|_| NodeError::CutOff)
    }

    fn u8(&mut self) -> Result<u8, NodeError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, NodeError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, NodeError> {
        self.array().map(u32::from_le_bytes)
    }

    fn id(&mut self) -> Result<BlobId, NodeError> {
        self.array().map(BlobId)
    }

    fn short(&mut self, limit: usize) -> Result<&'a [u8], NodeError> {
        let length = usize::from(self.u16()?);
        if length > limit { Err(NodeError::NotCanonical("length")) } else { self.take(length) }
    }

    fn file(&mut self) -> Result<Node, NodeError> {
        let size = self.array().map(u64::from_le_bytes)?;
        let content = self.id()?;
        let link = match self.u8()? {
            0 => None,
            1 => Some(LinkGroup(self.array()?)),
            _ => return Err(NodeError::NotCanonical("link mark")),
        };
        Ok(Node::File { content, size, link })
    }

    fn meta(&mut self) -> Result<Meta, NodeError> {
        let mode = u32::from(self.u16()?);
        let uid = self.u32()?;
        let gid = self.u32()?;
        let mtime_ns = self.array().map(i64::from_le_bytes)?;
        if mode > 0o7777 {
            return Err(NodeError::NotCanonical("mode"));
        }
        Ok(Meta { mode, uid, gid, mtime_ns, xattrs: self.xattrs()? })
    }

    fn xattrs(&mut self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, NodeError> {
        let mut xattrs = BTreeMap::<Vec<u8>, Vec<u8>>::new();
        let mut total = 0;
        for _ in 0..self.u16()? {
            let name = self.short(MAX_NAME)?;
            let length = self.u32()? as usize;
            let value = self.take(length)?;
            total += name.len() + length;
            let after = xattrs.last_key_value().is_none_or(|(last, _)| last.as_slice() < name);
            if name.is_empty() || !after || total > MAX_XATTRS {
                return Err(NodeError::NotCanonical("attributes"));
            }
            xattrs.insert(name.to_vec(), value.to_vec());
        }
        Ok(xattrs)
    }
}
