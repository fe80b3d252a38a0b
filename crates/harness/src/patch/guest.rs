use std::path::Path;

use async_trait::async_trait;
use moat_sandbox::{FileKind, Guest, GuestError, Root};

use super::{FileNode, FileSource, SourceError};

/// The files of a sandbox's workspace.
pub struct GuestFiles<'g>(pub &'g dyn Guest);

#[async_trait]
impl FileSource for GuestFiles<'_> {
    async fn stat(&self, path: &Path) -> Result<Option<FileNode>, SourceError> {
        let stat = self.0.stat(Root::Workspace, path).await.map_err(source_error)?;
        Ok(stat.map(|stat| match stat.kind {
            FileKind::File => FileNode::File { mode: stat.mode, size: stat.size },
            FileKind::Dir => FileNode::Dir,
            FileKind::Symlink(target) => FileNode::Symlink(target),
            FileKind::Other => FileNode::Other,
        }))
    }

    async fn read_at(&self, path: &Path, offset: u64, length: u32) -> Result<Vec<u8>, SourceError> {
        self.0.read_at(Root::Workspace, path, offset, length).await.map_err(source_error)
    }
}

fn source_error(error: GuestError) -> SourceError {
    match error {
        GuestError::Os { .. } | GuestError::Outside(_) => SourceError::Refused(error.to_string()),
        other => SourceError::Guest(other),
    }
}
