use std::cmp::Ordering;
use std::fmt;
use std::path::{Path, PathBuf};

use moat_core::BlobId;
use serde::{Deserialize, Serialize};

use crate::tree::{Entry, Listing, Node, Tree, order};

/// One of the folders that a snapshot covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootName {
    /// The home folder.
    Home,
    /// The workspace.
    Workspace,
}

impl RootName {
    /// Its name in stored roots.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Workspace => "workspace",
        }
    }

    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"home" => Some(Self::Home),
            b"workspace" => Some(Self::Workspace),
            _ => None,
        }
    }
}

impl fmt::Display for RootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a path differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// Another content or link target.
    Modified,
    /// Another mode, owner or attribute; the content is the same.
    Mode,
    /// A file became a folder or link, or the other way round.
    Type,
}

impl ChangeKind {
    /// The stable word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Modified => "modified",
            Self::Mode => "mode",
            Self::Type => "type",
        }
    }
}

/// What a content looks like, by its first 8,000 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentKind {
    /// UTF-8 without zero bytes.
    Text,
    /// Anything else.
    Binary,
}

impl ContentKind {
    /// Judges the beginning of a content; the last character may be cut.
    pub fn of(head: &[u8]) -> Self {
        let cut_only = match std::str::from_utf8(head) {
            Ok(_) => true,
            Err(error) => error.error_len().is_none(),
        };
        if cut_only && !head.contains(&0) { Self::Text } else { Self::Binary }
    }
}

/// A path that differs between two trees. Times alone are no difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub root: RootName,
    /// Relative to the root; empty for the root itself.
    pub path: PathBuf,
    /// How.
    pub kind: ChangeKind,
    /// What was there. Absent for the root itself.
    pub before: Option<Entry>,
    /// What is there. Absent for the root itself.
    pub after: Option<Entry>,
    /// What the content looks like: of the later file if there is one. Only
    /// [`crate::Snapshots::diff`] knows; absent where no side is a file.
    pub content: Option<ContentKind>,
}

impl Change {
    /// The file whose content tells text from binary: the later one, else the one before.
    pub(crate) fn told_by(&self) -> Option<BlobId> {
        let content = |entry: &Option<Entry>| match entry.as_ref()?.node {
            Node::File { content, size, .. } if size > 0 => Some(content),
            _ => None,
        };
        content(&self.after).or_else(|| content(&self.before))
    }

    /// Whether either side is a regular file.
    pub(crate) fn has_file(&self) -> bool {
        [&self.before, &self.after]
            .into_iter()
            .flatten()
            .any(|entry| matches!(entry.node, Node::File { .. }))
    }
}

impl Tree {
    /// How `later` differs from this tree, in the order of listings, home first. Whether contents
    /// are text is not filled in.
    pub fn changes(&self, later: &Self) -> Vec<Change> {
        let mut changes = listing_changes(RootName::Home, &self.home, &later.home);
        changes.extend(listing_changes(RootName::Workspace, &self.workspace, &later.workspace));
        changes
    }
}

fn listing_changes(root: RootName, before: &Listing, after: &Listing) -> Vec<Change> {
    let mut changes = Vec::new();
    let (a, b) = (before.root(), after.root());
    if (a.mode, a.uid, a.gid, &a.xattrs) != (b.mode, b.uid, b.gid, &b.xattrs) {
        changes.push(change(root, Path::new(""), ChangeKind::Mode, None, None));
    }
    let mut left = before.entries().iter().peekable();
    let mut right = after.entries().iter().peekable();
    loop {
        let side = match (left.peek(), right.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => order(&a.path, &b.path),
        };
        let a = if side.is_le() { left.next() } else { None };
        let b = if side.is_ge() { right.next() } else { None };
        let Some(one) = a.or(b) else { return changes };
        if let Some(kind) = kind_of(a, b) {
            changes.push(change(root, &one.path, kind, a.cloned(), b.cloned()));
        }
    }
}

fn change(
    root: RootName,
    path: &Path,
    kind: ChangeKind,
    before: Option<Entry>,
    after: Option<Entry>,
) -> Change {
    Change { root, path: path.to_owned(), kind, before, after, content: None }
}

fn kind_of(before: Option<&Entry>, after: Option<&Entry>) -> Option<ChangeKind> {
    let (before, after) = match (before, after) {
        (None, None) => return None,
        (None, Some(_)) => return Some(ChangeKind::Added),
        (Some(_), None) => return Some(ChangeKind::Removed),
        (Some(before), Some(after)) => (before, after),
    };
    match (&before.node, &after.node) {
        (Node::File { content: a, .. }, Node::File { content: b, .. }) if a != b => {
            return Some(ChangeKind::Modified);
        }
        (Node::Symlink(a), Node::Symlink(b)) if a != b => return Some(ChangeKind::Modified),
        (Node::File { .. }, Node::File { .. })
        | (Node::Symlink(_), Node::Symlink(_))
        | (Node::Dir, Node::Dir) => {}
        _ => return Some(ChangeKind::Type),
    }
    let facts = |entry: &Entry| (entry.meta.mode, entry.meta.uid, entry.meta.gid);
    let same = facts(before) == facts(after)
        && before.meta.xattrs == after.meta.xattrs
        && link(before) == link(after);
    (!same).then_some(ChangeKind::Mode)
}

/// A file that became a name of another one is a change, even if their bytes are the same.
fn link(entry: &Entry) -> Option<crate::LinkGroup> {
    match entry.node {
        Node::File { link, .. } => link,
        _ => None,
    }
}
