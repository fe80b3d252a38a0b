use std::path::{Path, PathBuf};

use moat_sandbox::Root;

/// A path of a patch, normalised by its text alone: no link is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WorkspacePath {
    /// Names from the workspace's root on; none for the root itself.
    pub(super) names: Vec<String>,
    /// How replies show it: relative to where the model's own path started.
    pub(super) shown: String,
}

/// Normalises a path. Backslashes separate names, `.` and `..` are folded, relative paths start at
/// `cwd` (below the workspace); absolute ones have to lie in the workspace. The error says why it
/// is no path of the workspace.
pub(super) fn normalise(path: &str, cwd: &Path) -> Result<WorkspacePath, &'static str> {
    if path.trim().is_empty() {
        return Err("is empty");
    }
    if path.contains(['\0', '\n']) {
        return Err("has characters that no path can have");
    }
    let path = path.replace('\\', "/");
    if matches!(path.as_bytes(), [drive, b':', b'/', ..] if drive.is_ascii_alphabetic()) {
        return Err(OUTSIDE);
    }
    let start: Vec<String> =
        cwd.iter().map(|name| name.to_string_lossy().into_owned()).filter(|n| n != ".").collect();
    if path.starts_with('/') {
        let names = fold(Vec::new(), &path)?;
        let root: Vec<String> = fold(Vec::new(), &Root::Workspace.path().to_string_lossy())?;
        let names = names.strip_prefix(root.as_slice()).ok_or(OUTSIDE)?.to_vec();
        let shown = if names.is_empty() { ".".to_owned() } else { names.join("/") };
        return Ok(WorkspacePath { names, shown });
    }
    let names = fold(start.clone(), &path)?;
    let shown = relative(&names, &start);
    Ok(WorkspacePath { names, shown })
}

const OUTSIDE: &str = "is outside the workspace";

fn fold(mut names: Vec<String>, path: &str) -> Result<Vec<String>, &'static str> {
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop().ok_or(OUTSIDE)?;
            }
            name => names.push(name.to_owned()),
        }
    }
    Ok(names)
}

/// `names` as seen from `start`.
fn relative(names: &[String], start: &[String]) -> String {
    let shared = names.iter().zip(start).take_while(|(a, b)| a == b).count();
    let up = start.iter().skip(shared).map(|_| "..");
    let down = names.iter().skip(shared).map(String::as_str);
    let path: Vec<&str> = up.chain(down).collect();
    if path.is_empty() { ".".to_owned() } else { path.join("/") }
}

/// The names that a link's target adds, and whether they start at the workspace's root. `None`:
/// the target is absolute and outside.
pub(super) fn link_target(target: &Path) -> Option<(bool, PathBuf)> {
    if target.has_root() {
        let below = target.strip_prefix(Root::Workspace.path()).ok()?;
        return Some((true, below.to_owned()));
    }
    Some((false, target.to_owned()))
}
