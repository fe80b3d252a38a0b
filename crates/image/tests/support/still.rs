//! Unpacks nothing: layers are written one after the other into one file.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use moat_image::{LayerBounds, LayerCount, Unpack, UnpackError};

use crate::builder::Built;

pub(crate) struct Still;

/// Bytes that are there after all layers of an image.
pub(crate) fn length(built: &Built) -> usize {
    built.layers.iter().map(|(tar, _)| tar.len()).sum()
}

impl Unpack for Still {
    fn owners(&self) -> &str {
        "still"
    }

    fn begin(&self, folder: &Path) -> Result<(), UnpackError> {
        Ok(fs::create_dir(folder)?)
    }

    fn apply(
        &self,
        folder: &Path,
        layer: &mut dyn Read,
        _: LayerBounds,
    ) -> Result<LayerCount, UnpackError> {
        let mut file = File::options().create(true).append(true).open(folder.join("layer"))?;
        let bytes = std::io::copy(layer, &mut file)?;
        Ok(LayerCount { entries: 1, bytes, devices: 0 })
    }

    fn remove(&self, folder: &Path) -> Result<(), UnpackError> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}
