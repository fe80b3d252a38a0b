//! The folder of unpacked images.
//!
//! ```text
//! CACHE/images/KEY/rootfs        the image's files, shared and never written again
//! CACHE/images/KEY/image.json    what it asks for
//! CACHE/images/.KEY.lock         held while the image is unpacked or removed
//! CACHE/images/.new-KEY-…        an image that is being unpacked, or was when somebody died
//! ```
//!
//! `KEY` is the digest of the configuration, which names every layer by its digest, and for whom
//! the files belong to.

mod lock;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::layout::Layout;
use crate::source::Found;
use crate::{
    Digest, Image, ImageConfig, ImageError, ImageLimits, ImageReference, RegistryName,
    RegistryPassword, Unpack, docker_archive,
};
use store::Store;

/// What is being done, for whoever waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bytes of a layer have come from the registry.
    Fetching {
        /// Which layer, from 1 on.
        layer: usize,
        /// Of how many.
        layers: usize,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A layer is being unpacked.
    Unpacking {
        /// Which layer, from 1 on.
        layer: usize,
        /// Of how many.
        layers: usize,
    },
}

/// Hears what is being done.
pub type OnProgress = dyn Fn(Progress) + Send + Sync;

/// Says what to tell a registry, by its host; `None`: nothing is said.
pub type Passwords = dyn Fn(&str) -> Option<RegistryPassword> + Send + Sync;

/// Unpacked images.
#[derive(Clone)]
pub struct ImageCache {
    folder: PathBuf,
    limits: ImageLimits,
    passwords: Arc<Passwords>,
}

impl std::fmt::Debug for ImageCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageCache").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// An unpacked image in the cache.
#[derive(Clone, Debug)]
pub struct CachedImage {
    /// Its name in the cache, for [`ImageCache::remove`].
    pub key: String,
    /// The image.
    pub image: Image,
    /// The name by which it was fetched first.
    pub reference: String,
    /// Bytes of its files, as its layers said.
    pub bytes: u64,
    /// When it was unpacked.
    pub unpacked: SystemTime,
}

