use std::collections::HashMap;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt, stream};
use moat_core::SnapshotId;
use moat_snapshot::{Listing, LoadError, Node, Tree};
use tokio::sync::oneshot;

use super::base::{Over, Rest};
use super::fill::Filler;
use super::filling::{Filling, How, whole};
use super::memory::{Facts, Memory, RootScan, TICK};
use super::{Checkpointer, Last, RestoreError};
use crate::{FileKind, Root, ScanEntry};

/// Paths that are removed at a time.
const SIDE_BY_SIDE: usize = 8;

/// What is still being read of the snapshot that a sandbox was filled from.
pub(super) struct Resting {
    snapshot: SnapshotId,
    /// How the sandbox shows it.
    home: Listing,
    /// Nothing is read any more once this is dropped.
    reading: oneshot::Receiver<Option<Rest>>,
}

impl Checkpointer {
    /// Fills an empty sandbox. Every content's hash is checked: a file whose content is damaged
    /// fails the restore.
    pub async fn restore(&mut self, snapshot: SnapshotId) -> Result<(), RestoreError> {
        let how = How::Whole(self.snapshots.load(snapshot).await?);
        self.fill_from(Filling { snapshot, seed: None, how, not_kept: None }, None).await
    }

    /// Fills a sandbox that was made for this, which lies over what it says that it does
    /// ([`crate::Sandbox::base`]).
    pub async fn fill_from(
        &mut self,
        filling: Filling,
        over: Option<SnapshotId>,
    ) -> Result<(), RestoreError> {
        self.memory = Memory::default();
        self.last = None;
        self.resting = None;
        let Filling { snapshot, seed, how, .. } = filling;
        let tree = match (how, over) {
            (How::Over(planned), Some(over)) if planned.base == over => {
                return self.fill_over(snapshot, *planned).await;
            }
            (How::Whole(tree), None) => tree,
            (How::Over(_), None) => whole(&self.snapshots, snapshot, seed).await?,
            // It holds what nobody asked for.
            (_, Some(_)) => return Err(RestoreError::Differs { path: PathBuf::new() }),
        };
        let filler = Filler { checkpointer: self, snapshot };
        tokio::try_join!(
            filler.fill(Root::Workspace, &tree.workspace),
            filler.fill(Root::Home, &tree.home),
        )?;
        let shown = self.look(&tree).await?;
        self.last = Some(Last { snapshot, shown });
        self.keep();
        Ok(())
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

    /// Makes the workspace of another snapshot into that of this one; fills the home. What the
    /// sandbox shows then is not looked at: whoever kept the workspace saw to it that it shows all
    /// as it is.
    async fn fill_over(&mut self, snapshot: SnapshotId, over: Over) -> Result<(), RestoreError> {
        let Over { way, home, rest, .. } = over;
        let removals = way.removed.iter().map(|path| self.guest.remove(Root::Workspace, path));
        stream::iter(removals.collect::<Vec<_>>())
            .buffer_unordered(SIDE_BY_SIDE)
            .try_collect::<()>()
            .await?;
        let filler = Filler { checkpointer: self, snapshot };
        tokio::try_join!(filler.put(Root::Workspace, way.entries), filler.fill(Root::Home, &home),)?;
        let home = self.look_home(&home).await?;
        // Beside what uses the sandbox from now on, which is not to wait for it.
        let (mut sender, reading) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        let read = async move {
            tokio::select! {
                rest = rest => drop(sender.send(rest)),
                () = sender.closed() => {}
            }
        };
        tokio::task::spawn_blocking(move || runtime.block_on(read));
        self.resting = Some(Resting { snapshot, home, reading });
        Ok(())
    }

    /// Waits for what is still being read of the snapshot that it was filled from. Where that
    /// fails, the checkpoint that comes next reads every file and stores what is missing.
    pub(super) async fn settle(&mut self) {
        let Some(resting) = &mut self.resting else { return };
        let read = (&mut resting.reading).await;
        let Some(Resting { snapshot, home, .. }) = self.resting.take() else { return };
        let Ok(Some(Rest { workspace, memory })) = read else { return };
        let shown = workspace.only(|path| !self.skips(Root::Workspace, path));
        if let Ok(workspace) = shown {
            self.memory.take_workspace(memory);
            self.last = Some(Last { snapshot, shown: Tree { workspace, home } });
        }
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
    async fn look_home(&mut self, listing: &Listing) -> Result<Listing, RestoreError> {
        let home = RootScan::check(self.guest.scan(Root::Home, &self.skip.home).await?)?;
        self.memory.begin(&RootScan::nothing(), &home);
        self.remember(Root::Home, &home, listing)?;
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
