//! From the paths that a model writes to places in the sandbox.

use std::path::{Component, Path, PathBuf};

use moat_sandbox::Root;

/// The root and the path beneath it; relative paths count from the workspace. `None`: elsewhere.
pub(crate) fn locate(path: &str) -> Option<(Root, PathBuf)> {
    let whole = fold(&Root::Workspace.path().join(path));
    [Root::Workspace, Root::Home, Root::Outputs].into_iter().find_map(|root| {
        let below = whole.strip_prefix(root.path()).ok()?;
        Some((root, below.to_owned()))
    })
}

/// Where a command runs: an absolute path inside.
pub(crate) fn working_folder(workdir: Option<&str>) -> PathBuf {
    workdir
        .map_or_else(|| Root::Workspace.path().to_owned(), |dir| Root::Workspace.path().join(dir))
}

/// Folds `.` and `..` by text, before any link is looked at.
fn fold(path: &Path) -> PathBuf {
    let mut folded = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                folded.pop();
            }
            Component::CurDir => {}
            other => folded.push(other),
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_beneath_a_root_are_located() {
        assert_eq!(locate("a/../b.png"), Some((Root::Workspace, "b.png".into())));
        assert_eq!(locate("/home/agent/x"), Some((Root::Home, "x".into())));
        assert_eq!(locate("../etc/passwd"), None);
        assert_eq!(locate("/workspace/../etc/passwd"), None);
        assert_eq!(locate("/workspaces/x"), None);
    }
}
