//! What has to be done to a workspace that lies over another snapshot's files.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use moat_snapshot::{Entry, LinkGroup, Listing, Node};

use super::fill::{Planned, apply_entries};

/// How one workspace is made into another.
pub(super) struct Way {
    /// Paths that go, none beneath another.
    pub(super) removed: Vec<PathBuf>,
    /// Paths whose contents are others than before.
    pub(super) made: HashSet<PathBuf>,
    /// What is put there then.
    pub(super) entries: Vec<Planned>,
}

/// How two listings differ.
#[derive(Debug, Default)]
pub(super) struct Difference<'a> {
    /// Paths that go, none beneath another.
    pub(super) removed: Vec<&'a Path>,
    /// Paths that are made anew.
    pub(super) made: HashSet<&'a Path>,
    /// Folders beside those whose modes, owners and times are set again.
    pub(super) touched: BTreeSet<&'a Path>,
    /// How many paths are not there any more.
    pub(super) gone: usize,
    /// Bytes of the files that are made.
    pub(super) bytes: u64,
    /// Some of the files have other names as well.
    pub(super) has_links: bool,
}

impl<'a> Difference<'a> {
    /// `None`: there is no such way, since an attribute of a folder would have to be taken away.
    pub(super) fn between(from: &'a Listing, to: &'a Listing) -> Option<Self> {
        let before: HashMap<&Path, &Entry> =
            from.entries().iter().map(|entry| (entry.path.as_path(), entry)).collect();
        let found = |entry: &Entry| before.get(entry.path.as_path()).copied();
        let other = || to.entries().iter().filter(|entry| found(entry) != Some(entry));
        // The names of one file are one thing.
        let torn: HashSet<LinkGroup> = other().filter_map(group).collect();
        let has_links = !torn.is_empty();
        let is_torn = |entry: &&Entry| {
            found(entry) == Some(entry) && group(entry).is_some_and(|group| torn.contains(&group))
        };
        let mut difference = Self { has_links, ..Self::default() };
        for entry in other().chain(to.entries().iter().filter(is_torn)) {
            let path = entry.path.as_path();
            match found(entry) {
                Some(old) if old.node == Node::Dir && entry.node == Node::Dir => {
                    if !old.meta.xattrs.keys().all(|name| entry.meta.xattrs.contains_key(name)) {
                        return None;
                    }
                    difference.touched.insert(path);
                    continue;
                }
                Some(_) => difference.removed.push(path),
                None => {}
            }
            difference.made.insert(path);
            difference.touched.extend(path.parent());
            if let Node::File { size, .. } = entry.node {
                difference.bytes = difference.bytes.saturating_add(size);
            }
        }
        for entry in from.entries().iter().filter(|entry| to.get(&entry.path).is_none()) {
            difference.gone += 1;
            difference.removed.push(&entry.path);
            difference.touched.extend(entry.path.parent());
        }
        difference.settle(to);
        Some(difference)
    }

    /// What to do to come to `to`.
    pub(super) fn way(&self, to: &Listing) -> Way {
        let is_wanted = |path: &Path| {
            path.as_os_str().is_empty() || self.made.contains(path) || self.touched.contains(path)
        };
        Way {
            removed: self.removed.iter().map(|path| path.to_path_buf()).collect(),
            made: self.made.iter().map(|path| path.to_path_buf()).collect(),
            entries: apply_entries(to, is_wanted),
        }
    }

    /// Leaves out what goes with a folder above it, and folders that are not there in the end.
    fn settle(&mut self, to: &Listing) {
        let all: HashSet<&Path> = self.removed.iter().copied().collect();
        self.removed.retain(|path| !path.ancestors().skip(1).any(|above| all.contains(above)));
        let is_folder = |path: &Path| to.get(path).is_some_and(|found| found.node == Node::Dir);
        let made = &self.made;
        self.touched.retain(|path| is_folder(path) && !made.contains(path));
    }
}

fn group(entry: &Entry) -> Option<LinkGroup> {
    match entry.node {
        Node::File { link, .. } => link,
        Node::Dir | Node::Symlink(_) => None,
    }
}
