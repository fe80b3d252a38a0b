//! What the sandboxes of a run are made from: the journal's settings, and what this machine has for
//! them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use moat_core::{Epoch, ImageRecord, RunId, SandboxSettings};
use moat_sandbox::{Accounts, RootFilesystem, SandboxError, SandboxSpec, UserAccount};

use crate::harness::HarnessParts;

/// Finds the images that runs are pinned to.
#[async_trait]
pub trait Images: Send + Sync {
    /// The unpacked image with exactly this digest, fetched again if it has to be.
    async fn root(
        &self,
        image: &ImageRecord,
        writable: bool,
    ) -> Result<RootFilesystem, SandboxError>;
}

/// What a sandbox of the run is to be.
pub(super) async fn spec(
    parts: &HarnessParts,
    run: RunId,
    epoch: Epoch,
    settings: &SandboxSettings,
    environment: &BTreeMap<String, String>,
) -> Result<SandboxSpec, SandboxError> {
    let root = match &settings.image {
        None => RootFilesystem::Host,
        Some(image) => {
            let images = parts.images.as_ref().ok_or_else(|| SandboxError::Setup {
                step: format!("use the image `{}`", image.reference),
                message: "this program was built without images".to_owned(),
            })?;
            images.root(image, settings.as_root).await?
        }
    };
    let user = |(name, uid): (&String, &Option<u32>)| UserAccount { name: name.clone(), uid: *uid };
    Ok(SandboxSpec {
        orphan_grace: parts.orphan_grace,
        environment: environment.clone(),
        allow_missing: parts.allow_missing.clone(),
        limits: settings.limits,
        root,
        accounts: Accounts {
            as_root: settings.as_root,
            users: settings.users.iter().map(user).collect(),
            groups: settings.groups.clone(),
            run_as: settings.run_as.clone(),
        },
        ..SandboxSpec::new(run, epoch)
    })
}
