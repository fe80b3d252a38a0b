use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use moat_core::SandboxLimits;

use crate::Endpoint;
use crate::login::Logins;

/// When an engine fetches an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before every sandbox: what the name means then.
    Always,
    /// When the engine does not have it.
    #[default]
    Missing,
    /// Never: a sandbox on an image that the engine does not have is refused.
    Never,
}

/// How far fetching an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullProgress {
    /// What the engine says that it does, as it says it.
    pub status: String,
    /// The layer that it does it with; empty: the image.
    pub layer: String,
    /// Bytes of that layer so far, and of all of it, where it says so.
    pub bytes: Option<(u64, u64)>,
}

/// Hears how far fetching an image is.
pub(crate) type Listener = Arc<dyn Fn(PullProgress) + Send + Sync>;

/// What a [`DockerProvider`](crate::DockerProvider) is told. It looks at nothing else.
#[derive(Clone)]
pub struct DockerOptions {
    /// Where the engine is.
    pub endpoint: Endpoint,
    /// Where this side keeps its name towards engines, and the sockets of sandboxes that it shares
    /// a file system with; made with mode 0700 if it is not there.
    pub state_dir: PathBuf,
    /// The image of sandboxes that are made.
    pub image: String,
    /// When it is fetched.
    pub pull: PullPolicy,
    /// The engine's runtime, such as `runsc`; absent: the engine's default.
    pub runtime: Option<String>,
    /// Sandboxes are always reached through a bridge, also where engine and harness may share a
    /// file system. They have no network then.
    pub bridge: bool,
    /// What sandboxes may use that do not ask for something else. What is left open here is: ¾ of
    /// the memory of the engine's machine in bytes and no swap, 4096 processes and threads, 2 GiB
    /// (at most half of the memory) in each of `/tmp` and `/dev/shm`, 256 MiB of output per
    /// command; no limit on disk, time, a share of the processor, and single files.
    pub limits: SandboxLimits,
    /// Bytes of output that the guest keeps per process until they are acknowledged.
    pub output_spool: u32,
    /// Hears how far fetching an image is. Must not block.
    pub progress: Option<Listener>,
    /// Knows logins at registries; absent: images are asked for without one.
    pub logins: Option<Logins>,
}

impl DockerOptions {
    /// The engine's default runtime, images fetched when they are missing, the usual limits.
    pub fn new(
        endpoint: Endpoint,
        state_dir: impl Into<PathBuf>,
        image: impl Into<String>,
    ) -> Self {
        Self {
            endpoint,
            state_dir: state_dir.into(),
            image: image.into(),
            pull: PullPolicy::default(),
            runtime: None,
            bridge: false,
            limits: SandboxLimits::default(),
            output_spool: 4 << 20,
            progress: None,
            logins: None,
        }
    }
}

impl fmt::Debug for DockerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerOptions")
            .field("endpoint", &self.endpoint)
            .field("state_dir", &self.state_dir)
            .field("image", &self.image)
            .field("pull", &self.pull)
            .field("runtime", &self.runtime)
            .finish_non_exhaustive()
    }
}
