//! From one store to another, each content once.

use std::collections::HashMap;
use std::sync::Arc;

use moat_blobs::BlobStore;
use moat_core::{BlobId, SnapshotId};
use moat_snapshot::{Entry, Listing, Node, Snapshots, Tree};

use super::TransferError;

/// Bytes that are held at a time.
const CHUNK: usize = 1 << 20;

/// Files by the keys of one tenant, outputs by the same.
pub(super) type Store = (Snapshots, Arc<dyn BlobStore>);

pub(super) struct Copier {
    from: Store,
    to: Store,
    contents: HashMap<BlobId, BlobId>,
    outputs: HashMap<BlobId, BlobId>,
    snapshots: HashMap<SnapshotId, SnapshotId>,
    bytes: u64,
}

impl Copier {
    pub(super) fn new(from: Store, to: Store) -> Self {
        let (contents, outputs, snapshots) = Default::default();
        Self { from, to, contents, outputs, snapshots, bytes: 0 }
    }

    /// Waits until everything is durable. How many contents there were, and bytes.
    pub(super) async fn finish(self) -> Result<(u64, u64), TransferError> {
        self.to.1.sync().await?;
        Ok(((self.contents.len() + self.outputs.len()) as u64, self.bytes))
    }

    /// The snapshot under its name in the other store.
    pub(super) async fn snapshot(&mut self, id: SnapshotId) -> Result<SnapshotId, TransferError> {
        if let Some(known) = self.snapshots.get(&id) {
            return Ok(*known);
        }
        let tree = self.from.0.load(id).await?;
        let tree = Tree {
            workspace: self.listing(tree.workspace).await?,
            home: self.listing(tree.home).await?,
        };
        let copied = self.to.0.commit(&tree).await?.snapshot;
        self.snapshots.insert(id, copied);
        Ok(copied)
    }

    async fn listing(&mut self, listing: Listing) -> Result<Listing, TransferError> {
        let mut entries = Vec::with_capacity(listing.entries().len());
        for entry in listing.entries() {
            let node = match &entry.node {
                Node::File { content, size, link } => {
                    let content = self.content(*content, *size).await?;
                    Node::File { content, size: *size, link: *link }
                }
                node => node.clone(),
            };
            entries.push(Entry { path: entry.path.clone(), meta: entry.meta.clone(), node });
        }
        Listing::from_entries(listing.root().clone(), entries)
            .map_err(|error| TransferError::Malformed(error.to_string()))
    }

    async fn content(&mut self, id: BlobId, size: u64) -> Result<BlobId, TransferError> {
        if let Some(known) = self.contents.get(&id) {
            return Ok(*known);
        }
        let (from, to) = (&self.from.0, &self.to.0);
        let mut hasher = from.hasher();
        let mut writer = to.writer().await?;
        let mut offset = 0;
        while offset < size {
            let bytes = from.read_part(id, offset, CHUNK).await?;
            if bytes.is_empty() {
                break;
            }
            offset = offset.saturating_add(bytes.len() as u64);
            hasher.update(&bytes);
            writer.write(bytes).await?;
        }
        if offset != size || hasher.id() != id {
            return Err(Snapshots::damaged(id).into());
        }
        let put = writer.finish().await?;
        self.bytes = self.bytes.saturating_add(size);
        self.contents.insert(id, put.content);
        Ok(put.content)
    }

    /// A whole output of a call under its name in the other store.
    pub(super) async fn output(&mut self, id: BlobId) -> Result<BlobId, TransferError> {
        if let Some(known) = self.outputs.get(&id) {
            return Ok(*known);
        }
        let (from, to) = (&self.from.1, &self.to.1);
        let size = from.verify(id).await?;
        let mut writer = to.writer().await?;
        let mut offset = 0;
        while offset < size {
            let bytes = from.read(id, offset, CHUNK).await?;
            if bytes.is_empty() {
                break;
            }
            offset = offset.saturating_add(bytes.len() as u64);
            writer.write(bytes).await?;
        }
        let copied = writer.finish().await?;
        self.bytes = self.bytes.saturating_add(size);
        self.outputs.insert(id, copied);
        Ok(copied)
    }
}
