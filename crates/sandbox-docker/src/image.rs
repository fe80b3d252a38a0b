//! The image that a sandbox is asked to be on.

use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt as _;

use crate::engine::Engine;
use crate::error::DockerError;
use crate::login::{self, Asked, RegistryLogin};
use crate::options::{DockerOptions, PullPolicy, PullProgress};

/// How long nothing may be heard of an image that is being fetched; unpacking a large layer is slow.
const SILENCE: Duration = Duration::from_secs(600);

/// An image of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// What the engine calls it, whatever its names mean later.
    pub(crate) id: String,
    /// Variables that it asks for, `NAME=VALUE`.
    pub(crate) environment: Vec<String>,
    pub(crate) labels: Vec<(String, String)>,
    /// Folders that it wants to have volumes at.
    pub(crate) volumes: Vec<String>,
}

/// The image, fetched as the policy says.
pub(crate) async fn find(engine: &Engine, options: &DockerOptions) -> Result<Image, DockerError> {
    let name = &options.image;
    if options.pull != PullPolicy::Always
        && let Some(found) = inspect(engine, name).await?
    {
        return check(name, found);
    }
    if options.pull == PullPolicy::Never {
        return Err(DockerError::NoImage { image: name.clone() });
    }
    pull(engine, options).await?;
    match inspect(engine, name).await? {
        Some(found) => check(name, found),
        None => {
            let reason = "it said that it had, and does not have it".to_owned();
            let asked = "asked whether it has it".to_owned();
            Err(DockerError::Pull { image: name.clone(), reason, asked })
        }
    }
}

/// What the engine has under a name.
pub(crate) async fn inspect(
    engine: &Engine,
    name: &str,
) -> Result<Option<ImageInspect>, DockerError> {
    match engine.docker().await?.inspect_image(name).await {
        Ok(found) => Ok(Some(found)),
        Err(error) => {
            let error = engine.error(&format!("look at the image `{name}`"), &error);
            if error.is_absence() { Ok(None) } else { Err(error) }
        }
    }
}

/// An image for the guest's architecture.
fn check(name: &str, found: ImageInspect) -> Result<Image, DockerError> {
    let ours = moat_guest::program_arch();
    let theirs = match found.architecture.as_deref() {
        Some("amd64") => "x86_64",
        Some("arm64") => "aarch64",
        // An image that was made from a folder does not always say.
        None | Some("") => ours,
        Some(other) => other,
    };
    if theirs != ours {
        let (image, theirs, ours) = (name.to_owned(), theirs.to_owned(), ours.to_owned());
        return Err(DockerError::Architecture { image, theirs, ours });
    }
    of(found)
}

/// What is needed of an image.
pub(crate) fn of(found: ImageInspect) -> Result<Image, DockerError> {
    let config = found.config.unwrap_or_default();
    let id = found.id.filter(|id| !id.is_empty());
    Ok(Image {
        id: id.ok_or_else(|| DockerError::here("name an image", "it has no id"))?,
        environment: config.env.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        volumes: config.volumes.unwrap_or_default(),
    })
}

async fn pull(engine: &Engine, options: &DockerOptions) -> Result<(), DockerError> {
    let image = &options.image;
    let registry = login::registry_of(image);
    let login = login(options, registry).await?;
    let asked = Asked { registry, login: login.as_ref() };
    let failed = |reason: String| {
        let (image, asked) = (image.clone(), asked.to_string());
        DockerError::Pull { image, reason, asked }
    };
    // Without a tag the engine would fetch all there are.
    let name = with_tag(image);
    let wanted = CreateImageOptions { from_image: Some(name), ..CreateImageOptions::default() };
    let told = login.as_ref().map(|login| login::told(registry, login));
    let mut progress = engine.docker().await?.create_image(Some(wanted), None, told);
    loop {
        let said = tokio::time::timeout(SILENCE, progress.next()).await;
        let silent = |_| failed(format!("nothing came of it for {} s", SILENCE.as_secs()));
        let Some(said) = said.map_err(silent)? else { return Ok(()) };
        let said = said.map_err(|error| match engine.error("fetch it", &error) {
            DockerError::Refused { reason, .. } => failed(reason),
            other => other,
        })?;
        if let Some(error) = said.error_detail {
            return Err(failed(error.message.unwrap_or_default()));
        }
        if let Some(listener) = &options.progress {
            let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
            let detail = said.progress_detail.unwrap_or_default();
            listener(PullProgress {
                status: said.status.unwrap_or_default(),
                layer: said.id.unwrap_or_default(),
                bytes: number(detail.current).zip(number(detail.total)),
            });
        }
    }
}

async fn login(
    options: &DockerOptions,
    registry: &str,
) -> Result<Option<RegistryLogin>, DockerError> {
    let Some(logins) = &options.logins else { return Ok(None) };
    logins.find(registry).await.map_err(|reason| {
        let registry = registry.to_owned();
        DockerError::Login { registry, reason }
    })
}

/// A name with the tag or digest that it has, or `latest`.
fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

/// An answer that says that nothing is there.
pub(crate) fn is_absence(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_means_the_latest() {
        for (name, whole) in [
            ("debian", "debian:latest"),
            ("debian:12", "debian:12"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(with_tag(name), whole);
        }
    }
}
