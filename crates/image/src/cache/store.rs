//! One image's place in the cache.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::{CachedImage, OnProgress, Progress, key};
use crate::layer::{self, Budget};
use crate::source::Found;
use crate::{Digest, Image, ImageConfig, ImageError, ImageLimits, Unpack};

const IMAGES: &str = "images";
const ROOT: &str = "rootfs";
const RECORD: &str = "image.json";

/// What stands beside an unpacked image.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    digest: Digest,
    reference: String,
    config: ImageConfig,
    bytes: u64,
    devices: u64,
}

pub(super) struct Store {
    images: PathBuf,
    key: String,
}

impl Store {
    pub(super) fn new(cache: &Path, digest: &Digest, owners: &str) -> Self {
        Self { images: cache.join(IMAGES), key: key(digest, owners) }
    }

    /// By a key that came from outside, and becomes a part of paths.
    pub(super) fn by_key(cache: &Path, key: &str) -> Result<Self, ImageError> {
        if !is_key(key) {
            let text = key.chars().take(100).collect();
            let reason = "it is no key of the cache".to_owned();
            return Err(ImageError::Reference { text, reason });
        }
        Ok(Self { images: cache.join(IMAGES), key: key.to_owned() })
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.images.join(format!(".{}.lock", self.key))
    }

    fn place(&self) -> PathBuf {
        self.images.join(&self.key)
    }

    /// A folder for layers on their way, emptied of what somebody who died left there. The lock has
    /// to be held.
    #[cfg(feature = "registry")]
    pub(super) fn downloads(&self) -> Result<Downloads, ImageError> {
        let start = format!(".fetch-{}-", self.key);
        for entry in fs::read_dir(&self.images).map_err(ImageError::file("list", &self.images))? {
            let entry = entry.map_err(ImageError::file("list", &self.images))?;
            if entry.file_name().to_string_lossy().starts_with(&start) {
                drop(Downloads(entry.path()));
            }
        }
        let downloads = Downloads(self.images.join(format!("{start}{:016x}", self.random()?)));
        let made = DirBuilder::new().mode(0o700).create(&downloads.0);
        made.map_err(ImageError::file("make", &downloads.0))?;
        Ok(downloads)
    }

