//! Removes what of an ended sandbox's folder belongs to ids that the host lends: from within a
//! namespace in which there is nothing but that folder.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use moat_guest::{FolderJob, FolderJobReport};

use crate::fences::Fence;
use crate::folder_job::{self, Confinement, Running};
use crate::identity::Identity;
use crate::launcher::StepFailed;
use crate::prepared::Prepared;
use crate::subordinate::NoIds;

/// Removes it without the fences `missing`.
pub(crate) fn clear(
    prepared: &Prepared,
    missing: &BTreeSet<Fence>,
    folder: &Path,
) -> io::Result<()> {
    start(prepared, missing, folder).map_err(io::Error::other).and_then(finish)
}

/// Starts that.
pub(crate) fn start(
    prepared: &Prepared,
    missing: &BTreeSet<Fence>,
    folder: &Path,
) -> Result<Running, StepFailed> {
    let unknown = |why: &NoIds| StepFailed::new("remove what others than the caller left", why);
    // Also where new sandboxes have none of them: this one had.
    let ids = prepared.lending.found().map_err(unknown)?;
    let identity = Identity::lent(ids.everything());
    let confinement = Confinement { prepared, identity: &identity, missing };
    folder_job::start(&confinement, folder, FolderJob::Clear)
}

/// Waits until it is done.
pub(crate) fn finish(job: Running) -> io::Result<()> {
    match job.finish(&mut io::empty())? {
        Ok(FolderJobReport::Done { .. }) => Ok(()),
        Ok(FolderJobReport::Failed { errno, .. }) => Err(io::Error::from_raw_os_error(errno)),
        Ok(FolderJobReport::Refused { reason, .. }) => Err(io::Error::other(reason)),
        Err(failed) => Err(io::Error::other(failed)),
    }
}
