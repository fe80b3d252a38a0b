use std::os::unix::ffi::OsStrExt;

use moat_core::BlobId;

use super::{FOLDER_MAGIC, KIND_DIR, KIND_FILE, KIND_SYMLINK, ROOT_MAGIC, VERSION};
use crate::RootName;
use crate::tree::{Meta, Node};

/// A folder's bytes while its entries are added in order.
pub(crate) struct FolderNode {
    bytes: Vec<u8>,
    count: u32,
}

impl FolderNode {
    pub(crate) fn new() -> Self {
        let mut bytes = FOLDER_MAGIC.to_vec();
        bytes.push(VERSION);
        // The count's place; `finish` fills it in.
        bytes.extend([0; 4]);
        Self { bytes, count: 0 }
    }

    /// Adds a file or link. Names and sizes were validated with the tree.
    pub(crate) fn add(&mut self, name: &[u8], meta: &Meta, node: &Node) {
        match node {
            Node::Dir => {}
            Node::File { content, size, link } => {
                self.start(name, KIND_FILE, meta);
                self.bytes.extend(size.to_le_bytes());
                self.bytes.extend(content.0);
                self.bytes.push(u8::from(link.is_some()));
                if let Some(group) = link {
                    self.bytes.extend(group.0);
                }
            }
            Node::Symlink(target) => {
                self.start(name, KIND_SYMLINK, meta);
                put_short(&mut self.bytes, target.as_os_str().as_bytes());
            }
        }
    }

    /// Adds a folder whose own node is finished.
    pub(crate) fn add_folder(&mut self, name: &[u8], meta: &Meta, id: BlobId) {
        self.start(name, KIND_DIR, meta);
        self.bytes.extend(id.0);
    }

    fn start(&mut self, name: &[u8], kind: u8, meta: &Meta) {
        self.count += 1;
        put_short(&mut self.bytes, name);
        self.bytes.push(kind);
        put_meta(&mut self.bytes, meta);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let place = FOLDER_MAGIC.len() + 1;
        if let Some(count) = self.bytes.get_mut(place..place + 4) {
            count.copy_from_slice(&self.count.to_le_bytes());
        }
        self.bytes
    }
}

/// The bytes of a root.
pub(crate) fn encode_root(roots: &[(RootName, &Meta, BlobId)]) -> Vec<u8> {
    let mut bytes = ROOT_MAGIC.to_vec();
    bytes.push(VERSION);
    bytes.push(roots.len() as u8);
    for (name, meta, id) in roots {
        put_short(&mut bytes, name.as_str().as_bytes());
        put_meta(&mut bytes, meta);
        bytes.extend(id.0);
    }
    bytes
}

fn put_meta(bytes: &mut Vec<u8>, meta: &Meta) {
    bytes.extend((meta.mode as u16).to_le_bytes());
    bytes.extend(meta.uid.to_le_bytes());
    bytes.extend(meta.gid.to_le_bytes());
    bytes.extend(meta.mtime_ns.to_le_bytes());
    bytes.extend((meta.xattrs.len() as u16).to_le_bytes());
    for (name, value) in &meta.xattrs {
        put_short(bytes, name);
        bytes.extend((value.len() as u32).to_le_bytes());
        bytes.extend(value);
    }
}

/// Lengths were validated: no name, target or attribute name is over 4,096 bytes.
fn put_short(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text);
}
