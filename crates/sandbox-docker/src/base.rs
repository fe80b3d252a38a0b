//! The image that sandboxes are made from: the one that is asked for, the guest, and who there is.
//!
//! A container with a read-only root cannot be given files, so what belongs into the root is put
//! into a container that never runs, as an archive, and that becomes an image. It is made once for
//! an image, a guest and a roster, and found by its name from then on.

use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptions, ContainerArchiveInfoOptions, CreateContainerOptions,
    RemoveContainerOptions, UploadToContainerOptions,
};
use moat_sandbox::roster::{ImageAccounts, Roster, RosterError};
use moat_sandbox::{Accounts, SandboxError};
use serde::{Deserialize, Serialize};

use crate::archive::{self, Archive};
use crate::container::{GUEST, GUEST_FOLDER, label};
use crate::engine::Engine;
use crate::error::DockerError;
use crate::image::{self, Image, is_absence};

/// Under which images of ours are kept.
pub(crate) const REPOSITORY: &str = "moat-sandbox";

/// Raised when what is put into images changes.
const FORMAT: &str = "1";

/// Bytes of an image's `passwd` or `group` that are looked at.
const MAX_SETTINGS: u64 = 256 << 10;

/// Bytes of what is remembered of an image in a label of ours.
const MAX_FACTS: usize = 128 << 10;

/// An image that sandboxes are made from.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// What the engine calls it.
    pub(crate) id: String,
    /// The image that it was made from.
    pub(crate) origin: String,
    /// Variables that the image asks for, `NAME=VALUE`.
    pub(crate) environment: Vec<String>,
    pub(crate) roster: Roster,
    /// Whether there is `bash`.
    pub(crate) bash: bool,
}

/// What of the original image decides about the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    passwd: String,
    group: String,
    bash: bool,
}

/// The image for an image and these accounts, made if it is not there.
pub(crate) async fn find(
    engine: &Engine,
    image: &Image,
    accounts: &Accounts,
) -> Result<Base, SandboxError> {
    let name = format!("{REPOSITORY}:{}", tag(image, accounts));
    if let Some(found) = image::inspect(engine, &name).await? {
        let found = image::of(found)?;
        let facts = found.labels.iter().find(|(name, _)| name == label::FACTS);
        // One that cannot be read is made again.
        if let Some(facts) = facts.and_then(|(_, text)| serde_json::from_str(text).ok()) {
            return base(image, found.id, &facts, accounts);
        }
    }
    make(engine, image, accounts).await
}

fn base(
    image: &Image,
    id: String,
    facts: &Facts,
    accounts: &Accounts,
) -> Result<Base, SandboxError> {
    Ok(Base {
        id,
        origin: image.id.clone(),
        environment: image.environment.clone(),
        roster: roster(facts, accounts)?,
        bash: facts.bash,
    })
}

fn roster(facts: &Facts, accounts: &Accounts) -> Result<Roster, SandboxError> {
    let theirs = ImageAccounts { passwd: &facts.passwd, group: &facts.group };
    let shell = if facts.bash { "/bin/bash" } else { "/bin/sh" };
    Roster::new(accounts, false, theirs, shell).map_err(|error: RosterError| SandboxError::Setup {
        step: "give the sandbox its users".to_owned(),
        message: error.to_string(),
    })
}

/// Changes with everything that the image is made of.
fn tag(image: &Image, accounts: &Accounts) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &[u8]| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    };
    add(FORMAT.as_bytes());
    add(image.id.as_bytes());
    add(&moat_guest::program_hash());
    add(format!("{accounts:?}").as_bytes());
    hasher.finalize().to_hex().chars().take(40).collect()
}

async fn make(engine: &Engine, image: &Image, accounts: &Accounts) -> Result<Base, SandboxError> {
    let docker = engine.docker().await?;
    let failed = |error: &_| engine.error("make an image for sandboxes", error);
    let body = ContainerCreateBody {
        image: Some(image.id.clone()),
        entrypoint: Some(vec![GUEST.to_owned()]),
        network_disabled: Some(true),
        labels: Some([(label::DRAFT.to_owned(), "1".to_owned())].into()),
        ..ContainerCreateBody::default()
    };
    let none = None::<CreateContainerOptions>;
    let made = docker.create_container(none, body).await.map_err(|error| failed(&error))?;
    let draft = Draft { engine, id: made.id };
    let filled = draft.fill(image, accounts).await;
    draft.remove().await;
    filled
}

