//! Ending sandboxes: what they leave is removed, or kept, of exactly the one that is meant.

use std::collections::BTreeSet;
use std::sync::Arc;

use moat_core::{RunId, SnapshotId};
use moat_sandbox::SandboxError;

use super::{Shared, setup};
use crate::clear;
use crate::create;
use crate::fences::Fence;
use crate::folder::{self, Folder};
use crate::handle::Handle;
use crate::prepared::Prepared;

impl Shared {
    /// Removes the folder of a sandbox that has ended.
    pub(super) fn remove(&self, folder: Folder) -> std::io::Result<()> {
        folder.remove(|path| {
            // What the host lacks was allowed to be missing, or there would be no sandbox here.
            let allowed = Fence::ALL.map(|fence| fence.name().to_owned());
            let work = |prepared: &Arc<Prepared>, missing: &BTreeSet<Fence>| {
                clear::start(prepared, missing, path)
            };
            let job = self.with_missing(&allowed, work).map_err(std::io::Error::other)?;
            clear::finish(job)
        })
    }

    /// Ends a sandbox and keeps its workspace.
    pub(super) fn keep(
        &self,
        handle: &Handle,
        snapshot: SnapshotId,
        lineage: RunId,
        notes: &[u8],
    ) -> Result<(), SandboxError> {
        let gone = || setup("keep a workspace", "its sandbox is gone");
        let record = self.record(handle).ok_or_else(gone)?;
        if !create::end(&record.process) {
            return Err(setup("end the sandbox", "its first process does not die"));
        }
        let path = self.sandboxes.join(handle.id());
        let keep = || -> std::io::Result<()> {
            let Some(folder) = self.hold(handle)? else {
                return Err(std::io::ErrorKind::NotFound.into());
            };
            let kept = self.kept();
            let owners_from = owners_from(handle)?;
            let workspace = path.join(folder::WORKSPACE);
            let done = kept.keep(&workspace, snapshot, (lineage, owners_from), notes);
            self.remove(folder)?;
            done?;
            // One that is not needed may stay a little longer.
            let _ = self.collect(self.most_unused());
            Ok(())
        };
        keep().map_err(|error| setup("keep a workspace", error))
    }

    pub(super) fn destroy(&self, handle: &Handle) -> Result<(), SandboxError> {
        let path = self.sandboxes.join(handle.id());
        let Some(record) = self.record(handle) else { return Ok(()) };
        if !create::end(&record.process) {
            return Err(setup("end the sandbox", "its first process does not die"));
        }
        let held = self.hold(handle);
        let removed = held.and_then(|held| held.map_or(Ok(()), |folder| self.remove(folder)));
        removed.map_err(|error| setup(&format!("remove `{}`", path.display()), error))
    }

    /// Takes hold of the folder of a sandbox that has ended. `None`: a reaper is at it, or was, and
    /// then another sandbox may have its name by now.
    pub(super) fn hold(&self, handle: &Handle) -> std::io::Result<Option<Folder>> {
        match Folder::hold(&self.sandboxes.join(handle.id())) {
            Ok(held) => Ok(held.filter(|_| self.record(handle).is_some())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Owner 0 of the sandbox, on the host: where there are ranges of ids, they are named by theirs.
fn owners_from(handle: &Handle) -> std::io::Result<u32> {
    u32::from_str_radix(handle.id(), 16).map_err(std::io::Error::other)
}
