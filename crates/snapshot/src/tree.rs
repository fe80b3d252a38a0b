mod links;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use moat_core::BlobId;

use crate::InvalidTree;
pub use links::LinkGroup;

/// Bytes of the longest path beneath a root.
pub(crate) const MAX_PATH: usize = 4096;
/// Bytes of the longest name.
pub(crate) const MAX_NAME: usize = 255;
/// Bytes of all extended attributes of one path, names and values.
pub(crate) const MAX_XATTRS: usize = 128 * 1024;
/// Paths in one root.
pub(crate) const MAX_ENTRIES: usize = 8_000_000;

/// All files of a sandbox that a snapshot covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// What is in `/workspace`.
    pub workspace: Listing,
    /// What is in the home folder.
    pub home: Listing,
}

impl Tree {
    /// Two empty folders, owned by the sandbox's user.
    pub fn empty() -> Self {
        Self { workspace: Listing::new(Meta::folder()), home: Listing::new(Meta::folder()) }
    }

    /// Regular files in it.
    pub fn files(&self) -> u64 {
        self.workspace.files() + self.home.files()
    }

    /// Bytes of those files, each name of a hardlinked file counted.
    pub fn bytes(&self) -> u64 {
        self.workspace.bytes().saturating_add(self.home.bytes())
    }

    /// Checks all that [`crate::Snapshots::commit`] asks of a tree.
    pub fn validate(&self) -> Result<(), InvalidTree> {
        self.workspace.validate()?;
        self.home.validate()
    }
}

/// A root: itself and every path beneath it, parents before children, names in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    root: Meta,
    entries: Vec<Entry>,
}

impl Listing {
    /// An empty root.
    pub fn new(root: Meta) -> Self {
        Self { root, entries: Vec::new() }
    }

    /// A root with these paths, in any order.
    ///
    /// # Errors
    ///
    /// If two have the same path, one has no folder above it, or anything else that a snapshot
    /// cannot hold.
    pub fn from_entries(root: Meta, mut entries: Vec<Entry>) -> Result<Self, InvalidTree> {
        if !entries.is_sorted_by(|a, b| order(&a.path, &b.path) == Ordering::Less) {
            entries.sort_by(|a, b| order(&a.path, &b.path));
        }
        let listing = Self { root, entries };
        listing.validate()?;
        Ok(listing)
    }

    /// What loading and other code of this crate that already keeps the order has put together.
    pub(crate) fn from_sorted(root: Meta, entries: Vec<Entry>) -> Self {
        Self { root, entries }
    }

    /// Those paths of which `shown` says so, as a scan shows them that sees no others: of a file's
    /// names those stay tied that are left. A folder that goes takes along what is in it, or there
    /// is no such listing.
    ///
    /// # Errors
    ///
    /// If a path stays and a folder above it does not.
    pub fn only(&self, shown: impl Fn(&Path) -> bool) -> Result<Self, InvalidTree> {
        let is_shown = |entry: &&Entry| shown(&entry.path);
        let mut entries: Vec<_> = self.entries.iter().filter(is_shown).cloned().collect();
        if entries.len() != self.entries.len() {
            links::retie(&mut entries);
        }
        Self::from_entries(self.root.clone(), entries)
    }

    /// The same with the paths of another listing beside its own, which win: of the other's, those
    /// are left out that are here as well, or for which there is no place, since something else than
    /// a folder is here above them.
    ///
    /// # Errors
    ///
    /// If a path of the other has no folder above it, here or there.
    pub fn beside(&self, other: &Self) -> Result<Self, InvalidTree> {
        let has_place = |entry: &&Entry| {
            let above = entry.path.ancestors().skip(1).filter_map(|path| self.get(path));
            let mut blocked = above.filter(|above| above.node != Node::Dir);
            self.get(&entry.path).is_none() && blocked.next().is_none()
        };
        let mut added: Vec<_> = other.entries.iter().filter(has_place).cloned().collect();
        links::retie(&mut added);
        let entries = self.entries.iter().cloned().chain(added).collect();
        Self::from_entries(self.root.clone(), entries)
    }

    /// Metadata of the root itself.
    pub fn root(&self) -> &Meta {
        &self.root
    }

    /// Every path beneath the root, parents first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is at a path.
    pub fn get(&self, path: &Path) -> Option<&Entry> {
        let found = self.entries.binary_search_by(|entry| order(&entry.path, path)).ok()?;
        self.entries.get(found)
    }

    /// Regular files in it.
    pub fn files(&self) -> u64 {
        self.entries.iter().filter(|entry| matches!(entry.node, Node::File { .. })).count() as u64
    }

