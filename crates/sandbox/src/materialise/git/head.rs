//! What a workspace has checked out.

use std::path::Path;

use moat_snapshot::{Node, Snapshots, Tree};

use super::super::MaterialiseError;
use super::super::git_config::LARGEST;

/// The commit that a workspace has checked out, read from its snapshot; `None` if it is none, or
/// keeps its history elsewhere.
pub(crate) async fn head_of(
    tree: &Tree,
    snapshots: &Snapshots,
) -> Result<Option<String>, MaterialiseError> {
    let Some(head) = text(tree, snapshots, ".git/HEAD").await? else { return Ok(None) };
    let Some(reference) = head.trim().strip_prefix("ref: ") else {
        return Ok(commit_name(head.trim()));
    };
    if let Some(loose) = text(tree, snapshots, &format!(".git/{reference}")).await? {
        return Ok(commit_name(loose.trim()));
    }
    let packed = text(tree, snapshots, ".git/packed-refs").await?.unwrap_or_default();
    let line =
        packed.lines().find(|line| line.split_once(' ').is_some_and(|(_, name)| name == reference));
    Ok(line.and_then(|line| commit_name(line.split(' ').next().unwrap_or_default())))
}

fn commit_name(text: &str) -> Option<String> {
    let is_name = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_name.then(|| text.to_owned())
}

async fn text(
    tree: &Tree,
    snapshots: &Snapshots,
    path: &str,
) -> Result<Option<String>, MaterialiseError> {
    match tree.workspace.get(Path::new(path)).map(|entry| &entry.node) {
        Some(Node::File { content, size, .. }) if *size <= LARGEST => {
            let bytes = snapshots.read_file(*content, *size).await?;
            Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
        }
        _ => Ok(None),
    }
}
