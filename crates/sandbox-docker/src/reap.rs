//! Removes what ended sandboxes left.
//!
//! A container removes itself, with its volumes, when its guest ends. What is left to do is what a
//! maker left that died at work, volumes of containers that were removed without them or with their
//! engine, and folders of this side.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::{ContainerSummaryStateEnum, Volume};
use bollard::query_parameters::{
    ListContainersOptions, ListImagesOptions, ListVolumesOptions, RemoveContainerOptions,
    RemoveImageOptions, RemoveVolumeOptions,
};
use moat_sandbox::SandboxError;

use crate::base::REPOSITORY;
use crate::container::label;
use crate::create::remove_container;
use crate::engine::Engine;
use crate::error::DockerError;
use crate::folder::State;
use crate::handle::is_id;

/// Longer than anyone takes between making a container and starting it.
const TIME_TO_START: Duration = Duration::from_secs(300);

/// Images of ours with another guest are kept for a program of another version on the same engine.
const FOR_OTHER_VERSIONS: Duration = Duration::from_secs(7 * 24 * 3600);

/// One pass over everything of this state folder.
pub(crate) async fn reap(engine: &Engine, state: &State) -> Result<usize, SandboxError> {
    let (mut removed, mut there) = (0, BTreeSet::new());
    // Looked for first: what is there now without its container will not be wanted any more.
    let volumes = volumes(engine, state).await?;
    for (id, ended) in sandboxes(engine, state).await? {
        if ended {
            remove_container(engine, &id).await?;
            removed += 1;
        } else {
            there.insert(id);
        }
    }
    for (volume, _) in volumes.into_iter().filter(|(_, id)| !there.contains(id)) {
        // One of a container that is being made is in use, which the engine says; what cannot be
        // removed now is tried again in the next pass.
        let none = None::<RemoveVolumeOptions>;
        let _ = engine.docker().await?.remove_volume(&volume, none).await;
    }
    let shared = state
        .shared()
        .map_err(|error| DockerError::here("be asked which folders are left", error))?;
    for (id, age) in shared {
        // The folder is made before the container.
        if !there.contains(&id) && age > TIME_TO_START {
            // What cannot be removed now is tried again in the next pass.
            let _ = state.unshare(&id);
        }
    }
    remove_drafts(engine).await?;
    remove_images(engine).await?;
    Ok(removed)
}

/// Volumes of sandboxes of this folder, and of which.
async fn volumes(engine: &Engine, state: &State) -> Result<Vec<(String, String)>, DockerError> {
    let label = format!("{}={}", label::OWNER, state.owner());
    let options =
        ListVolumesOptions { filters: Some(HashMap::from([("label".to_owned(), vec![label])])) };
    let listed = engine.docker().await?.list_volumes(Some(options)).await;
    let listed = listed.map_err(|error| engine.error("list volumes", &error))?;
    let of = |mut volume: Volume| Some((volume.name, volume.labels.remove(label::SANDBOX)?));
    Ok(listed.volumes.unwrap_or_default().into_iter().filter_map(of).collect())
}

/// Sandboxes of this folder, and whether each has ended.
async fn sandboxes(engine: &Engine, state: &State) -> Result<Vec<(String, bool)>, DockerError> {
    let label = format!("{}={}", label::OWNER, state.owner());
    let found = list(engine, label).await?;
    let of = |summary: bollard::models::ContainerSummary| {
        let id = summary.labels.as_ref()?.get(label::SANDBOX)?.clone();
        let ended = match summary.state? {
            ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::DEAD => true,
            ContainerSummaryStateEnum::CREATED => is_old(summary.created),
            _ => false,
        };
        is_id(&id).then_some((id, ended))
    };
    Ok(found.into_iter().filter_map(of).collect())
}

fn is_old(created: Option<i64>) -> bool {
    is_older(created, TIME_TO_START)
}

fn is_older(created: Option<i64>, than: Duration) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let created = created.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(now);
    now.saturating_sub(created) > than.as_secs()
}

async fn list(
    engine: &Engine,
    label: String,
) -> Result<Vec<bollard::models::ContainerSummary>, DockerError> {
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
        ..ListContainersOptions::default()
    };
    let listed = engine.docker().await?.list_containers(Some(options)).await;
    listed.map_err(|error| engine.error("list containers", &error))
}

/// Containers from which an image was being made when its maker died.
async fn remove_drafts(engine: &Engine) -> Result<(), DockerError> {
    for draft in list(engine, format!("{}=1", label::DRAFT)).await? {
        if let Some(id) = draft.id.filter(|_| is_old(draft.created)) {
            let options = RemoveContainerOptions { v: true, force: true, link: false };
            // Another reaper may be at it.
            let _ = engine.docker().await?.remove_container(&id, Some(options)).await;
        }
    }
    Ok(())
}

/// Images of ours that hold another guest than this program's: nobody will use them again, but a
/// program of another version. One that a container uses stays.
async fn remove_images(engine: &Engine) -> Result<(), DockerError> {
    let docker = engine.docker().await?;
    let options = ListImagesOptions {
        filters: Some(HashMap::from([("label".to_owned(), vec![label::GUEST.to_owned()])])),
        ..ListImagesOptions::default()
    };
    let listed = docker.list_images(Some(options)).await;
    let ours = moat_guest::to_hex(&moat_guest::program_hash());
    for image in listed.map_err(|error| engine.error("list images", &error))? {
        let of_us = image.repo_tags.iter().any(|tag| tag.starts_with(REPOSITORY));
        // Of two that were made at once the later one has the name.
        let nameless = image.repo_tags.iter().all(|tag| tag.starts_with('<'));
        let old = is_older(Some(image.created), FOR_OTHER_VERSIONS);
        let other = of_us && old && image.labels.get(label::GUEST) != Some(&ours);
        if other || nameless && is_old(Some(image.created)) {
            let _ = docker.remove_image(&image.id, None::<RemoveImageOptions>, None).await;
        }
    }
    Ok(())
}
