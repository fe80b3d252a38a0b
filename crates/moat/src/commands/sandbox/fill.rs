//! A workspace that starts as a copy of a folder.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use moat_core::TenantId;
use moat_sandbox::Guest;
use moat_sandbox::checkpoint::{Checkpointer, SkipRules};
use moat_sandbox::manifest::Manifest;
use moat_sandbox::materialise::{HostFolders, materialise};

use super::{Place, say};
use crate::escape::escape;
use crate::stores::open_snapshots;

/// Copies the folder into the empty workspace, without likely secrets, and says which were left out.
pub(super) async fn fill(place: &Place, dir: &Path, guest: Arc<dyn Guest>) -> anyhow::Result<()> {
    let key = place.home.tenant_key(&TenantId::local())?;
    let opened = open_snapshots(&place.home, &place.config, place.blobs.as_deref(), &key)?;
    let snapshots = opened.snapshots;
    let manifest = Manifest::copy_of(dir);
    let limits = place.config.sources.limits();
    let folders = HostFolders { limits, ..HostFolders::new(dir) };
    let files = materialise(&manifest, &folders, &snapshots, &|_| {}).await;
    let files = files.with_context(|| format!("cannot copy `{}`", dir.display()))?;
    if !place.quiet {
        for left in &files.left_out {
            say(&format!("left out: {} ({})", escape(&left.path), escape(&left.reason)));
        }
    }
    let mut filler = Checkpointer::new(guest, snapshots, SkipRules::default());
    filler.restore(files.snapshot).await?;
    Ok(())
}
