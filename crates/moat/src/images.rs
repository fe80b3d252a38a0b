//! Images of sandboxes: fetched once, found again by their digest.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use moat_core::ImageRecord;
use moat_harness::Images;
use moat_image::{Image, ImageCache, ImageReference, Progress};
use moat_sandbox::{RootFilesystem, SandboxError};
use moat_sandbox_local::LocalProvider;

use crate::exit::usage;
use crate::home::Home;

/// The images of this machine.
#[derive(Clone)]
pub(crate) struct LocalImages {
    cache: ImageCache,
    provider: LocalProvider,
    allow_missing: Vec<String>,
}

impl LocalImages {
    pub(crate) fn new(home: &Home, provider: LocalProvider, allow_missing: &[String]) -> Self {
        let cache = ImageCache::new(home.data.join("images"));
        Self { cache, provider, allow_missing: allow_missing.to_vec() }
    }

    /// The image that a text names, unpacked, and how a journal pins it. Files are relative to
    /// `folder`.
    pub(crate) async fn find(
        &self,
        text: &str,
        folder: &Path,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> anyhow::Result<(ImageRecord, Image)> {
        let reference = match text.parse::<ImageReference>().map_err(usage)? {
            ImageReference::DockerArchive(file) => ImageReference::DockerArchive(folder.join(file)),
            ImageReference::Layout { folder: layout, tag } => {
                ImageReference::Layout { folder: folder.join(layout), tag }
            }
            ImageReference::LayoutArchive { file, tag } => {
                ImageReference::LayoutArchive { file: folder.join(file), tag }
            }
            ImageReference::Folder(root) => ImageReference::Folder(folder.join(root)),
            registry @ ImageReference::Registry(_) => registry,
        };
        let image = self.fetch(&reference, progress).await;
        let image = image.with_context(|| format!("cannot use the image `{text}`"))?;
        let digest = image.digest.as_ref().map(ToString::to_string).unwrap_or_default();
        Ok((ImageRecord { reference: reference.to_string(), digest }, image))
    }

    async fn fetch(
        &self,
        reference: &ImageReference,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Image, moat_image::ImageError> {
        let unpacker = Arc::new(self.provider.unpacker(&self.allow_missing));
        self.cache.fetch(reference, unpacker, Arc::new(progress)).await
    }
}

/// Shows how far an image is, on a terminal.
pub(crate) fn shown(quiet: bool) -> impl Fn(Progress) + Send + Sync + 'static {
    let show = std::io::stderr().is_terminal() && !quiet;
    move |progress| {
        if show {
            show_progress(&progress);
        }
    }
}

#[expect(clippy::print_stderr, reason = "the command line talks to a person here")]
fn show_progress(progress: &Progress) {
    match progress {
        Progress::Fetching { layer, layers, bytes, total } => {
            let (bytes, total) = (bytes / 1_000_000, total / 1_000_000);
            eprint!("\r\u{1b}[Kfetching layer {layer} of {layers}: {bytes} of {total} MB\r");
        }
        Progress::Unpacking { layer, layers } => {
            eprint!("\r\u{1b}[Kunpacking layer {layer} of {layers}\r");
        }
    }
}

/// The root of a sandbox.
pub(crate) fn root_of(image: Image, writable: bool) -> RootFilesystem {
    RootFilesystem::Image { folder: image.folder, environment: image.config.environment, writable }
}

#[async_trait]
impl Images for LocalImages {
    async fn root(
        &self,
        record: &ImageRecord,
        writable: bool,
    ) -> Result<RootFilesystem, SandboxError> {
        let failed = |message: String| SandboxError::Setup {
            step: format!("use the image `{}`", record.reference),
            message,
        };
        let has = |image: &Image| {
            image.digest.as_ref().is_some_and(|digest| digest.to_string() == record.digest)
        };
        // What a run began with is in the cache, also when its archive is gone since.
        let cached = self.cache.list().map_err(|error| failed(error.to_string()))?;
        if let Some(cached) = cached.into_iter().find(|cached| has(&cached.image)) {
            return Ok(root_of(cached.image, writable));
        }
        let reference = record.reference.parse().map_err(|error| failed(format!("{error}")))?;
        let image = self.fetch(&reference, |_| {}).await;
        let image = image.map_err(|error| failed(error.to_string()))?;
        if !record.digest.is_empty() && !has(&image) {
            return Err(failed(format!(
                "it is another one now; the run began with {}",
                record.digest
            )));
        }
        Ok(root_of(image, writable))
    }
}
