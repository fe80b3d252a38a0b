use std::io;
use std::path::PathBuf;

use moat_core::Retryable;

/// Why something could not be mounted or copied.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A program is missing.
    #[error(
        "`{program}` is not installed, and {needs}: install it ({install}), or use `strategy: copy`"
    )]
    Missing {
        /// Which.
        program: &'static str,
        /// What needs it, as the beginning of a sentence.
        needs: &'static str,
        /// How it is had.
        install: &'static str,
    },
    /// This host has no FUSE.
    #[error(
        "this host cannot mount: there is no /dev/fuse (in a container, hand it in with `--device /dev/fuse`); `strategy: copy` works without"
    )]
    NoFuse,
    /// A credential could not be read.
    #[error("the credential `{name}`: {reason}")]
    Credential {
        /// Its name.
        name: String,
        /// What went wrong, and what to do about it.
        reason: String,
    },
    /// Rclone gave up.
    #[error("rclone could not reach `{remote}`: {message}")]
    Rclone {
        /// What it was to reach.
        remote: String,
        /// The end of what it said, without credentials.
        message: String,
    },
    /// It was not there in time.
    #[error("`{remote}` was not mounted within {seconds} seconds: {message}")]
    Late {
        /// What it was to reach.
        remote: String,
        /// How long it was waited for.
        seconds: u64,
        /// The end of what rclone said.
        message: String,
    },
    /// Somebody else has the shared folder.
    #[error(
        "the shared folder `{name}` is held by {holder}; try again when that run has ended, or share it as `copy_on_write`"
    )]
    Held {
        /// The folder's name.
        name: String,
        /// Who has it.
        holder: String,
    },
    /// A folder of ours could not be used.
    #[error("cannot {step} `{}`: {source}", path.display())]
    Folder {
        /// What was tried.
        step: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl MountError {
    pub(crate) fn folder(
        step: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Folder { step, path, source }
    }
}

impl Retryable for MountError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Rclone { .. } | Self::Late { .. } | Self::Held { .. })
    }
}
