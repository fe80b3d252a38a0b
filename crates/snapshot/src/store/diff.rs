use std::collections::BTreeMap;
use std::path::PathBuf;

use futures_util::{StreamExt, TryStreamExt, stream};
use moat_core::{BlobId, SnapshotId};

use super::load::placed;
use super::{SIDE_BY_SIDE, Snapshots};
use crate::changes::{Change, ContentKind};
use crate::tree::{Entry, Listing, MAX_ENTRIES, Meta, Tree, order};
use crate::{InvalidTree, LoadError, RootName};

/// Bytes that decide whether a content is text.
const HEAD: usize = 8000;

impl Snapshots {
    /// How `later` differs from `earlier`, in the order of listings, home first. Folders with the
    /// same hash on both sides are not read.
    pub async fn diff(
        &self,
        earlier: SnapshotId,
        later: SnapshotId,
    ) -> Result<Vec<Change>, LoadError> {
        let (a, b) = (self.load_roots(earlier).await?, self.load_roots(later).await?);
        let home = self.differing_between(RootName::Home, a.home, b.home).await?;
        let workspace =
            self.differing_between(RootName::Workspace, a.workspace, b.workspace).await?;
        let before = Tree { home: home.0, workspace: workspace.0 };
        let after = Tree { home: home.1, workspace: workspace.1 };
        self.judge(before.changes(&after)).await
    }

    /// Both listings of a root, without what is in folders that have the same hash: only others are
    /// read. What ties names of one file together may be in those.
    pub async fn differing(
        &self,
        root: RootName,
        earlier: SnapshotId,
        later: SnapshotId,
    ) -> Result<(Listing, Listing), LoadError> {
        let (before, after) = (self.load_roots(earlier).await?, self.load_roots(later).await?);
        self.differing_between(root, before.of(root), after.of(root)).await
    }

    /// What the contents of these changes look like.
    async fn judge(&self, changes: Vec<Change>) -> Result<Vec<Change>, LoadError> {
        let judged = changes.into_iter().map(|mut change| async move {
            change.content = match change.told_by() {
                Some(content) => Some(ContentKind::of(&self.blobs.read(content, 0, HEAD).await?)),
                None => change.has_file().then_some(ContentKind::Text),
            };
            Ok::<_, LoadError>(change)
        });
        stream::iter(judged.collect::<Vec<_>>()).buffered(SIDE_BY_SIDE).try_collect().await
    }

    async fn differing_between(
        &self,
        root: RootName,
        before: (Meta, BlobId),
        after: (Meta, BlobId),
    ) -> Result<(Listing, Listing), LoadError> {
        let mut found = (Vec::new(), Vec::new());
        let mut open: Vec<(PathBuf, Option<BlobId>, Option<BlobId>)> = Vec::new();
        if before.1 != after.1 {
            open.push((PathBuf::new(), Some(before.1), Some(after.1)));
        }
        while let Some((path, a, b)) = open.pop() {
            let mut inner = BTreeMap::<PathBuf, (Option<BlobId>, Option<BlobId>)>::new();
            for (path, folder) in self.side(root, &path, a, &mut found.0).await? {
                inner.entry(path).or_default().0 = Some(folder);
            }
            for (path, folder) in self.side(root, &path, b, &mut found.1).await? {
                inner.entry(path).or_default().1 = Some(folder);
            }
            let differing = inner.into_iter().filter(|(_, (a, b))| a != b);
            open.extend(differing.map(|(path, (a, b))| (path, a, b)));
        }
        found.0.sort_by(|a, b| order(&a.path, &b.path));
        found.1.sort_by(|a, b| order(&a.path, &b.path));
        Ok((Listing::from_sorted(before.0, found.0), Listing::from_sorted(after.0, found.1)))
    }

    /// Reads one side of a folder into `entries`; returns the folders in it.
    async fn side(
        &self,
        root: RootName,
        path: &std::path::Path,
        id: Option<BlobId>,
        entries: &mut Vec<Entry>,
    ) -> Result<Vec<(PathBuf, BlobId)>, LoadError> {
        let Some(id) = id else { return Ok(Vec::new()) };
        let mut folders = Vec::new();
        for entry in self.load_folder(root, path, id).await? {
            let (entry, folder) = placed(path, entry)?;
            folders.extend(folder.map(|id| (entry.path.clone(), id)));
            entries.push(entry);
        }
        if entries.len() > MAX_ENTRIES {
            return Err(InvalidTree::TooMany { limit: MAX_ENTRIES }.into());
        }
        Ok(folders)
    }
}
