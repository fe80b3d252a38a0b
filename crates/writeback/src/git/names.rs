use std::collections::BTreeMap;
use std::path::Path;

use moat_snapshot::{LoadError, Node, Snapshots, Tree};

/// Bytes of the largest file of references that is read.
const LARGEST: u64 = 16 * 1024 * 1024;
/// References that are looked at.
const MOST: usize = 10_000;

/// What a snapshot's repository says its branches, tags and detached head are.
pub(super) async fn references(
    snapshots: &Snapshots,
    tree: &Tree,
) -> Result<BTreeMap<String, String>, LoadError> {
    let mut references = BTreeMap::new();
    let packed = text(snapshots, tree, Path::new(".git/packed-refs")).await?;
    for line in packed.as_deref().unwrap_or_default().lines().take(MOST) {
        if let Some((commit, name)) = line.split_once(' ')
            && is_commit(commit)
            && is_wanted(name)
        {
            references.insert(name.to_owned(), commit.to_owned());
        }
    }
    for entry in tree.workspace.entries().iter().filter(|e| e.path.starts_with(".git/refs")) {
        let name = entry.path.strip_prefix(".git").ok().and_then(Path::to_str);
        if let (Some(name), true) = (name, references.len() < MOST)
            && is_wanted(name)
            && let Some(commit) = text(snapshots, tree, &entry.path).await?
            && is_commit(commit.trim())
        {
            references.insert(name.to_owned(), commit.trim().to_owned());
        }
    }
    // A head that names a branch is that branch; a detached one counts by itself.
    if let Some(head) = text(snapshots, tree, Path::new(".git/HEAD")).await?
        && is_commit(head.trim())
    {
        references.insert("HEAD".to_owned(), head.trim().to_owned());
    }
    Ok(references)
}

fn is_wanted(name: &str) -> bool {
    name.starts_with("refs/heads/") || name.starts_with("refs/tags/")
}

pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

async fn text(
    snapshots: &Snapshots,
    tree: &Tree,
    path: &Path,
) -> Result<Option<String>, LoadError> {
    match tree.workspace.get(path).map(|entry| &entry.node) {
        Some(Node::File { content, size, .. }) if *size <= LARGEST => {
            let bytes = snapshots.read_file(*content, LARGEST).await?;
            Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
        }
        _ => Ok(None),
    }
}

/// The name under which a reference comes in: the branch's own where it is a plain one.
pub(super) fn imported(run: &str, name: &str, number: usize) -> String {
    let short = name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/"));
    let short = short.unwrap_or("detached");
    let is_plain = |part: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        !part.is_empty()
            && part.bytes().all(allowed)
            && !part.starts_with(['.', '-'])
            && !part.ends_with('.')
            && !part.ends_with(".lock")
            && !part.contains("..")
    };
    if short.len() <= 200 && short.split('/').all(is_plain) {
        return format!("refs/moat/{run}/{short}");
    }
    format!("refs/moat/{run}/unnamed-{number}")
}