/// A container that never runs.
struct Draft<'a> {
    engine: &'a Engine,
    id: String,
}

impl Draft<'_> {
    async fn fill(&self, image: &Image, accounts: &Accounts) -> Result<Base, SandboxError> {
        let facts = Facts {
            passwd: self.text("/etc/passwd").await?,
            group: self.text("/etc/group").await?,
            bash: self.has("/bin/bash").await?,
        };
        let roster = roster(&facts, accounts)?;
        let archive = Archive::default()
            .folder(GUEST_FOLDER.trim_start_matches('/'), 0o700)
            .file(GUEST.trim_start_matches('/'), 0o700, moat_guest::program())
            .folder("workspace", 0o755)
            .folder("home", 0o755)
            .folder("moat", 0o755)
            .file("etc/passwd", 0o644, roster.passwd.as_bytes())
            .file("etc/group", 0o644, roster.group.as_bytes());
        self.put(archive.finish()).await?;
        let id = self.commit(image, accounts, &facts).await?;
        base(image, id, &facts, accounts)
    }

    async fn put(&self, archive: Vec<u8>) -> Result<(), DockerError> {
        let options = UploadToContainerOptions {
            path: "/".to_owned(),
            ..UploadToContainerOptions::default()
        };
        let body = bollard::body_full(archive.into());
        let docker = self.engine.docker().await?;
        let put = docker.upload_to_container(&self.id, Some(options), body).await;
        put.map_err(|error| self.engine.error("put the guest into an image", &error))
    }

    async fn commit(
        &self,
        image: &Image,
        accounts: &Accounts,
        facts: &Facts,
    ) -> Result<String, DockerError> {
        let options = CommitContainerOptions {
            container: Some(self.id.clone()),
            repo: Some(REPOSITORY.to_owned()),
            tag: Some(tag(image, accounts)),
            pause: false,
            ..CommitContainerOptions::default()
        };
        let text = serde_json::to_string(facts).unwrap_or_default();
        let mut labels = vec![
            (label::IMAGE.to_owned(), image.id.clone()),
            (label::GUEST.to_owned(), moat_guest::to_hex(&moat_guest::program_hash())),
        ];
        // Without it the image is made again for every sandbox; none has such long lists of users.
        if text.len() <= MAX_FACTS {
            labels.push((label::FACTS.to_owned(), text));
        }
        let config = ContainerConfig {
            image: Some(image.id.clone()),
            labels: Some(labels.into_iter().collect()),
            ..ContainerConfig::default()
        };
        let docker = self.engine.docker().await?;
        let made = docker.commit_container(options, config).await;
        made.map(|made| made.id)
            .map_err(|error| self.engine.error("keep an image for sandboxes", &error))
    }

    /// A small text of the image; empty where there is none.
    async fn text(&self, path: &str) -> Result<String, DockerError> {
        let text = archive::read(self.engine, &self.id, path, MAX_SETTINGS).await?;
        Ok(text.unwrap_or_default())
    }

    async fn has(&self, path: &str) -> Result<bool, DockerError> {
        let options = ContainerArchiveInfoOptions { path: path.to_owned() };
        let docker = self.engine.docker().await?;
        match docker.get_container_archive_info(&self.id, Some(options)).await {
            Ok(_) => Ok(true),
            Err(error) if is_absence(&error) => Ok(false),
            Err(error) => Err(self.engine.error(&format!("look for `{path}` in an image"), &error)),
        }
    }

    /// Best effort: the reaper finds it by its label.
    async fn remove(&self) {
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        if let Ok(docker) = self.engine.docker().await {
            let _ = docker.remove_container(&self.id, Some(options)).await;
        }
    }
}
