use std::collections::HashSet;
use std::path::PathBuf;

use futures_util::{StreamExt, TryStreamExt, stream};
use moat_core::{BlobId, SnapshotId};

use super::{SIDE_BY_SIDE, Snapshots};
use crate::tree::Node;
use crate::{LoadError, RootName};

impl Snapshots {
    /// Every blob that these snapshots need: roots, folders and contents. A folder that several
    /// have is read once.
    pub async fn needed_by(&self, snapshots: &[SnapshotId]) -> Result<HashSet<BlobId>, LoadError> {
        let mut needed = HashSet::new();
        let mut folders = HashSet::new();
        for snapshot in snapshots {
            if !needed.insert(BlobId(snapshot.0)) {
                continue;
            }
            let roots = self.load_roots(*snapshot).await?;
            let roots = [(RootName::Home, roots.home.1), (RootName::Workspace, roots.workspace.1)];
            for (root, id) in roots {
                self.reach(root, id, &mut folders, &mut needed).await?;
            }
        }
        needed.extend(folders);
        Ok(needed)
    }

    /// Level by level, so that depth costs no stack.
    async fn reach(
        &self,
        root: RootName,
        id: BlobId,
        folders: &mut HashSet<BlobId>,
        contents: &mut HashSet<BlobId>,
    ) -> Result<(), LoadError> {
        let mut level = vec![(PathBuf::new(), id)];
        while !level.is_empty() {
            level.retain(|(_, id)| folders.insert(*id));
            let found = level.into_iter().map(|(path, id)| async move {
                let entries = self.load_folder(root, &path, id).await?;
                Ok::<_, LoadError>((path, entries))
            });
            let found: Vec<_> = stream::iter(found.collect::<Vec<_>>())
                .buffer_unordered(SIDE_BY_SIDE)
                .try_collect()
                .await?;
            level = Vec::new();
            for (path, entries) in found {
                for entry in entries {
                    if let Node::File { content, .. } = entry.node {
                        contents.insert(content);
                    }
                    level.extend(entry.folder.map(|id| (path.join(&entry.name), id)));
                }
            }
        }
        Ok(())
    }
}
