//! The OCI image layout, as a folder or as an archive: `index.json` and blobs by their digest.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::archive::Archive;
use crate::manifest::{self, Descriptor, MAX_INDEX_DEPTH, Manifest};
use crate::source::{Found, Place, found};
use crate::{ImageError, ImageLimits};

const MARK: &str = "oci-layout";
const INDEX: &str = "index.json";

/// Where the parts of a layout are.
pub(crate) enum Layout {
    Folder(PathBuf),
    Archive(Archive),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    image_layout_version: String,
}

impl Layout {
    pub(crate) fn archive(file: &Path) -> Result<Self, ImageError> {
        let archive = Archive::open(file)?;
        if !archive.has(MARK) && archive.has("manifest.json") {
            let reason = "it is no OCI layout; name it as docker-archive:FILE";
            return Err(ImageError::malformed(format!("`{}`", file.display()), reason));
        }
        Ok(Self::Archive(archive))
    }

    fn place(&self, name: &str) -> Result<Place, ImageError> {
        match self {
            Self::Folder(folder) => Place::whole(folder.join(name)),
            Self::Archive(archive) => archive.place(name),
        }
    }

    fn blob(&self, descriptor: &Descriptor, what: &str) -> Result<Place, ImageError> {
        let place = self.place(&format!("blobs/sha256/{}", descriptor.digest.hex()))?;
        if place.length != descriptor.size {
            let expected = descriptor.digest.clone();
            return Err(ImageError::Digest { what: what.to_owned(), expected });
        }
        Ok(place)
    }

    fn text(
        &self,
        descriptor: &Descriptor,
        what: &str,
        limits: &ImageLimits,
    ) -> Result<Vec<u8>, ImageError> {
        let bytes = self.blob(descriptor, what)?.read(what, limits)?;
        descriptor.digest.check(&bytes, what)?;
        Ok(bytes)
    }

    /// The image with this tag, or the only one.
    pub(crate) fn find(
        &self,
        tag: Option<&str>,
        limits: &ImageLimits,
    ) -> Result<Found, ImageError> {
        let mark = self.place(MARK)?.read(MARK, limits)?;
        let mark: Mark =
            serde_json::from_slice(&mark).map_err(|error| ImageError::malformed(MARK, error))?;
        if !mark.image_layout_version.starts_with("1.") {
            return Err(ImageError::malformed(MARK, "only version 1 is known here"));
        }
        let mut manifest = manifest::parse(&self.place(INDEX)?.read(INDEX, limits)?, INDEX)?;
        let mut tag = tag;
        for _ in 0..MAX_INDEX_DEPTH {
            match manifest {
                Manifest::Image { config, layers } => return self.image(&config, &layers, limits),
                Manifest::Index(all) => {
                    let chosen = manifest::choose(all, tag.take())?;
                    let bytes = self.text(&chosen, "a manifest", limits)?;
                    manifest = manifest::parse(&bytes, "a manifest")?;
                }
            }
        }
        Err(ImageError::malformed(INDEX, "indexes are nested too deeply"))
    }

    fn image(
        &self,
        config: &Descriptor,
        layers: &[Descriptor],
        limits: &ImageLimits,
    ) -> Result<Found, ImageError> {
        let bytes = self.text(config, "the image's configuration", limits)?;
        let layers = layers
            .iter()
            .map(|layer| Ok((self.blob(layer, "a layer")?, Some(layer.digest.clone()))))
            .collect::<Result<_, ImageError>>()?;
        found(config.digest.clone(), &bytes, layers, limits)
    }
}
