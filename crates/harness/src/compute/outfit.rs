//! What the sandboxes of a run are made from: the journal's settings, and what this machine has for
//! them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use moat_core::{Epoch, ImageRecord, RunId, SandboxSettings};
use moat_sandbox::{Accounts, RootFilesystem, SandboxError, SandboxSpec, UserAccount};

use super::ComputeError;
use crate::harness::HarnessParts;
use crate::network::{NetworkError, PreparedNetwork};

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

/// The network that the run's settings ask for.
pub(super) async fn network(
    parts: &HarnessParts,
    lineage: RunId,
    settings: &SandboxSettings,
) -> Result<Option<PreparedNetwork>, ComputeError> {
    let Some(asked) = &settings.network else { return Ok(None) };
    let options = parts.network.as_ref().ok_or(NetworkError::NotThere)?;
    let prepared = options.prepare(lineage, asked).await?;
    prepared.values().iter().for_each(|value| parts.secrets.add(value.clone()));
    Ok(Some(prepared))
}

/// What a sandbox of the run is to be.
pub(super) async fn spec(
    parts: &HarnessParts,
    run: RunId,
    epoch: Epoch,
    settings: &SandboxSettings,
    environment: &BTreeMap<String, String>,
    network: Option<&PreparedNetwork>,
) -> Result<SandboxSpec, ComputeError> {
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
    let mut environment = environment.clone();
    environment.extend(network.map(PreparedNetwork::environment).unwrap_or_default());
    Ok(SandboxSpec {
        orphan_grace: parts.orphan_grace,
        environment,
        network: network.map(PreparedNetwork::spec).transpose()?,
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