    /// The image, if it is there: then it is whole.
    pub(super) fn find(&self) -> Result<Option<CachedImage>, ImageError> {
        let place = self.place();
        let path = place.join(RECORD);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ImageError::file("read", &path)(error)),
        };
        let record: Record = serde_json::from_slice(&text)
            .map_err(|error| ImageError::malformed(format!("`{}`", path.display()), error))?;
        if record.version != 1 {
            let what = format!("`{}`", path.display());
            return Err(ImageError::malformed(what, "it is of a version that is not known here"));
        }
        let unpacked = fs::metadata(&path).and_then(|stat| stat.modified());
        let folder = place.join(ROOT);
        let folder = fs::canonicalize(&folder).map_err(ImageError::file("find", &folder))?;
        Ok(Some(CachedImage {
            key: self.key.clone(),
            image: Image {
                digest: Some(record.digest),
                folder,
                config: record.config,
                devices: record.devices,
            },
            reference: record.reference,
            bytes: record.bytes,
            unpacked: unpacked.unwrap_or(SystemTime::UNIX_EPOCH),
        }))
    }

    /// Unpacks the image. The lock has to be held.
    pub(super) fn unpack(
        &self,
        found: &Found,
        reference: &str,
        unpack: &dyn Unpack,
        limits: &ImageLimits,
        progress: &OnProgress,
    ) -> Result<Image, ImageError> {
        self.remove_leftovers(unpack)?;
        let random = self.random()?;
        let new = self.images.join(format!(".new-{}-{random:016x}", self.key));
        let done = self.fill(&new, found, reference, unpack, limits, progress);
        if done.is_err() {
            // What cannot be removed now is removed by whoever wants the image next.
            let _ = remove(&new, unpack);
        }
        done?;
        let cached = self.find()?;
        let gone = || ImageError::malformed("the cache", "an image that was just unpacked is gone");
        cached.map(|cached| cached.image).ok_or_else(gone)
    }

    fn random(&self) -> Result<u64, ImageError> {
        getrandom::u64().map_err(|error| {
            ImageError::file("name a folder in", &self.images)(std::io::Error::other(error))
        })
    }

    fn fill(
        &self,
        new: &Path,
        found: &Found,
        reference: &str,
        unpack: &dyn Unpack,
        limits: &ImageLimits,
        progress: &OnProgress,
    ) -> Result<(), ImageError> {
        let make = |path: &Path| {
            DirBuilder::new().mode(0o700).create(path).map_err(ImageError::file("make", path))
        };
        make(new)?;
        let root = new.join(ROOT);
        unpack.begin(&root).map_err(|source| ImageError::Layer { layer: 0, source })?;
        let mut budget = Budget::of(limits);
        let (mut bytes, mut devices) = (0_u64, 0_u64);
        let layers = found.layers.len();
        for (number, layer) in (1..).zip(&found.layers) {
            progress(Progress::Unpacking { layer: number, layers });
            let count = layer::apply(layer, number, &root, unpack, limits, &mut budget)?;
            bytes = bytes.saturating_add(count.bytes);
            devices = devices.saturating_add(count.devices);
        }
        let record = Record {
            version: 1,
            digest: found.digest.clone(),
            reference: reference.to_owned(),
            config: found.config.clone(),
            bytes,
            devices,
        };
        let path = new.join(RECORD);
        let text = serde_json::to_vec_pretty(&record)
            .map_err(|error| ImageError::malformed("the image's record", error))?;
        fs::write(&path, text).map_err(ImageError::file("write", &path))?;
        settle(new, &self.images, &self.place())
    }

    /// Images that somebody was unpacking when he died: the lock says that he is not at it.
    fn remove_leftovers(&self, unpack: &dyn Unpack) -> Result<(), ImageError> {
        let start = format!(".new-{}-", self.key);
        for entry in fs::read_dir(&self.images).map_err(ImageError::file("list", &self.images))? {
            let entry = entry.map_err(ImageError::file("list", &self.images))?;
            if entry.file_name().to_string_lossy().starts_with(&start) {
                remove(&entry.path(), unpack)?;
            }
        }
        Ok(())
    }

    /// The lock has to be held.
    pub(super) fn remove(&self, unpack: &dyn Unpack) -> Result<(), ImageError> {
        let place = self.place();
        // First out of sight, so that a half-removed image is never taken for a whole one.
        let aside = self.images.join(format!(".new-{}-removed", self.key));
        match fs::rename(&place, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(ImageError::file("remove", &place)(error)),
        }
        self.remove_leftovers(unpack)
    }
}

/// Layers on their way; removed when this is dropped.
#[cfg(feature = "registry")]
pub(super) struct Downloads(PathBuf);

#[cfg(feature = "registry")]
impl Downloads {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn remove(&self) -> std::io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(feature = "registry")]
impl Drop for Downloads {
    fn drop(&mut self) {
        // What cannot be removed now is removed by whoever fetches the image next.
        let _ = self.remove();
    }
}

/// Puts a finished image in its place, once all of it is on disk.
fn settle(new: &Path, images: &Path, place: &Path) -> Result<(), ImageError> {
    let folder = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| ImageError::file("open", path)(error.into()))
    };
    let sync = ImageError::file("sync", new);
    rustix::fs::syncfs(folder(new)?).map_err(|error| sync(error.into()))?;
    fs::rename(new, place).map_err(ImageError::file("rename", new))?;
    File::from(folder(images)?).sync_all().map_err(ImageError::file("sync", images))
}

/// A whole image's folder; its root belongs to others.
fn remove(place: &Path, unpack: &dyn Unpack) -> Result<(), ImageError> {
    unpack.remove(&place.join(ROOT)).map_err(|source| ImageError::Layer { layer: 0, source })?;
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ImageError::file("remove", place)(error))
        }
        _ => Ok(()),
    }
}

fn is_key(key: &str) -> bool {
    let Some((hex, owners)) = key.split_once('-') else { return false };
    hex.len() == 64
        && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && (1..=20).contains(&owners.len())
        && owners.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

pub(super) fn list(cache: &Path) -> Result<Vec<CachedImage>, ImageError> {
    let images = cache.join(IMAGES);
    let entries = match fs::read_dir(&images) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ImageError::file("list", &images)(error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let name = entry.map_err(ImageError::file("list", &images))?.file_name();
        let name = name.to_string_lossy();
        if is_key(&name) {
            all.extend(Store::by_key(cache, &name)?.find()?);
        }
    }
    all.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(all)
}
