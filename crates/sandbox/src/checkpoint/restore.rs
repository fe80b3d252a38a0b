use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use moat_core::SnapshotId;
use moat_snapshot::{Entry, Listing, LoadError, Node, Tree};

use super::fill::{Filler, apply_entries};
use super::filling::{Base, Filling};
use super::memory::{Facts, Memory, RootScan, TICK};
use super::over::Difference;
use super::{Checkpointer, Last, RestoreError};
use crate::{ApplyEntry, FileKind, Root, ScanEntry};

/// Paths that are removed at a time.
const SIDE_BY_SIDE: usize = 8;

/// A listing with the paths of another beside its own, which win.
pub(super) fn beside(listing: &Listing, other: &Listing) -> Result<Listing, RestoreError> {
    let mut entries = listing.entries().to_vec();
    let added = other.entries().iter().filter(|entry| {
        // Where the run put something else than a folder above it, there is no place for it.
        let above = entry.path.ancestors().skip(1).filter_map(|path| listing.get(path));
        let mut blocked = above.filter(|above| above.node != Node::Dir);
        listing.get(&entry.path).is_none() && blocked.next().is_none()
    });
    entries.extend(added.cloned());
    let invalid = |error| RestoreError::Load(LoadError::Invalid(error));
    Listing::from_entries(listing.root().clone(), entries).map_err(invalid)
}

/// A sandbox that was filled.
#[derive(Clone, Debug)]
pub struct RestoreReport {
    /// What is there now.
    pub tree: Tree,
    /// How long it took.
    pub duration: Duration,
}

impl Checkpointer {
    /// Fills an empty sandbox. Every content's hash is checked: a file whose content is damaged
    /// fails the restore.
    pub async fn restore(&mut self, snapshot: SnapshotId) -> Result<RestoreReport, RestoreError> {
        self.restore_with(snapshot, None).await
    }

    /// The same, with what checkpoints leave out: the files of `seed`, which are not in `snapshot`.
    pub async fn restore_with(
        &mut self,
        snapshot: SnapshotId,
        seed: Option<SnapshotId>,
    ) -> Result<RestoreReport, RestoreError> {
        let mut tree = self.snapshots.load(snapshot).await?;
        if let Some(seed) = seed {
            let seed = self.snapshots.load(seed).await?;
            tree.workspace = beside(&tree.workspace, &seed.workspace)?;
        }
        self.fill_from(Filling { snapshot, tree, base: None }, None).await
    }

    /// Fills a sandbox that was made for this, which lies over what it says that it does
    /// ([`crate::Sandbox::base`]).
    pub async fn fill_from(
        &mut self,
        filling: Filling,
        over: Option<SnapshotId>,
    ) -> Result<RestoreReport, RestoreError> {
        let started = Instant::now();
        self.memory = Memory::default();
        self.last = None;
        let Filling { snapshot, tree, base } = filling;
        let shown = match (base, over) {
            (Some(base), Some(over)) if base.snapshot == over => {
                self.fill_over(snapshot, &tree, base).await?
            }
            (_, None) => {
                let filler = Filler { checkpointer: self, snapshot };
                tokio::try_join!(
                    filler.fill(Root::Workspace, &tree.workspace),
                    filler.fill(Root::Home, &tree.home),
                )?;
                self.look(&tree).await?
            }
            // It holds what nobody asked for.
            (_, Some(_)) => return Err(RestoreError::Differs { path: PathBuf::new() }),
        };
        self.last = Some(Last { snapshot, shown });
        self.keep();
        Ok(RestoreReport { tree, duration: started.elapsed() })
    }

    /// Fills a sandbox that is to be kept as it is, and answers how it shows its workspace.
    pub(super) async fn fill_whole(
        &mut self,
        snapshot: SnapshotId,
        tree: &Tree,
    ) -> Result<Listing, RestoreError> {
        Filler { checkpointer: self, snapshot }.fill(Root::Workspace, &tree.workspace).await?;
        self.look(tree).await?;
        // Once the clock has moved on, times tell what changed.
        tokio::time::sleep(TICK * 2).await;
        Ok(self.look(tree).await?.workspace)
    }

