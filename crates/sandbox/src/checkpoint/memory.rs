pub(super) mod kept;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use moat_core::BlobId;
use moat_snapshot::{Entry, InvalidTree, LinkGroup, Listing, Meta, Node};

use crate::{FileKind, FileStat, GuestError, MappedFiles, Root, ScanEntry};

/// Twice the longest time for which a kernel gives the same time to two changes (10 ms at 100 Hz).
pub(super) const TICK: Duration = Duration::from_millis(20);
/// The same for file systems that keep whole seconds only.
const COARSE_TICK: Duration = Duration::from_secs(2);

/// What is known about the contents of a sandbox's files.
#[derive(Default)]
pub(super) struct Memory {
    workspace: HashMap<PathBuf, Seen>,
    home: HashMap<PathBuf, Seen>,
    /// When the scan before this one had ended.
    before: Option<Instant>,
    /// From this time on (by the sandbox's clock), changes may have the times of what was seen.
    unsettled_from: i64,
    /// Whether what was unsettled in the scan before is settled by now.
    settled: bool,
    /// Files that are written without any of their times changing.
    mapped: MappedFiles,
    /// Something was learned or forgotten since the last time that this was asked.
    changed: bool,
}

/// A content, and the facts under which it was read.
struct Seen {
    facts: Facts,
    content: BlobId,
    /// It could have changed afterwards without its facts changing.
    unsettled: bool,
    /// It was in the scan that is going on.
    current: bool,
}

/// What changes when a file's content does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
    inode: u64,
}

impl Facts {
    pub(super) fn of(stat: &FileStat) -> Self {
        Self {
            size: stat.size,
            mtime_ns: stat.mtime_ns,
            ctime_ns: stat.ctime_ns,
            inode: stat.inode,
        }
    }
}

impl Memory {
    /// Before the files of a scan are looked up.
    ///
    /// A file that changes right after it was read may keep its times, because clocks tick. Which
    /// files that can happen to is judged without asking for the sandbox's clock: it had passed the
    /// newest time that the scan shows.
    pub(super) fn begin(&mut self, workspace: &RootScan, home: &RootScan) {
        let stats = || workspace.entries.iter().chain(&home.entries).map(|entry| &entry.stat);
        let coarse = stats().all(|stat| stat.ctime_ns % 1_000_000_000 == 0);
        let tick = if coarse { COARSE_TICK } else { TICK };
        let newest = stats().map(|stat| stat.ctime_ns).max().unwrap_or_default();
        self.unsettled_from = newest.saturating_sub(tick.as_nanos() as i64);
        self.mapped = MappedFiles::default();
        self.settled = self.before.is_some_and(|before| before.elapsed() > tick);
        for seen in self.workspace.values_mut().chain(self.home.values_mut()) {
            seen.current = false;
        }
    }

    /// These files are written in memory: neither what was known of them holds, nor will what is
    /// read now, since they may be written until they are let go of.
    pub(super) fn distrust(&mut self, mapped: MappedFiles) {
        self.mapped = mapped;
    }

    /// The content of a file, if it is the same for sure; it is then kept for the next scan.
    pub(super) fn recall(&mut self, root: Root, path: &Path, facts: Facts) -> Option<BlobId> {
        let mapped = self.mapped.may_hold(facts.inode);
        let seen = self.root(root).get_mut(path)?;
        if seen.facts != facts || seen.unsettled || mapped {
            return None;
        }
        seen.current = true;
        Some(seen.content)
    }

    /// A content that was read while the scan's moment lasted.
    pub(super) fn learn(&mut self, root: Root, path: PathBuf, facts: Facts, content: BlobId) {
        let was_seen = self.root(root).get(&path).is_some_and(|seen| seen.facts == facts);
        // Read again after the clock had moved on: any later change has a later time.
        let settled = was_seen && self.settled;
        let just_changed = facts.ctime_ns >= self.unsettled_from && !settled;
        let unsettled = just_changed || self.mapped.may_hold(facts.inode);
        self.root(root).insert(path, Seen { facts, content, unsettled, current: true });
        self.changed = true;
    }