    /// Bytes of those files.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().fold(0, |sum: u64, entry| match entry.node {
            Node::File { size, .. } => sum.saturating_add(size),
            _ => sum,
        })
    }

    pub(crate) fn validate(&self) -> Result<(), InvalidTree> {
        if self.entries.len() > MAX_ENTRIES {
            return Err(InvalidTree::TooMany { limit: MAX_ENTRIES });
        }
        self.root.validate(Path::new(""))?;
        let mut previous: Option<&Entry> = None;
        let mut parents = ParentCheck::default();
        for entry in &self.entries {
            if previous.is_some_and(|p| order(&p.path, &entry.path) != Ordering::Less) {
                return Err(InvalidTree::Duplicate { path: entry.path.clone() });
            }
            check_path(&entry.path)?;
            entry.meta.validate(&entry.path)?;
            entry.node.validate(&entry.path)?;
            parents.check(entry)?;
            previous = Some(entry);
        }
        links::validate(&self.entries)
    }
}

/// The folders that are open at a point of a walk.
#[derive(Default)]
struct ParentCheck<'a> {
    open: Vec<&'a Path>,
}

impl<'a> ParentCheck<'a> {
    fn check(&mut self, entry: &'a Entry) -> Result<(), InvalidTree> {
        let parent = parent_of(&entry.path);
        while self.open.last().is_some_and(|open| open.as_os_str() != parent.as_os_str()) {
            self.open.pop();
        }
        if self.open.is_empty() && !parent.as_os_str().is_empty() {
            return Err(InvalidTree::NoParent { path: entry.path.clone() });
        }
        if matches!(entry.node, Node::Dir) {
            self.open.push(&entry.path);
        }
        Ok(())
    }
}

/// One path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to its root; never empty.
    pub path: PathBuf,
    /// What every kind of path has.
    pub meta: Meta,
    /// What it is.
    pub node: Node,
}

/// What every kind of path has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with set-uid, set-gid and sticky (twelve bits).
    pub mode: u32,
    /// Owner, as seen inside the sandbox.
    pub uid: u32,
    /// Group, as seen inside the sandbox.
    pub gid: u32,
    /// Last change of the content: nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Meta {
    /// The sandbox's user and group, 1000, with this mode and no time.
    pub fn with_mode(mode: u32) -> Self {
        Self { mode, uid: 1000, gid: 1000, mtime_ns: 0, xattrs: BTreeMap::new() }
    }

    /// A folder that only its owner may change.
    pub fn folder() -> Self {
        Self::with_mode(0o755)
    }

    fn validate(&self, path: &Path) -> Result<(), InvalidTree> {
        let bytes: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let named = self.xattrs.keys().all(|name| (1..=MAX_NAME).contains(&name.len()));
        if self.mode > 0o7777 || bytes > MAX_XATTRS || !named {
            return Err(InvalidTree::Metadata { path: path.to_owned() });
        }
        Ok(())
    }
}

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Dir,
    /// A regular file.
    File {
        /// The keyed hash of its whole content.
        content: BlobId,
        /// Bytes.
        size: u64,
        /// The same for all names of one file; absent if it has only this one.
        link: Option<LinkGroup>,
    },
    /// A symbolic link and the bytes of its target.
    Symlink(PathBuf),
}

impl Node {
    fn validate(&self, path: &Path) -> Result<(), InvalidTree> {
        match self {
            Self::Symlink(target) => {
                let target = target.as_os_str().as_bytes();
                if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
                    return Err(InvalidTree::LinkTarget { path: path.to_owned() });
                }
                Ok(())
            }
            Self::Dir | Self::File { .. } => Ok(()),
        }
    }
}

/// The order of a listing: by parts, each in byte order, which puts a folder before what is in it.
pub(crate) fn order(a: &Path, b: &Path) -> Ordering {
    let (a, b) = (a.as_os_str().as_bytes(), b.as_os_str().as_bytes());
    // A separator sorts before every byte that a name can have; zero is in no name.
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    match a.iter().zip(b).find(|(a, b)| a != b) {
        Some((a, b)) => key(a).cmp(&key(b)),
        None => a.len().cmp(&b.len()),
    }
}

/// The path above, by its text alone.
pub(crate) fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Accepts `a/b/c` and nothing that is absolute, empty, has dots for parts or is too long.
pub(crate) fn check_path(path: &Path) -> Result<(), InvalidTree> {
    let bytes = path.as_os_str().as_bytes();
    let fits = (1..=MAX_PATH).contains(&bytes.len());
    if fits && bytes.split(|byte| *byte == b'/').all(is_name) {
        return Ok(());
    }
    Err(InvalidTree::Path { path: path.to_owned() })
}

/// Whether a folder can hold this name.
pub(crate) fn is_name(name: &[u8]) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name != b"."
        && name != b".."
        && !name.contains(&0)
        && !name.contains(&b'/')
}

#[cfg(test)]
mod tests;
