use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt, stream};
use moat_core::{BlobId, SnapshotId};

use super::{AT_A_TIME, SIDE_BY_SIDE, Snapshots};
use crate::node::{FolderEntry, MAX_FOLDER_BYTES, MAX_ROOT_BYTES, decode_folder, decode_root};
use crate::tree::{Entry, Listing, MAX_ENTRIES, MAX_PATH, Meta, Tree};
use crate::{InvalidTree, LoadError, NodeError, RootName};

/// The ids of a snapshot's root folders.
pub(super) struct Roots {
    pub(super) home: (Meta, BlobId),
    pub(super) workspace: (Meta, BlobId),
}

impl Roots {
    pub(super) fn of(self, root: RootName) -> (Meta, BlobId) {
        match root {
            RootName::Home => self.home,
            RootName::Workspace => self.workspace,
        }
    }
}

impl Snapshots {
    /// The tree of a snapshot. Every node's hash is checked; contents are checked when they are
    /// read.
    pub async fn load(&self, snapshot: SnapshotId) -> Result<Tree, LoadError> {
        let roots = self.load_roots(snapshot).await?;
        let home = self.load_listing(RootName::Home, roots.home).await?;
        let workspace = self.load_listing(RootName::Workspace, roots.workspace).await?;
        let tree = Tree { workspace, home };
        tree.validate()?;
        Ok(tree)
    }

    /// One root of a snapshot, as [`Snapshots::load`] reads it.
    pub async fn load_root(
        &self,
        snapshot: SnapshotId,
        root: RootName,
    ) -> Result<Listing, LoadError> {
        let folder = self.load_roots(snapshot).await?.of(root);
        let listing = self.load_listing(root, folder).await?;
        listing.validate()?;
        Ok(listing)
    }

    /// Reads everything of a snapshot, contents as well, and checks every hash and size. Returns
    /// the tree.
    pub async fn verify(&self, snapshot: SnapshotId) -> Result<Tree, LoadError> {
        let tree = self.load(snapshot).await?;
        let workspace = tree.workspace.entries().iter().map(|one| (RootName::Workspace, one));
        let home = tree.home.entries().iter().map(|one| (RootName::Home, one));
        let files = workspace.chain(home).filter_map(|(root, entry)| match entry.node {
            crate::Node::File { content, size, .. } => Some((root, &entry.path, content, size)),
            _ => None,
        });
        for some in files.collect::<Vec<_>>().chunks(AT_A_TIME) {
            let checks = some.iter().map(|(root, path, content, expected)| async move {
                let (content, expected) = (*content, *expected);
                let named = |source| LoadError::File { root: *root, path: (*path).clone(), source };
                let found = self.blobs.verify(content).await.map_err(named)?;
                if found == expected {
                    Ok(())
                } else {
                    Err(LoadError::Size { content, expected, found })
                }
            });
            stream::iter(checks.collect::<Vec<_>>())
                .buffer_unordered(SIDE_BY_SIDE)
                .try_collect::<()>()
                .await?;
        }
        Ok(tree)
    }

    pub(super) async fn load_roots(&self, snapshot: SnapshotId) -> Result<Roots, LoadError> {
        let id = BlobId(snapshot.0);
        let bytes = self
            .blobs
            .get(id, MAX_ROOT_BYTES)
            .await
            .map_err(|source| LoadError::Root { snapshot, source })?;
        let malformed = |source| LoadError::Malformed { path: PathBuf::new(), source };
        let (mut home, mut workspace) = (None, None);
        for (name, meta, id) in decode_root(&bytes).map_err(malformed)? {
            match name {
                RootName::Home => home = Some((meta, id)),
                RootName::Workspace => workspace = Some((meta, id)),
            }
        }
        match (home, workspace) {
            (Some(home), Some(workspace)) => Ok(Roots { home, workspace }),
            _ => Err(malformed(NodeError::CutOff)),
        }
    }

    /// Folder by folder, level by level; so depth costs no stack.
    async fn load_listing(
        &self,
        root: RootName,
        (meta, id): (Meta, BlobId),
    ) -> Result<Listing, LoadError> {
        let mut entries = Vec::new();
        let mut level = vec![(PathBuf::new(), id)];
        while !level.is_empty() {
            let folders = level.into_iter().map(|(path, id)| async move {
                let found = self.load_folder(root, &path, id).await?;
                Ok::<_, LoadError>((path, found))
            });
            // In order, so that the same damage always gives the same error.
            let mut folders = stream::iter(folders.collect::<Vec<_>>()).buffered(SIDE_BY_SIDE);
            let mut next = Vec::new();
            while let Some((path, found)) = folders.try_next().await? {
                for entry in found {
                    let (entry, folder) = placed(&path, entry)?;
                    next.extend(folder.map(|id| (entry.path.clone(), id)));
                    entries.push(entry);
                }
                if entries.len() > MAX_ENTRIES {
                    return Err(InvalidTree::TooMany { limit: MAX_ENTRIES }.into());
                }
            }
            drop(folders);
            level = next;
        }
        entries.sort_by(|a, b| crate::tree::order(&a.path, &b.path));
        Ok(Listing::from_sorted(meta, entries))
    }

    pub(super) async fn load_folder(
        &self,
        root: RootName,
        path: &Path,
        id: BlobId,
    ) -> Result<Vec<FolderEntry>, LoadError> {
        let bytes = self
            .blobs
            .get(id, MAX_FOLDER_BYTES)
            .await
            .map_err(|source| LoadError::Folder { root, path: path.to_owned(), source })?;
        let entries = decode_folder(&bytes)
            .map_err(|source| LoadError::Malformed { path: path.to_owned(), source })?;
        self.known.add(id, bytes.len() as u64);
        Ok(entries)
    }
}

/// An entry of the folder at `path`, with the node of the folder that it is, if it is one.
pub(super) fn placed(
    path: &Path,
    entry: FolderEntry,
) -> Result<(Entry, Option<BlobId>), InvalidTree> {
    let FolderEntry { name, meta, node, folder } = entry;
    let path = path.join(name);
    if path.as_os_str().len() > MAX_PATH {
        return Err(InvalidTree::Path { path });
    }
    Ok((Entry { path, meta, node }, folder))
}