    /// Whether something was learned or forgotten since this was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// After the scan: forgets files that are not there any more.
    pub(super) fn end(&mut self) {
        let known = self.workspace.len() + self.home.len();
        self.workspace.retain(|_, seen| seen.current);
        self.home.retain(|_, seen| seen.current);
        self.changed |= known != self.workspace.len() + self.home.len();
        self.before = Some(Instant::now());
    }

    /// Forgets these files of the workspace.
    pub(super) fn forget(&mut self, paths: &HashSet<PathBuf>) {
        self.workspace.retain(|path, _| !paths.contains(path));
    }

    /// Knows what is known of a workspace that this one lies over.
    pub(super) fn take_workspace(&mut self, base: Self) {
        self.workspace = base.workspace;
        self.changed = true;
    }

    fn content(&self, root: Root, path: &Path) -> Option<BlobId> {
        let seen = if root == Root::Home { &self.home } else { &self.workspace };
        seen.get(path).map(|seen| seen.content)
    }

    fn root(&mut self, root: Root) -> &mut HashMap<PathBuf, Seen> {
        if root == Root::Home { &mut self.home } else { &mut self.workspace }
    }

    /// The tree that a scan showed, once all its contents are known.
    pub(super) fn listing(&self, root: Root, scan: RootScan) -> Result<Listing, InvalidTree> {
        let groups = scan.groups();
        let mut entries = Vec::with_capacity(scan.entries.len());
        for ScanEntry { path, stat } in scan.entries {
            let meta = meta_of(&stat);
            let node = match stat.kind {
                FileKind::Dir => Node::Dir,
                FileKind::Symlink(target) => Node::Symlink(target),
                FileKind::File => match self.content(root, &path) {
                    Some(content) => {
                        let link = groups.get(&stat.inode).copied().flatten();
                        Node::File { content, size: stat.size, link }
                    }
                    None => continue,
                },
                FileKind::Other => continue,
            };
            entries.push(Entry { path, meta, node });
        }
        Listing::from_entries(scan.root, entries)
    }
}

/// A root as the guest showed it, its own entry taken out.
pub(super) struct RootScan {
    root: Meta,
    pub(super) entries: Vec<ScanEntry>,
    /// Pipes, sockets and devices among them.
    pub(super) special: u64,
}

impl RootScan {
    /// Of a root that was not looked at.
    pub(super) fn nothing() -> Self {
        Self { root: Meta::folder(), entries: Vec::new(), special: 0 }
    }

    /// Takes a scan apart. Paths are checked when it becomes a listing.
    pub(super) fn check(mut entries: Vec<ScanEntry>) -> Result<Self, GuestError> {
        let is_root = |entry: &ScanEntry| {
            entry.path.as_os_str().is_empty() && entry.stat.kind == FileKind::Dir
        };
        if !entries.first().is_some_and(is_root) {
            return Err(GuestError::Protocol("a scan has to begin with its root".into()));
        }
        let root = entries.remove(0);
        let special = entries.iter().filter(|e| e.stat.kind == FileKind::Other).count() as u64;
        Ok(Self { root: meta_of(&root.stat), entries, special })
    }

    /// Files that have several names here, by inode. Names that do not agree about everything are
    /// no names of one file, whatever the guest says.
    pub(super) fn groups(&self) -> HashMap<u64, Option<LinkGroup>> {
        let mut first: HashMap<u64, (&ScanEntry, usize, bool)> = HashMap::new();
        let linked = |entry: &&ScanEntry| entry.stat.kind == FileKind::File && entry.stat.links > 1;
        for entry in self.entries.iter().filter(linked) {
            let group = first.entry(entry.stat.inode).or_insert((entry, 0, true));
            group.1 += 1;
            group.2 &= group.0.stat == entry.stat;
        }
        let groups = first.into_iter().map(|(inode, (entry, names, agree))| {
            (inode, (agree && names > 1).then(|| LinkGroup::of(&entry.path)))
        });
        groups.collect()
    }
}

fn meta_of(stat: &FileStat) -> Meta {
    Meta {
        mode: stat.mode & 0o7777,
        uid: stat.uid,
        gid: stat.gid,
        mtime_ns: stat.mtime_ns,
        xattrs: stat.xattrs.clone(),
    }
}

#[cfg(test)]
mod tests;
