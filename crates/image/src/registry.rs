//! Images from registries, through the standard client.
//!
//! The client answers bearer challenges, follows redirects and reads a manifest whole; here sizes are
//! bounded, digests are checked again, and blobs go to disk as they come. Like most HTTP clients it
//! goes through the proxy that `HTTPS_PROXY` names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tokio::io::AsyncWriteExt as _;

use crate::manifest::{self, Descriptor, MAX_INDEX_DEPTH, Manifest};
use crate::source::{Found, Place, found};
use crate::{
    Digest, ImageError, ImageLimits, OnProgress, Progress, RegistryName, RegistryPassword,
};

/// How long a manifest may take, and how long nothing may come of a layer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(20);

const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// An image of a registry whose layers were not fetched yet.
pub(crate) struct Remote {
    client: Client,
    reference: Reference,
    registry: String,
    limits: ImageLimits,
    /// Of the configuration, which is the image's.
    pub(crate) digest: Digest,
    config: Vec<u8>,
    layers: Vec<Descriptor>,
}

impl Remote {
    /// Finds out what the image is.
    pub(crate) async fn find(
        name: &RegistryName,
        password: Option<RegistryPassword>,
        limits: &ImageLimits,
    ) -> Result<Self, ImageError> {
        let auth = match password {
            Some(password) => RegistryAuth::Basic(password.user, password.password),
            None => RegistryAuth::Anonymous,
        };
        let client = client(name)?;
        let mut reference = reference(name);
        let mut wanted = name.digest.clone();
        for _ in 0..=MAX_INDEX_DEPTH {
            let pulled = client.pull_manifest_raw(&reference, &auth, &MANIFESTS);
            let pulled = tokio::time::timeout(PATIENCE, pulled).await;
            let (bytes, _) = pulled
                .map_err(|_| failed(name, "its manifest takes too long", true))?
                .map_err(|error| from_client(name, &error))?;
            if bytes.len() as u64 > limits.manifest_bytes {
                let limit = format!("{} bytes", limits.manifest_bytes);
                return Err(ImageError::TooLarge { what: "the manifest".to_owned(), limit });
            }
            if let Some(wanted) = &wanted {
                wanted.check(&bytes, "the manifest")?;
            }
            match manifest::parse(&bytes, "the manifest")? {
                Manifest::Index(all) => {
                    let chosen = manifest::choose(all, None)?;
                    reference = reference.clone_with_digest(chosen.digest.to_string());
                    wanted = Some(chosen.digest);
                }
                Manifest::Image { config, layers } => {
                    let registry = name.registry.clone();
                    let digest = config.digest.clone();
                    let mut remote = Self {
                        client,
                        reference,
                        registry,
                        limits: *limits,
                        digest,
                        config: Vec::new(),
                        layers,
                    };
                    remote.config = remote.text(&config).await?;
                    remote.check_sizes()?;
                    return Ok(remote);
                }
            }
        }
        Err(ImageError::malformed("the manifest", "indexes are nested too deeply"))
    }

    /// What is too large is not even begun.
    fn check_sizes(&self) -> Result<(), ImageError> {
        let place =
            |layer: &Descriptor| Place { file: PathBuf::new(), offset: 0, length: layer.size };
        let layers = self.layers.iter().map(|layer| (place(layer), None)).collect();
        found(self.digest.clone(), &self.config, layers, &self.limits).map(drop)
    }

    /// The image's configuration, whole.
    async fn text(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let what = "the image's configuration";
        if descriptor.size > self.limits.manifest_bytes {
            let limit = format!("{} bytes", self.limits.manifest_bytes);
            return Err(ImageError::TooLarge { what: what.to_owned(), limit });
        }
        let mut bytes = Vec::new();
        self.blob(descriptor, Sink::Memory(&mut bytes)).await?;
        descriptor.digest.check(&bytes, what)?;
        Ok(bytes)
    }

    /// Fetches all layers into a folder.
    pub(crate) async fn fetch(
        &self,
        folder: &Path,
        progress: &OnProgress,
    ) -> Result<Found, ImageError> {
        let mut places = Vec::new();
        let mut there: BTreeMap<Digest, Place> = BTreeMap::new();
        for (number, layer) in (1..).zip(&self.layers) {
            let place = match there.get(&layer.digest) {
                Some(place) => place.clone(),
                None => {
                    let path = folder.join(layer.digest.hex());
                    self.layer(layer, number, &path, progress).await?;
                    Place::whole(path)?
                }
            };
            there.insert(layer.digest.clone(), place.clone());
            places.push((place, Some(layer.digest.clone())));
        }
        found(self.digest.clone(), &self.config, places, &self.limits)
    }

