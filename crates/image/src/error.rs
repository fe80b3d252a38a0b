use std::io;
use std::path::{Path, PathBuf};

use moat_core::Retryable;

use crate::{Digest, UnpackError};

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The text names no image.
    #[error("`{text}` is no image: {reason}")]
    Reference {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {step} `{}`: {source}", path.display())]
    File {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Some content is not what its digest says.
    #[error("{what} is not what {expected} says: it was damaged, or changed by somebody")]
    Digest {
        /// Which content.
        what: String,
        /// What it should be.
        expected: Digest,
    },
    /// The image is larger than allowed.
    #[error("{what} is more than {limit}")]
    TooLarge {
        /// What of it.
        what: String,
        /// What is allowed.
        limit: String,
    },
    /// A part of the image makes no sense.
    #[error("{what} makes no sense: {reason}")]
    Malformed {
        /// Which part.
        what: String,
        /// Why.
        reason: String,
    },
    /// There is no such image, or not for this machine.
    #[error("there is no image `{wanted}`; there is {found}")]
    NotFound {
        /// What was wanted.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// A layer could not be applied.
    #[error("layer {layer}: {source}")]
    Layer {
        /// Which one, from 1 on.
        layer: usize,
        /// Why.
        source: UnpackError,
    },
    /// A registry did not give what was asked for.
    #[error("the registry `{registry}`: {reason}")]
    Registry {
        /// Which registry.
        registry: String,
        /// What it said, or what went wrong.
        reason: String,
        /// Whether trying again may help.
        retryable: bool,
    },
}

impl ImageError {
    pub(crate) fn file(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { step, path: path.to_owned(), source }
    }

    pub(crate) fn malformed(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Malformed { what: what.into(), reason: reason.to_string() }
    }
}

impl Retryable for ImageError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Registry { retryable: true, .. })
    }
}
