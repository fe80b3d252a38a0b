//! How large a difference is.

use moat_core::SnapshotId;
use moat_harness::machine::State;
use moat_snapshot::{Change, ContentKind, Entry, Node};
use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use super::{MAX_DIFFED, shown_changes, text_of};
use crate::engine::Engine;

/// Files and lines of the project that differ, as `diff` shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct DiffSize {
    pub(crate) files: u64,
    pub(crate) added: u64,
    pub(crate) removed: u64,
}

impl DiffSize {
    pub(crate) fn lines(self) -> u64 {
        self.added.saturating_add(self.removed)
    }
}

/// Measures the difference between two snapshots of a run. What is no text, or larger than what
/// is shown line by line, counts as one line on each side where it is.
pub(crate) async fn size_of(
    engine: &Engine,
    state: &State,
    from: SnapshotId,
    to: SnapshotId,
) -> anyhow::Result<DiffSize> {
    let changes = engine.snapshots.diff(from, to).await?;
    let mut size = DiffSize::default();
    for change in shown_changes(engine, state, changes, false).await? {
        let (added, removed) = lines_of(engine, &change).await?;
        size.files = size.files.saturating_add(u64::from(added > 0 || removed > 0));
        size.added = size.added.saturating_add(added);
        size.removed = size.removed.saturating_add(removed);
    }
    Ok(size)
}

/// Lines that came and lines that went.
async fn lines_of(engine: &Engine, change: &Change) -> anyhow::Result<(u64, u64)> {
    let whole = |entry: &Option<Entry>| u64::from(entry.as_ref().is_some_and(|e| !is_dir(e)));
    let small = |entry: &Entry| match entry.node {
        Node::File { size, .. } => size <= MAX_DIFFED,
        _ => false,
    };
    let text = change.content == Some(ContentKind::Text);
    let sides = [&change.before, &change.after];
    if !text || !sides.into_iter().flatten().all(small) {
        return Ok((whole(&change.after), whole(&change.before)));
    }
    let old = text_of(engine, &change.before).await?;
    let new = text_of(engine, &change.after).await?;
    let difference = TextDiff::from_lines(&old, &new);
    let mut lines = (0u64, 0u64);
    for change in difference.iter_all_changes() {
        match change.tag() {
            ChangeTag::Insert => lines.0 = lines.0.saturating_add(1),
            ChangeTag::Delete => lines.1 = lines.1.saturating_add(1),
            ChangeTag::Equal => {}
        }
    }
    Ok(lines)
}

fn is_dir(entry: &Entry) -> bool {
    matches!(entry.node, Node::Dir)
}
