use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use moat_core::{BlobId, SnapshotId};

use super::{AT_A_TIME, SIDE_BY_SIDE, Snapshots};
use crate::node::{FolderNode, encode_root};
use crate::tree::{Entry, Listing, Meta, Node, Tree, parent_of};
use crate::{CommitError, RootName};

/// A snapshot that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its id: the keyed hash of its root.
    pub snapshot: SnapshotId,
    /// Folder nodes that had not been stored before.
    pub new_folders: u64,
    /// Bytes of those nodes.
    pub new_bytes: u64,
}

impl Snapshots {
    /// Makes a snapshot of a tree whose contents were put before.
    ///
    /// When this returns, contents, folders and root are durable, and every content is known to be
    /// stored under its hash at the size that the tree says. If it fails, or is dropped, nothing
    /// that was committed before is touched.
    pub async fn commit(&self, tree: &Tree) -> Result<Committed, CommitError> {
        tree.validate()?;
        self.blobs.begin().await?;
        if let Err(error) = self.check_contents(tree).await {
            // Perhaps it was put and lost with the pack that it was in. Then that is what has to be
            // heard of: it may be mended by freeing space and trying again.
            if matches!(error, CommitError::MissingContent { .. }) {
                self.known.forget();
                self.blobs.sync().await?;
            }
            return Err(error);
        }
        let mut nodes = HashMap::new();
        let home = self.hash_listing(&tree.home, &mut nodes);
        let workspace = self.hash_listing(&tree.workspace, &mut nodes);
        let roots = [
            (RootName::Home, tree.home.root(), home),
            (RootName::Workspace, tree.workspace.root(), workspace),
        ];
        let root = encode_root(&roots);
        let id = self.id_of(&root);

        let (new_folders, mut new_bytes) = self.put_nodes(nodes).await?;
        let size = root.len() as u64;
        if self.put_root(id, root).await? {
            new_bytes += size;
        }
        Ok(Committed { snapshot: SnapshotId(id.0), new_folders, new_bytes })
    }

    /// Makes everything durable, the root last. Returns whether it is new.
    async fn put_root(&self, id: BlobId, root: Vec<u8>) -> Result<bool, CommitError> {
        let size = root.len() as u64;
        let put = self.blobs.put_last(root).await;
        if put.is_err() {
            self.known.forget();
        }
        let (given, new) = put?;
        self.accept(given, id, size)?;
        Ok(new)
    }

    /// Every content is in the store, whole.
    async fn check_contents(&self, tree: &Tree) -> Result<(), CommitError> {
        let files = tree.workspace.entries().iter().chain(tree.home.entries());
        let unknown = files.filter_map(|entry| match entry.node {
            Node::File { content, size, .. } if !self.has(content, size) => {
                Some((entry, content, size))
            }
            _ => None,
        });
        for some in unknown.collect::<Vec<_>>().chunks(AT_A_TIME) {
            let checks = some
                .iter()
                .map(|(entry, content, size)| self.check_content(entry, *content, *size));
            stream::iter(checks.collect::<Vec<_>>())
                .buffer_unordered(SIDE_BY_SIDE)
                .try_collect::<()>()
                .await?;
        }
        Ok(())
    }

    fn has(&self, content: BlobId, size: u64) -> bool {
        self.known.size(content) == Some(size) && self.blobs.still_lasts(content)
    }

    async fn check_content(
        &self,
        entry: &Entry,
        content: BlobId,
        size: u64,
    ) -> Result<(), CommitError> {
        if self.blobs.lasts(content).await? != Some(size) {
            return Err(CommitError::MissingContent { path: entry.path.clone(), content });
        }
        self.known.add(content, size);
        Ok(())
    }

    async fn put_nodes(&self, nodes: HashMap<BlobId, Vec<u8>>) -> Result<(u64, u64), CommitError> {
        let puts = nodes.into_iter().map(|(id, bytes)| async move {
            let size = bytes.len() as u64;
            let new = self.put_as(id, bytes).await?;
            Ok::<_, CommitError>(if new { (1, size) } else { (0, 0) })
        });
        stream::iter(puts.collect::<Vec<_>>())
            .buffer_unordered(SIDE_BY_SIDE)
            .try_fold((0, 0), async |sum: (u64, u64), put| Ok((sum.0 + put.0, sum.1 + put.1)))
            .await
    }

    /// The id of a root's folder node. Nodes that may have to be stored are put into `nodes`.
    fn hash_listing(&self, listing: &Listing, nodes: &mut HashMap<BlobId, Vec<u8>>) -> BlobId {
        let mut walk = Walk { snapshots: self, nodes, above: Vec::new(), here: FolderNode::new() };
        for entry in listing.entries() {
            walk.leave_until(parent_of(&entry.path));
            if matches!(entry.node, Node::Dir) {
                let outer = std::mem::replace(&mut walk.here, FolderNode::new());
                walk.above.push((entry, outer));
            } else {
                walk.here.add(name_of(entry), &entry.meta, &entry.node);
            }
        }
        walk.leave_until(Path::new(""));
        walk.finish()
    }
}

/// A walk over a listing: the folder it is in, and those above it, unfinished.
struct Walk<'a> {
    snapshots: &'a Snapshots,
    nodes: &'a mut HashMap<BlobId, Vec<u8>>,
    /// The folders on the way here, each with the node of the folder that it is in.
    above: Vec<(&'a Entry, FolderNode)>,
    here: FolderNode,
}

impl Walk<'_> {
    /// Finishes folders until `folder` is the one the walk is in.
    fn leave_until(&mut self, folder: &Path) {
        while self.above.last().is_some_and(|(open, _)| open.path.as_os_str() != folder.as_os_str())
        {
            let Some((entry, outer)) = self.above.pop() else { return };
            let meta: &Meta = &entry.meta;
            let inner = std::mem::replace(&mut self.here, outer);
            let id = self.keep(inner);
            self.here.add_folder(name_of(entry), meta, id);
        }
    }

    fn finish(self) -> BlobId {
        let Self { snapshots, nodes, here, .. } = self;
        keep(snapshots, nodes, here)
    }

    fn keep(&mut self, node: FolderNode) -> BlobId {
        keep(self.snapshots, self.nodes, node)
    }
}

fn keep(snapshots: &Snapshots, nodes: &mut HashMap<BlobId, Vec<u8>>, node: FolderNode) -> BlobId {
    let bytes = node.finish();
    let id = snapshots.id_of(&bytes);
    if !snapshots.is_known(id) {
        nodes.insert(id, bytes);
    }
    id
}

fn name_of(entry: &Entry) -> &[u8] {
    entry.path.file_name().map_or(b"", |name| name.as_bytes())
}
