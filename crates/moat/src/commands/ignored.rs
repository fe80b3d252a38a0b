//! What the project itself calls uninteresting: paths that its `.gitignore` names. `diff` leaves
//! them out and `apply` does not write them unless asked for, since build outputs of a sandbox are
//! large, and programs.
//!
//! The file as it was at the start of the run counts, so that a run cannot change what is hidden.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use moat_core::SnapshotId;
use moat_sandbox::manifest::IgnoreRules;
use moat_snapshot::Node;

use crate::engine::Engine;

/// An ignore file that is larger is not read.
const MAX_BYTES: u64 = 1 << 20;

/// The rules of one run's project.
pub(crate) struct Ignored(IgnoreRules);

impl Ignored {
    /// Reads `.gitignore` at the root of a snapshot's workspace; no rules if there is none.
    pub(crate) async fn at(engine: &Engine, base: SnapshotId) -> anyhow::Result<Self> {
        let tree = engine.snapshots.load(base).await?;
        let Some(entry) = tree.workspace.get(Path::new(".gitignore")) else {
            return Ok(Self(IgnoreRules::default()));
        };
        let Node::File { content, size, .. } = entry.node else {
            return Ok(Self(IgnoreRules::default()));
        };
        if size > MAX_BYTES {
            return Ok(Self(IgnoreRules::default()));
        }
        let text = engine.snapshots.read_file(content, MAX_BYTES).await?;
        Ok(Self(IgnoreRules::parse(&String::from_utf8_lossy(&text))))
    }

    /// Whether a path of the workspace, or a folder above it, is ignored.
    pub(crate) fn hides(&self, path: &Path) -> bool {
        let above = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
        let matches = |path: &Path, folder| self.0.matches(path.as_os_str().as_bytes(), folder);
        matches(path, false)
            || matches(path, true)
            || above.into_iter().any(|path| matches(path, true))
    }
}
