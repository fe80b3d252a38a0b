use std::path::{Path, PathBuf};

use moat_snapshot::{LoadError, Node, Snapshots, Tree};

/// Bytes of all instructions together.
const MOST_BYTES: usize = 32 * 1024;
/// Nested files that are named.
const MOST_NESTED: usize = 50;
/// Bytes of a file that are read at all.
const LARGEST: u64 = 16 * 1024 * 1024;
const NAME: &str = "AGENTS.md";

/// Instructions that a workspace holds for agents: `AGENTS.md` at its root and at the root of each
/// entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentsMd {
    /// Path relative to the workspace, and content; outer ones first.
    pub files: Vec<(String, String)>,
    /// Says what was cut off to stay within 32 KiB; to be told to the model.
    pub cut: Option<String>,
    /// `AGENTS.md` files further down, at most 50; the model reads them itself.
    pub nested: Vec<String>,
}

pub(super) async fn find(
    tree: &Tree,
    entry_roots: &[PathBuf],
    snapshots: &Snapshots,
) -> Result<AgentsMd, LoadError> {
    let mut found = AgentsMd::default();
    let mut left = MOST_BYTES;
    let mut not_shown = Vec::new();
    let is_top = |path: &Path| {
        let folder = path.parent().unwrap_or(Path::new(""));
        folder.as_os_str().is_empty() || entry_roots.iter().any(|root| root == folder)
    };
    for entry in tree.workspace.entries() {
        let Node::File { content, size, .. } = entry.node else { continue };
        if entry.path.file_name().is_none_or(|name| name != NAME) || size > LARGEST {
            continue;
        }
        let path = entry.path.display().to_string();
        if !is_top(&entry.path) {
            if found.nested.len() < MOST_NESTED {
                found.nested.push(path);
            }
            continue;
        }
        let text = snapshots.read_file(content, LARGEST).await?;
        let text = String::from_utf8_lossy(&text);
        // No character is cut in two.
        let most = left.min(text.len());
        let kept = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        let (head, rest) = text.split_at(kept);
        if !rest.is_empty() {
            not_shown.push(format!("`{path}` after its first {kept} bytes"));
        }
        left -= kept;
        if kept > 0 {
            found.files.push((path, head.to_owned()));
        }
    }
    if !not_shown.is_empty() {
        found.cut = Some(format!(
            "Instructions are cut at 32 KiB. Not shown: {}. Read the files themselves for the rest.",
            not_shown.join(", ")
        ));
    }
    Ok(found)
}
