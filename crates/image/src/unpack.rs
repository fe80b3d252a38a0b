use std::io::{self, Read};
use std::path::Path;

/// Fills and empties the folders of images. What is in a layer is hostile, so whoever does it is
/// confined to the folder. All of it blocks.
pub trait Unpack: Send + Sync {
    /// A word (lowercase letters, digits) for whom the files belong to, as it matters to whoever
    /// uses the folder. Folders of different words are never mixed up.
    fn owners(&self) -> &str;

    /// Makes an empty folder, the root of an image, in one that exists.
    ///
    /// # Errors
    /// [`UnpackError::System`].
    fn begin(&self, folder: &Path) -> Result<(), UnpackError>;

    /// Applies a layer, given as an uncompressed tar stream, to a folder, and reads the stream to
    /// its end.
    ///
    /// # Errors
    /// [`UnpackError`]; what is in the folder then is not to be used.
    fn apply(
        &self,
        folder: &Path,
        layer: &mut dyn Read,
        bounds: LayerBounds,
    ) -> Result<LayerCount, UnpackError>;

    /// Removes a folder with everything in it. One that is not there is no error.
    ///
    /// # Errors
    /// [`UnpackError::System`].
    fn remove(&self, folder: &Path) -> Result<(), UnpackError>;
}

/// What one layer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerBounds {
    /// Members.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// What one layer had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerCount {
    /// Members.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Devices, which are left out.
    pub devices: u64,
}

/// Why a layer could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The layer has something in it that is not unpacked.
    #[error("`{member}` is refused: {reason}")]
    Refused {
        /// Which member, escaped.
        member: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refused.
    #[error("cannot {step}: {message}")]
    System {
        /// What was tried.
        step: String,
        /// What the system said.
        message: String,
    },
    /// The layer could not be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
}