    /// Makes the workspace of another snapshot into that of this one; fills the home. Answers what
    /// the sandbox shows now: whoever kept the workspace saw to it that it shows all as it is.
    async fn fill_over(
        &mut self,
        snapshot: SnapshotId,
        tree: &Tree,
        base: Base,
    ) -> Result<Tree, RestoreError> {
        let way = Difference::between(&base.workspace, &tree.workspace);
        let way = way.ok_or(RestoreError::Differs { path: PathBuf::new() })?;
        let removals = way.removed.iter().map(|path| self.guest.remove(Root::Workspace, path));
        stream::iter(removals.collect::<Vec<_>>())
            .buffer_unordered(SIDE_BY_SIDE)
            .try_collect::<()>()
            .await?;
        let is_wanted = |entry: &ApplyEntry| {
            let path = entry.path.as_path();
            path.as_os_str().is_empty() || way.made.contains(path) || way.touched.contains(path)
        };
        let mut entries = apply_entries(&tree.workspace);
        entries.retain(|(entry, _)| is_wanted(entry));
        let filler = Filler { checkpointer: self, snapshot };
        tokio::try_join!(
            filler.put(Root::Workspace, entries),
            filler.fill(Root::Home, &tree.home),
        )?;
        let home = self.look_home(tree).await?;
        let skipped = |entry: &&Entry| !self.skips(Root::Workspace, &entry.path);
        let shown = tree.workspace.entries().iter().filter(skipped).cloned().collect();
        let workspace = Listing::from_entries(tree.workspace.root().clone(), shown)
            .map_err(|error| RestoreError::Load(LoadError::Invalid(error)))?;
        self.memory.take_workspace(base.memory, &way.made);
        Ok(Tree { workspace, home })
    }

    /// Looks at what the sandbox shows after it was filled, and remembers it, so that the next
    /// checkpoint reads only what changed since.
    async fn look(&mut self, tree: &Tree) -> Result<Tree, RestoreError> {
        let (workspace, home) = tokio::try_join!(
            self.guest.scan(Root::Workspace, &self.skip.workspace),
            self.guest.scan(Root::Home, &self.skip.home),
        )?;
        let (workspace, home) = (RootScan::check(workspace)?, RootScan::check(home)?);
        self.memory.begin(&workspace, &home);
        self.remember(Root::Workspace, &workspace, &tree.workspace)?;
        self.remember(Root::Home, &home, &tree.home)?;
        let invalid = |error| RestoreError::Load(LoadError::Invalid(error));
        let shown = Tree {
            workspace: self.memory.listing(Root::Workspace, workspace).map_err(invalid)?,
            home: self.memory.listing(Root::Home, home).map_err(invalid)?,
        };
        self.memory.end();
        Ok(shown)
    }

    /// The same for the home alone, in a sandbox of which nothing else is known yet.
    async fn look_home(&mut self, tree: &Tree) -> Result<Listing, RestoreError> {
        let home = RootScan::check(self.guest.scan(Root::Home, &self.skip.home).await?)?;
        self.memory.begin(&RootScan::nothing(), &home);
        self.remember(Root::Home, &home, &tree.home)?;
        let shown = self.memory.listing(Root::Home, home);
        self.memory.end();
        shown.map_err(|error| RestoreError::Load(LoadError::Invalid(error)))
    }

    fn remember(
        &mut self,
        root: Root,
        scan: &RootScan,
        listing: &Listing,
    ) -> Result<(), RestoreError> {
        let shown: HashMap<&Path, &ScanEntry> =
            scan.entries.iter().map(|entry| (entry.path.as_path(), entry)).collect();
        for entry in listing.entries() {
            let differs = || RestoreError::Differs { path: entry.path.clone() };
            // A folder that checkpoints skip now may be in an older snapshot.
            let Some(there) = shown.get(entry.path.as_path()) else {
                if self.skips(root, &entry.path) { continue } else { return Err(differs()) }
            };
            match (&entry.node, &there.stat.kind) {
                (Node::Dir, FileKind::Dir) => {}
                (Node::Symlink(a), FileKind::Symlink(b)) if a == b => {}
                (Node::File { content, size, .. }, FileKind::File) if *size == there.stat.size => {
                    let facts = Facts::of(&there.stat);
                    self.memory.learn(root, entry.path.clone(), facts, *content);
                }
                _ => return Err(differs()),
            }
        }
        Ok(())
    }

    fn skips(&self, root: Root, path: &Path) -> bool {
        let rules = if root == Root::Home { &self.skip.home } else { &self.skip.workspace };
        rules.iter().any(|rule| path.starts_with(rule))
    }
}