    async fn layer(
        &self,
        layer: &Descriptor,
        number: usize,
        path: &Path,
        progress: &OnProgress,
    ) -> Result<(), ImageError> {
        let made = tokio::fs::File::create_new(path).await;
        let mut file = made.map_err(ImageError::file("make", path))?;
        let (layers, total) = (self.layers.len(), layer.size);
        let heard = |bytes| progress(Progress::Fetching { layer: number, layers, bytes, total });
        self.blob(layer, Sink::File { file: &mut file, path, heard: &heard }).await?;
        file.flush().await.map_err(ImageError::file("write", path))
    }

    /// Hands a blob over as it comes; it has exactly the size that was said.
    async fn blob(&self, descriptor: &Descriptor, mut sink: Sink<'_>) -> Result<(), ImageError> {
        let failed = |reason: &str| self.failed(reason, true);
        let digest = descriptor.digest.to_string();
        let begun = self.client.pull_blob_stream(&self.reference, digest.as_str());
        let begun = tokio::time::timeout(PATIENCE, begun).await;
        let mut blob = begun
            .map_err(|_| failed("it does not answer"))?
            .map_err(|error| self.broken(&error))?;
        let mut left = descriptor.size;
        loop {
            let part = tokio::time::timeout(PATIENCE, blob.next()).await;
            let part = match part.map_err(|_| failed("nothing more comes"))? {
                Some(part) => part.map_err(|error| failed(&format!("a blob: {error}")))?,
                None if left == 0 => return Ok(()),
                None => return Err(failed("a blob ends too early")),
            };
            left = left.checked_sub(part.len() as u64).ok_or_else(|| {
                let expected = descriptor.digest.clone();
                ImageError::Digest { what: "a blob".to_owned(), expected }
            })?;
            sink.take(&part, descriptor.size - left).await?;
        }
    }

    fn failed(&self, reason: &str, retryable: bool) -> ImageError {
        let registry = self.registry.clone();
        ImageError::Registry { registry, reason: reason.to_owned(), retryable }
    }

    fn broken(&self, error: &OciDistributionError) -> ImageError {
        let (reason, retryable) = explain(error);
        self.failed(&reason, retryable)
    }
}

/// Where a blob goes.
enum Sink<'a> {
    Memory(&'a mut Vec<u8>),
    File {
        file: &'a mut tokio::fs::File,
        path: &'a Path,
        /// Is told how many bytes have come.
        heard: &'a (dyn Fn(u64) + Send + Sync),
    },
}

impl Sink<'_> {
    /// The next part, after which so many bytes have come.
    async fn take(&mut self, part: &[u8], come: u64) -> Result<(), ImageError> {
        match self {
            Self::Memory(bytes) => bytes.extend_from_slice(part),
            Self::File { file, path, heard } => {
                file.write_all(part).await.map_err(ImageError::file("write", path))?;
                heard(come);
            }
        }
        Ok(())
    }
}

fn client(name: &RegistryName) -> Result<Client, ImageError> {
    // The client takes the process's choice of cryptography; where nobody has chosen, it is ours.
    // That somebody else was quicker is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let protocol = if name.is_loopback() { ClientProtocol::Http } else { ClientProtocol::Https };
    let config = ClientConfig {
        protocol,
        read_timeout: Some(PATIENCE),
        connect_timeout: Some(CONNECT),
        user_agent: concat!("moat/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|error| from_client(name, &error))
}

fn reference(name: &RegistryName) -> Reference {
    let (registry, repository) = (name.registry.clone(), name.repository.clone());
    match (&name.digest, &name.tag) {
        (Some(digest), _) => Reference::with_digest(registry, repository, digest.to_string()),
        (None, tag) => {
            let tag = tag.clone().unwrap_or_else(|| "latest".to_owned());
            Reference::with_tag(registry, repository, tag)
        }
    }
}

fn failed(name: &RegistryName, reason: &str, retryable: bool) -> ImageError {
    let registry = name.registry.clone();
    ImageError::Registry { registry, reason: reason.to_owned(), retryable }
}

fn from_client(name: &RegistryName, error: &OciDistributionError) -> ImageError {
    let (reason, retryable) = explain(error);
    failed(name, &reason, retryable)
}

/// What the client says, in one line of bounded length, and whether trying again may help.
fn explain(error: &OciDistributionError) -> (String, bool) {
    let retryable = match error {
        OciDistributionError::RequestError(error) => {
            error.is_timeout() || error.is_connect() || error.is_body()
        }
        OciDistributionError::ServerError { code, .. } => *code >= 500 || *code == 429,
        _ => false,
    };
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect();
    (text, retryable)
}