impl ImageCache {
    /// Keeps images below `folder`, which is made when it is needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let (folder, limits) = (folder.into(), ImageLimits::default());
        Self { folder, limits, passwords: Arc::new(|_| None) }
    }

    /// With passwords for registries, which are asked for when an image is fetched from one.
    #[must_use]
    pub fn with_passwords(self, passwords: Arc<Passwords>) -> Self {
        Self { passwords, ..self }
    }

    /// With other bounds.
    #[must_use]
    pub fn with_limits(self, limits: ImageLimits) -> Self {
        Self { limits, ..self }
    }

    /// The image, unpacked. One that is in the cache is not unpacked again; of two that want the
    /// same, one waits for the other.
    ///
    /// # Errors
    /// [`ImageError`]. Nothing is left behind.
    pub async fn fetch(
        &self,
        reference: &ImageReference,
        unpack: Arc<dyn Unpack>,
        progress: Arc<OnProgress>,
    ) -> Result<Image, ImageError> {
        let limits = self.limits;
        let wanted = reference.clone();
        let found = match wanted {
            ImageReference::Folder(folder) => return apart(move || as_it_is(&folder)).await,
            ImageReference::DockerArchive(file) => {
                apart(move || docker_archive::find(&file, &limits)).await?
            }
            ImageReference::Layout { folder, tag } => {
                apart(move || Layout::Folder(folder).find(tag.as_deref(), &limits)).await?
            }
            ImageReference::LayoutArchive { file, tag } => {
                apart(move || Layout::archive(&file)?.find(tag.as_deref(), &limits)).await?
            }
            ImageReference::Registry(name) => {
                return self.fetch_from_registry(reference, &name, unpack, progress).await;
            }
        };
        self.unpack(reference, found, unpack, progress).await
    }

    async fn unpack(
        &self,
        reference: &ImageReference,
        found: Found,
        unpack: Arc<dyn Unpack>,
        progress: Arc<OnProgress>,
    ) -> Result<Image, ImageError> {
        let store = Store::new(&self.folder, &found.digest, unpack.owners());
        if let Some(cached) = store.find()? {
            return Ok(cached.image);
        }
        let lock = lock::wait(store.lock_file()).await?;
        self.unpack_locked(lock, store, reference, found, unpack, progress).await
    }

    async fn unpack_locked(
        &self,
        lock: lock::Lock,
        store: Store,
        reference: &ImageReference,
        found: Found,
        unpack: Arc<dyn Unpack>,
        progress: Arc<OnProgress>,
    ) -> Result<Image, ImageError> {
        let (limits, name) = (self.limits, reference.to_string());
        apart(move || {
            let image = match store.find()? {
                Some(cached) => cached.image,
                None => store.unpack(&found, &name, &*unpack, &limits, &*progress)?,
            };
            drop(lock);
            Ok(image)
        })
        .await
    }

    /// Layers are fetched only for an image that is not there, by one of those who want it.
    #[cfg(feature = "registry")]
    async fn fetch_from_registry(
        &self,
        reference: &ImageReference,
        name: &RegistryName,
        unpack: Arc<dyn Unpack>,
        progress: Arc<OnProgress>,
    ) -> Result<Image, ImageError> {
        let password = (self.passwords)(&name.registry);
        let remote = crate::registry::Remote::find(name, password, &self.limits).await?;
        let store = Store::new(&self.folder, &remote.digest, unpack.owners());
        if let Some(cached) = store.find()? {
            return Ok(cached.image);
        }
        let lock = lock::wait(store.lock_file()).await?;
        if let Some(cached) = store.find()? {
            return Ok(cached.image);
        }
        let downloads = store.downloads()?;
        let found = remote.fetch(downloads.path(), &*progress).await?;
        self.unpack_locked(lock, store, reference, found, unpack, progress).await
    }

    #[cfg(not(feature = "registry"))]
    async fn fetch_from_registry(
        &self,
        _: &ImageReference,
        name: &RegistryName,
        _: Arc<dyn Unpack>,
        _: Arc<OnProgress>,
    ) -> Result<Image, ImageError> {
        let _ = &self.passwords;
        Err(ImageError::Registry {
            registry: name.registry.clone(),
            reason: "this program was built without a client for registries".to_owned(),
            retryable: false,
        })
    }

    /// All images in the cache. Blocks.
    ///
    /// # Errors
    /// [`ImageError::File`] if the cache cannot be read.
    pub fn list(&self) -> Result<Vec<CachedImage>, ImageError> {
        store::list(&self.folder)
    }

    /// Removes an image by its key; `unpack` has to be for the same owners. One that is not there
    /// is no error. It is for the caller to know that no sandbox uses it. Blocks, and waits for
    /// whoever unpacks it.
    ///
    /// # Errors
    /// [`ImageError`] if it cannot be removed.
    pub async fn remove(&self, key: &str, unpack: Arc<dyn Unpack>) -> Result<(), ImageError> {
        let store = Store::by_key(&self.folder, key)?;
        let lock = lock::wait(store.lock_file()).await?;
        apart(move || {
            store.remove(&*unpack)?;
            drop(lock);
            Ok(())
        })
        .await
    }
}

/// Runs something that blocks, beside the tasks of this thread.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ImageError::malformed("the work of a thread", error))?
}

/// A folder that is somebody's, used as it is.
fn as_it_is(folder: &Path) -> Result<Image, ImageError> {
    let folder = std::fs::canonicalize(folder).map_err(ImageError::file("find", folder))?;
    if !folder.is_dir() {
        let reason = std::io::Error::other("it is no folder");
        return Err(ImageError::file("use", &folder)(reason));
    }
    Ok(Image { digest: None, folder, config: ImageConfig::default(), devices: 0 })
}

/// What makes a name of a folder in the cache.
fn key(digest: &Digest, owners: &str) -> String {
    format!("{}-{owners}", digest.hex())
}
