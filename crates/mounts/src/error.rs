use std::io;
use std::path::PathBuf;

use moat_core::Retryable;

/// Why something could not be mounted or copied.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A program is missing.
    #[error("`{program}` is not installed, and {needs}: install it ({install})")]
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
        "this host cannot mount: cannot open /dev/fuse: {source} (in a container, hand it in with `--device /dev/fuse --cap-add SYS_ADMIN`; else `chmod 0666 /dev/fuse` lets everybody use it, as distributions do); `strategy: copy` works without"
    )]
    NoFuse {
        /// What the system said.
        source: io::Error,
    },
    /// Sandboxes would not see what the caller mounts.
    #[error(
        "the kernel shows what you mount to you alone, and users of a sandbox are others: add the line `user_allow_other` to /etc/fuse.conf (as root); `strategy: copy` works without"
    )]
    NotForOthers,
    /// A credential could not be read.
    #[error("the credential `{name}`: {reason}")]
    Credential {
        /// Its name.
        name: String,
        /// What went wrong, and what to do about it.
        reason: String,
    },
    /// Rclone gave up.
    #[error(
        "rclone could not reach `{remote}`; check its name, its address and its credentials: {message}"
    )]
    Rclone {
        /// What it was to reach.
        remote: String,
        /// The end of what it said, without credentials.
        message: String,
    },
    /// It was not there in time.
    #[error(
        "`{remote}` {what} within {seconds} seconds; check its address and its credentials, and whether this host reaches it: {message}"
    )]
    Late {
        /// What it was to reach.
        remote: String,
        /// What did not happen.
        what: &'static str,
        /// How long it was waited for.
        seconds: u64,
        /// The end of what rclone said.
        message: String,
    },
    /// It is not there any more.
    #[error("what served `{path}` has ended")]
    Ended {
        /// Where commands found it.
        path: String,
    },
    /// Something is the matter with one of several.
    #[error("`{path}`: {source}")]
    At {
        /// Where commands were to find it.
        path: String,
        /// What.
        source: Box<MountError>,
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
        match self {
            Self::At { source, .. } => source.is_retryable(),
            Self::Rclone { .. } | Self::Late { .. } | Self::Held { .. } => true,
            _ => false,
        }
    }
}
