//! Unpacks images for sandboxes of this machine.

use std::fs::{self, DirBuilder};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::Path;

use moat_guest::{FolderJob, FolderJobReport};
use moat_image::{LayerBounds, LayerCount, Unpack, UnpackError};
use moat_sandbox::SandboxError;

use crate::folder_job::{self, Confinement, Running};
use crate::launcher::StepFailed;
use crate::provider::LocalProvider;
use crate::remove::remove_tree;

/// Applies the layers of images to folders, each in namespaces of its own in which there is nothing
/// but that folder: no network, no process, no other file; with the filter on system calls.
///
/// As root files get the owners that the layers name, in a range of ids that nobody is on the host.
/// For an ordinary user all files are his.
#[derive(Clone, Debug)]
pub struct LocalUnpacker {
    provider: LocalProvider,
    allow_missing: Vec<String>,
}

impl LocalProvider {
    /// Unpacks images for this provider's sandboxes, without the fences that are named where this
    /// host lacks them.
    pub fn unpacker(&self, allow_missing: &[String]) -> LocalUnpacker {
        LocalUnpacker { provider: self.clone(), allow_missing: allow_missing.to_vec() }
    }
}

impl LocalUnpacker {
    fn start(&self, folder: &Path, job: FolderJob) -> Result<Running, SandboxError> {
        let shared = self.provider.shared();
        let identity = shared.image_identity();
        shared.with_missing(&self.allow_missing, |prepared, missing| {
            let confinement = Confinement { prepared, identity: &identity, missing };
            folder_job::start(&confinement, folder, job)
        })
    }
}

impl Unpack for LocalUnpacker {
    fn owners(&self) -> &str {
        if self.provider.shared().image_identity().host_guest().is_some() { "range" } else { "one" }
    }

    fn begin(&self, folder: &Path) -> Result<(), UnpackError> {
        let failed = |error: std::io::Error| UnpackError::System {
            step: format!("make `{}`", folder.display()),
            message: error.to_string(),
        };
        DirBuilder::new().mode(0o755).create(folder).map_err(failed)?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder, open).map_err(failed)?;
        match self.provider.shared().image_identity().host_guest() {
            Some(owner) => chown(folder, Some(owner), Some(owner)).map_err(failed),
            None => Ok(()),
        }
    }

    fn apply(
        &self,
        folder: &Path,
        layer: &mut dyn Read,
        bounds: LayerBounds,
    ) -> Result<LayerCount, UnpackError> {
        let owners = self.provider.shared().image_identity().host_guest().is_some();
        let LayerBounds { entries: max_entries, bytes: max_bytes } = bounds;
        let job = FolderJob::Unpack { owners, max_entries, max_bytes };
        let running = self.start(folder, job).map_err(|error| UnpackError::System {
            step: "confine the unpacking".to_owned(),
            message: error.to_string(),
        })?;
        match running.finish(layer)?.map_err(system)? {
            FolderJobReport::Done { entries, bytes, devices } => {
                Ok(LayerCount { entries, bytes, devices })
            }
            FolderJobReport::Refused { member, reason } => {
                let member = shown(&member.0.escape_ascii().to_string());
                Err(UnpackError::Refused { member, reason: shown(&reason) })
            }
            FolderJobReport::Failed { step, path, errno } => Err(UnpackError::System {
                step: shown(&format!("{step} `{}`", path.0.escape_ascii())),
                message: std::io::Error::from_raw_os_error(errno).to_string(),
            }),
        }
    }

    fn remove(&self, folder: &Path) -> Result<(), UnpackError> {
        remove_tree(folder).map_err(|error| UnpackError::System {
            step: format!("remove `{}`", folder.display()),
            message: error.to_string(),
        })
    }
}

fn system(failed: StepFailed) -> UnpackError {
    UnpackError::System { step: failed.step, message: failed.message }
}

/// What a program that read hostile bytes says, cut to what can be shown.
fn shown(text: &str) -> String {
    text.chars().take(400).collect()
}
