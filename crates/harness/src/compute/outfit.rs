//! What the sandboxes of a run are made from: the journal's settings, and what this machine has for
//! them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use moat_core::{Epoch, ImageRecord, RunId, SandboxSettings};
use moat_sandbox::checkpoint::SkipRules;
use moat_sandbox::{
    Accounts, HeldMounts, Mounter, Root, RootFilesystem, SandboxError, SandboxSpec, UserAccount,
};

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

/// What checkpoints leave out: what is ephemeral, and what is mounted.
pub(super) fn skip(settings: &SandboxSettings) -> SkipRules {
    let ephemeral = settings.ephemeral.iter().flat_map(|ephemeral| &ephemeral.paths);
    let mounted = settings.mounts.iter().filter_map(|mount| {
        Path::new(&mount.path).strip_prefix(Root::Workspace.path()).ok().map(Path::to_owned)
    });
    let mut skip = SkipRules::default();
    skip.workspace.extend(ephemeral.map(PathBuf::from).chain(mounted));
    skip
}

/// The folders of this machine that a fresh sandbox of the run sees.
pub(super) async fn mounts(
    parts: &HarnessParts,
    run: RunId,
    settings: &SandboxSettings,
) -> Result<Option<Box<dyn HeldMounts>>, ComputeError> {
    match mounter(parts, settings)? {
        Some(mounter) => Ok(Some(mounter.prepare(run, &settings.mounts).await?)),
        None => Ok(None),
    }
}

/// The same for a sandbox that was found again.
pub(super) async fn adopt_mounts(
    parts: &HarnessParts,
    run: RunId,
    settings: &SandboxSettings,
) -> Result<Option<Box<dyn HeldMounts>>, ComputeError> {
    match mounter(parts, settings)? {
        Some(mounter) => {
            let adopted = mounter.adopt(run, &settings.mounts).await;
            Ok(Some(adopted.map_err(ComputeError::Mounts)?))
        }
        None => Ok(None),
    }
}

/// Takes away what the run had mounted, whose sandbox was ended. Answers what is left.
pub(crate) async fn forget_mounts(
    parts: &HarnessParts,
    run: RunId,
    settings: &SandboxSettings,
) -> Option<String> {
    let mounter = mounter(parts, settings).ok().flatten()?;
    mounter.forget(run).await.err().map(|error| error.to_string())
}

fn mounter<'a>(
    parts: &'a HarnessParts,
    settings: &SandboxSettings,
) -> Result<Option<&'a dyn Mounter>, SandboxError> {
    let Some(first) = settings.mounts.first() else { return Ok(None) };
    let mounter = parts.mounter.as_deref().ok_or_else(|| SandboxError::Setup {
        step: format!("mount `{}`", first.path),
        message: "this program was built without mounts".to_owned(),
    })?;
    Ok(Some(mounter))
}

/// The network that the run's settings ask for.
pub(super) async fn network(
    parts: &HarnessParts,
    (run, lineage): (RunId, RunId),
    settings: &SandboxSettings,
) -> Result<Option<PreparedNetwork>, ComputeError> {
    let Some(asked) = &settings.network else { return Ok(None) };
    let options = parts.network.as_ref().ok_or(NetworkError::NotThere)?;
    let prepared = options.prepare((run, lineage), asked).await?;
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
    let placeholders = network.map(PreparedNetwork::environment).unwrap_or_default();
    for (variable, secret) in &settings.secret_variables {
        let placeholder = placeholders.get(secret);
        let placeholder = placeholder.ok_or_else(|| SandboxError::Setup {
            step: format!("set the variable `{variable}`"),
            message: format!("there is no secret `{secret}` in the run's network policy"),
        })?;
        environment.insert(variable.clone(), placeholder.clone());
    }
    environment.extend(placeholders);
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
