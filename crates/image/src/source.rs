//! An image that was found, and its parts as ranges of files.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom, Take};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::{Digest, ImageConfig, ImageError, ImageLimits};

/// An image: what it asks for, and where its layers are.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) digest: Digest,
    pub(crate) config: ImageConfig,
    pub(crate) layers: Vec<Layer>,
}

/// One layer as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) place: Place,
    /// Of what is stored; `None`: nobody says.
    pub(crate) digest: Option<Digest>,
    /// Of what comes out when it is decompressed.
    pub(crate) diff_id: Digest,
}

/// A range of a file.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Place {
    /// A whole file.
    pub(crate) fn whole(path: PathBuf) -> Result<Self, ImageError> {
        let length = open(&path)?.metadata().map_err(ImageError::file("look at", &path))?.len();
        Ok(Self { file: path, offset: 0, length })
    }

    pub(crate) fn open(&self) -> Result<Take<BufReader<File>>, ImageError> {
        let mut file = open(&self.file)?;
        file.seek(SeekFrom::Start(self.offset)).map_err(ImageError::file("read", &self.file))?;
        Ok(BufReader::with_capacity(256 << 10, file).take(self.length))
    }

    /// All of it, if it is no larger than a text of an image may be.
    pub(crate) fn read(&self, what: &str, limits: &ImageLimits) -> Result<Vec<u8>, ImageError> {
        let limit = limits.manifest_bytes;
        if self.length > limit {
            let limit = format!("{limit} bytes");
            return Err(ImageError::TooLarge { what: what.to_owned(), limit });
        }
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes).map_err(ImageError::file("read", &self.file))?;
        Ok(bytes)
    }
}

/// Opens a regular file; nothing else, which could keep the opener waiting.
pub(crate) fn open(path: &Path) -> Result<File, ImageError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).and_then(|fd| {
        let stat = rustix::fs::fstat(&fd)?;
        Ok((fd, FileType::from_raw_mode(stat.st_mode)))
    });
    let (fd, kind) = opened.map_err(|error| ImageError::file("open", path)(error.into()))?;
    if kind != FileType::RegularFile {
        let reason = std::io::Error::other("it is no file");
        return Err(ImageError::file("open", path)(reason));
    }
    Ok(File::from(fd))
}

/// Pairs layers with the digests that the configuration has of them.
pub(crate) fn found(
    digest: Digest,
    config: &[u8],
    layers: Vec<(Place, Option<Digest>)>,
    limits: &ImageLimits,
) -> Result<Found, ImageError> {
    let (config, diff_ids) = crate::config::parse(config)?;
    if diff_ids.len() != layers.len() {
        let reason = format!("it has {} layers and names {}", layers.len(), diff_ids.len());
        return Err(ImageError::malformed("the image", reason));
    }
    if layers.len() > limits.layers {
        let limit = format!("{} layers", limits.layers);
        return Err(ImageError::TooLarge { what: "the image".to_owned(), limit });
    }
    let bytes = layers.iter().fold(0_u64, |sum, (place, _)| sum.saturating_add(place.length));
    if bytes > limits.stored_bytes {
        let limit = format!("{} bytes", limits.stored_bytes);
        return Err(ImageError::TooLarge { what: "the image".to_owned(), limit });
    }
    let layers = layers.into_iter().zip(diff_ids);
    let layers =
        layers.map(|((place, digest), diff_id)| Layer { place, digest, diff_id }).collect();
    Ok(Found { digest, config, layers })
}
