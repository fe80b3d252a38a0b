//! Storage elsewhere that is copied.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use moat_core::RemoteRecord;

use super::host::host_error;
use super::{HostFolders, MaterialiseError};

/// Copies storage elsewhere into a folder of this machine.
#[async_trait]
pub trait Remotes: Send + Sync {
    /// Copies everything beneath the remote's path into an empty folder. The error is for people
    /// and says what to do about it.
    async fn copy(&self, remote: &RemoteRecord, into: &Path) -> Result<(), String>;
}

/// What reaches storage elsewhere, if there is any.
#[derive(Clone, Default)]
pub struct RemoteCopier(pub Option<Arc<dyn Remotes>>);

impl std::fmt::Debug for RemoteCopier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RemoteCopier").field(&self.0.is_some()).finish()
    }
}

pub(super) async fn fetch(
    remote: &RemoteRecord,
    folders: &HostFolders,
) -> Result<tempfile::TempDir, MaterialiseError> {
    let failed = |message: String| MaterialiseError::Remote {
        remote: format!("{}:{}", remote.backend, remote.path),
        message,
    };
    let folder = tempfile::Builder::new()
        .prefix("moat-copy-")
        .tempdir_in(&folders.scratch)
        .map_err(|error| host_error(&folders.scratch, error))?;
    let remotes = folders.remotes.0.as_ref();
    let remotes = remotes.ok_or_else(|| failed("nothing here reaches storage elsewhere".into()))?;
    remotes.copy(remote, folder.path()).await.map_err(failed)?;
    Ok(folder)
}
