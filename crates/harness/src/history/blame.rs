//! Which checkpoint made a line what it is.

use std::path::{Path, PathBuf};

use moat_core::{BlobId, SnapshotId};
use moat_snapshot::{Entry, LoadError, Node, Snapshots, Tree};
use similar::{ChangeTag, TextDiff};

use super::Moment;

/// Bytes of the largest file whose lines are followed.
const LARGEST: u64 = 8 << 20;
/// The share of lines from which on a file that came is a file that went, under another name: git's.
const ALIKE: f32 = 0.5;
/// Files that went and are compared with one that came.
const MOST_COMPARED: usize = 32;

/// Where a line comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blame {
    /// It was there before the run's first call.
    Start,
    /// The moment, by its place in the list, made it; `path` is what the file was called then.
    Made {
        /// The place.
        moment: usize,
        /// The file's name then.
        path: PathBuf,
        /// The line.
        line: String,
    },
}

/// Why a line could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum BlameError {
    /// There is no such file at the end of the run.
    #[error("there is no file `{}` in the run's workspace", path.display())]
    NoFile {
        /// What was asked for.
        path: PathBuf,
    },
    /// The file has fewer lines.
    #[error("`{}` has {lines} lines, so it has no line {line}", path.display())]
    NoLine {
        /// The file.
        path: PathBuf,
        /// Its lines.
        lines: usize,
        /// What was asked for, from 1.
        line: usize,
    },
    /// Lines are followed in text of moderate size only.
    #[error("`{}` is no text of at most 8 MiB; ask without a line", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
    },
    /// A snapshot could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// The moments at which a path of the workspace was made, changed or removed, by their places in
/// the list.
pub async fn touched(
    snapshots: &Snapshots,
    moments: &[Moment],
    path: &Path,
) -> Result<Vec<usize>, BlameError> {
    let mut found = Vec::new();
    for (place, moment) in moments.iter().enumerate() {
        if !moment.may_have_changed(path) {
            continue;
        }
        let after = entry(&tree(snapshots, moment.snapshot).await?, path);
        let before = match moment.before {
            Some(before) => entry(&tree(snapshots, before).await?, path),
            None => None,
        };
        if !same(before.as_ref(), after.as_ref()) {
            found.push(place);
        }
    }
    Ok(found)
}

/// Times alone are no difference.
fn same(before: Option<&Entry>, after: Option<&Entry>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            before.node == after.node && before.meta.mode == after.meta.mode
        }
        (before, after) => before.is_none() && after.is_none(),
    }
}

/// Follows a line of a file of the workspace, as it is at the last moment, back to where it was
/// written. `line` counts from 1. A file that got another name is followed under
/// the old one.
pub async fn blame(
    snapshots: &Snapshots,
    moments: &[Moment],
    path: &Path,
    line: usize,
) -> Result<Blame, BlameError> {
    let mut path = path.to_owned();
    let none = || BlameError::NoFile { path: path.clone() };
    let last = moments.last().ok_or_else(none)?;
    let mut now = file_at(snapshots, last.snapshot, &path).await?.ok_or_else(none)?;
    let mut text = text_of(snapshots, now, &path).await?;
    let lines = text.lines().count();
    if line == 0 || line > lines {
        return Err(BlameError::NoLine { path, lines, line });
    }
    let mut index = line - 1;
    for (place, moment) in moments.iter().enumerate().rev() {
        let Some(before) = moment.before else { break };
        if !moment.may_have_changed(&path) {
            continue;
        }
        let tree = tree(snapshots, before).await?;
        let line = text.lines().nth(index).unwrap_or_default().to_owned();
        let made = Blame::Made { moment: place, path: path.clone(), line };
        let earlier = match content(&tree, &path) {
            Some(content) => Some((path.clone(), content)),
            None => renamed_from(snapshots, moment.snapshot, &tree, (&path, now, &text)).await?,
        };
        let Some((name, earlier)) = earlier else { return Ok(made) };
        if earlier != now {
            let old = match text_of(snapshots, earlier, &name).await {
                Err(BlameError::NoText { .. }) => return Ok(made),
                read => read?,
            };
            let Some(there) = line_before(&old, &text, index) else { return Ok(made) };
            (index, text, now) = (there, old, earlier);
        }
        path = name;
    }
    Ok(Blame::Start)
}

/// Where a line of `new` was in `old`, if it was there as it is.
fn line_before(old: &str, new: &str, line: usize) -> Option<usize> {
    let difference = TextDiff::from_lines(old, new);
    let mut changes = difference.iter_all_changes();
    let change = changes.find(|change| change.new_index() == Some(line))?;
    if change.tag() == ChangeTag::Equal { change.old_index() } else { None }
}

/// The name that a file had before, if it got another one: of the files that are gone, the one with
/// the same content, else the one that is most alike, as long as half of its lines are.
async fn renamed_from(
    snapshots: &Snapshots,
    after: SnapshotId,
    before: &Tree,
    (path, wanted, text): (&Path, BlobId, &str),
) -> Result<Option<(PathBuf, BlobId)>, BlameError> {
    let after = tree(snapshots, after).await?;
    let entries = before.workspace.entries().iter();
    let files = entries.filter_map(|entry| match entry.node {
        Node::File { content, .. } => Some((&entry.path, content)),
        _ => None,
    });
    let mut gone: Vec<_> = files.filter(|(old, _)| after.workspace.get(old).is_none()).collect();
    if let Some((old, content)) = gone.iter().find(|(_, content)| *content == wanted) {
        return Ok(Some(((*old).clone(), *content)));
    }
    // A file that only moved to another folder is the likeliest.
    gone.sort_by_key(|(old, _)| old.file_name() != path.file_name());
    let mut best: Option<(f32, PathBuf, BlobId)> = None;
    for (old, content) in gone.into_iter().take(MOST_COMPARED) {
        let earlier = match text_of(snapshots, content, old).await {
            Err(BlameError::NoText { .. }) => continue,
            read => read?,
        };
        let alike = TextDiff::from_lines(earlier.as_str(), text).ratio();
        if alike >= ALIKE && best.as_ref().is_none_or(|(most, ..)| alike > *most) {
            best = Some((alike, old.clone(), content));
        }
    }
    Ok(best.map(|(_, old, content)| (old, content)))
}

async fn tree(snapshots: &Snapshots, snapshot: SnapshotId) -> Result<Tree, BlameError> {
    Ok(snapshots.load(snapshot).await?)
}

fn entry(tree: &Tree, path: &Path) -> Option<Entry> {
    tree.workspace.get(path).cloned()
}

fn content(tree: &Tree, path: &Path) -> Option<BlobId> {
    match tree.workspace.get(path)?.node {
        Node::File { content, .. } => Some(content),
        _ => None,
    }
}

async fn file_at(
    snapshots: &Snapshots,
    snapshot: SnapshotId,
    path: &Path,
) -> Result<Option<BlobId>, BlameError> {
    Ok(content(&tree(snapshots, snapshot).await?, path))
}

async fn text_of(
    snapshots: &Snapshots,
    content: BlobId,
    path: &Path,
) -> Result<String, BlameError> {
    let none = || BlameError::NoText { path: path.to_owned() };
    // A content beyond the limit, like one that is no text, has no lines to follow.
    let head = snapshots.read_part(content, LARGEST, 1).await?;
    if !head.is_empty() {
        return Err(none());
    }
    let bytes = snapshots.read_file(content, LARGEST).await?;
    String::from_utf8(bytes).map_err(|_| none())
}
