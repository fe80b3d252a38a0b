use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::path::{ManifestError, parts};

/// Levels of the workspace that the model is shown.
pub const DEFAULT_DEPTH: usize = 3;
/// Characters of that layout.
pub const DEFAULT_MAX_CHARS: usize = 5000;

/// The paths of a manifest as a tree: what was declared, and the folders above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    root: LayoutNode,
}

/// One path of a layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LayoutNode {
    declared: bool,
    is_file: bool,
    description: Option<String>,
    /// The absolute path that is shown, where it is not the place in the tree.
    shown: Option<String>,
    children: BTreeMap<String, LayoutNode>,
}

/// What is declared at a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared<'a> {
    /// A file; everything else is shown as a folder.
    pub is_file: bool,
    /// What it is for.
    pub description: Option<&'a str>,
    /// Where it really is, if not at its place in the tree.
    pub shown: Option<String>,
}

impl Layout {
    /// Declares what is at a path beneath `above`. Returns the path's parts.
    ///
    /// # Errors
    ///
    /// If the path is none, leads out, is declared already or runs through a file.
    pub fn declare(
        &mut self,
        above: &[String],
        path: &str,
        what: Declared<'_>,
    ) -> Result<Vec<String>, ManifestError> {
        let mut whole = above.to_vec();
        whole.extend(parts(path)?);
        let mut node = &mut self.root;
        for part in &whole {
            if node.is_file {
                return Err(ManifestError::Entry {
                    path: whole.join("/"),
                    problem: "is beneath a file".to_owned(),
                });
            }
            node = node.children.entry(part.clone()).or_default();
        }
        if node.declared || (what.is_file && !node.children.is_empty()) {
            return Err(ManifestError::DuplicatePath(whole.join("/")));
        }
        node.declared = true;
        node.is_file = what.is_file;
        node.description = what.description.map(str::to_owned);
        node.shown = what.shown;
        Ok(whole)
    }

    /// Says what a declared path is for, where nothing was said yet.
    pub(crate) fn describe(&mut self, path: &std::path::Path, description: &str) {
        let mut node = &mut self.root;
        for part in path.iter() {
            let Some(next) = node.children.get_mut(&*part.to_string_lossy()) else { return };
            node = next;
        }
        node.description.get_or_insert_with(|| description.to_owned());
    }

    /// The tree for the model: names, absolute paths and descriptions, `depth` levels (`None`: all)
    /// and at most `max_chars` characters, with an exact count of what was cut.
    pub fn render(
        &self,
        root: &str,
        depth: Option<usize>,
        max_chars: usize,
    ) -> Result<String, ManifestError> {
        if depth == Some(0) {
            return Err(ManifestError::Depth);
        }
        if max_chars == 0 {
            return Err(ManifestError::MaxChars);
        }
        let base = root.trim_end_matches('/');
        let parts = base.split('/').filter(|part| !matches!(*part, "" | "."));
        let plain: String = parts.flat_map(|part| ["/", part]).collect();
        let mut lines = Vec::new();
        collect(&self.root, &plain, "", depth.unwrap_or(usize::MAX), &mut lines);
        let width = lines.iter().map(|line| line.label.chars().count()).max().unwrap_or_default();
        let mut text = if base.is_empty() { "/\n".to_owned() } else { format!("{base}\n") };
        for Line { label, comment } in lines {
            let blanks = width - label.chars().count() + 2;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{label}{:blanks$}# {comment}", "");
        }
        Ok(cut(text, max_chars))
    }
}

struct Line {
    label: String,
    comment: String,
}

fn collect(node: &LayoutNode, path: &str, prefix: &str, depth: usize, lines: &mut Vec<Line>) {
    let last = node.children.len();
    for (index, (name, child)) in node.children.iter().enumerate() {
        let is_last = index + 1 == last;
        let path = format!("{path}/{name}");
        let slash = if child.is_file { "" } else { "/" };
        let branch = if is_last { "└── " } else { "├── " };
        let mut comment = child.shown.clone().unwrap_or_else(|| path.clone());
        if let Some(description) = child.description.as_ref().filter(|text| !text.is_empty()) {
            comment.push_str(" — ");
            comment.push_str(description);
        }
        lines.push(Line { label: format!("{prefix}{branch}{name}{slash}"), comment });
        if depth > 1 {
            let prefix = format!("{prefix}{}", if is_last { "    " } else { "│   " });
            collect(child, &path, &prefix, depth - 1, lines);
        }
    }
}

/// Cuts to `max_chars` characters, the notice that says so included.
fn cut(text: String, max_chars: usize) -> String {
    let total = text.chars().count();
    if total <= max_chars {
        return text;
    }
    // The notice counts what it displaces, and its own length depends on that number.
    let mut omitted = total;
    let (notice, kept) = loop {
        let notice = notice(omitted);
        let kept = max_chars.saturating_sub(notice.chars().count());
        if total - kept == omitted {
            break (notice, kept);
        }
        omitted = total - kept;
    };
    let head: String = text.chars().take(kept).collect();
    let all = format!("{}{notice}", head.trim_end());
    all.chars().take(max_chars).collect()
}

fn notice(omitted: usize) -> String {
    format!(
        "\n... (truncated {omitted} chars)\n\nThe filesystem layout above was truncated. Use `ls` to \
         explore specific directories before relying on omitted paths.\n"
    )
}

#[cfg(test)]
mod tests;
