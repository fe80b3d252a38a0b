//! How an agent's sandboxes are made: its `sandbox` member.

use moat_core::{ByteSize, SandboxLimits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks;

/// How the agent's sandboxes are made. What a run's flags say goes before it; of the network they
/// can only take away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxDefinition {
    /// Where commands run: `local`, or `docker:IMAGE` on a Docker engine, with `?runtime=NAME`. What
    /// the program runs commands in by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The image that is the root of its file system: `docker-archive:FILE`, `oci:FOLDER`, a
    /// folder, or a name in a registry. Files are relative to the agent's folder. The host's
    /// system by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Commands run as user 0 of an image, with a root file system that they may write.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub as_root: bool,
    /// Who runs commands: a user of the image or of the manifest; `agent` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What a sandbox may use.
    #[serde(skip_serializing_if = "SandboxLimitsDefinition::is_empty")]
    pub limits: SandboxLimitsDefinition,
}

impl SandboxDefinition {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a sandbox may use, as people write it. Sizes are bytes, or numbers with `K`, `M`, `G` or
/// `T` for powers of 1,024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxLimitsDefinition {
    /// Memory of all processes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Size>")]
    pub memory: Option<ByteSize>,
    /// Swap beside the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Size>")]
    pub swap: Option<ByteSize>,
    /// Processes and threads at once.
    #[serde(deserialize_with = "checks::positive", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub pids: Option<u64>,
    /// Processor cores; parts of one are allowed.
    #[serde(deserialize_with = "checks::cores", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01))]
    pub cpus: Option<f64>,
    /// Seconds of processor time of one command.
    #[serde(deserialize_with = "checks::positive", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub cpu_seconds: Option<u64>,
    /// Open descriptors of one process.
    #[serde(deserialize_with = "checks::positive", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub open_files: Option<u64>,
    /// The largest file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Size>")]
    pub file_size: Option<ByteSize>,
    /// Workspace and home folder together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Size>")]
    pub disk: Option<ByteSize>,
    /// Files and folders of workspace and home folder together.
    #[serde(deserialize_with = "checks::positive", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub files: Option<u64>,
    /// `/tmp`, and as much of `/dev/shm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Size>")]
    pub tmp: Option<ByteSize>,
    /// What one command may print.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Size>")]
    pub output: Option<ByteSize>,
    /// Seconds that one command may run.
    #[serde(deserialize_with = "checks::positive", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub seconds: Option<u64>,
}

/// How [`ByteSize`] is written.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum Size {
    /// Bytes.
    Bytes(u64),
    /// Such as `512M` or `1.5G`.
    Text(String),
}

impl SandboxLimitsDefinition {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a sandbox is told.
    pub fn limits(&self) -> SandboxLimits {
        let bytes = |size: Option<ByteSize>| size.map(|size| size.0);
        let ms = |seconds: Option<u64>| seconds.map(|seconds| seconds.saturating_mul(1000));
        SandboxLimits {
            memory_bytes: bytes(self.memory),
            swap_bytes: bytes(self.swap),
            pids: self.pids,
            // A float to integer cast saturates; the check keeps it positive.
            cpu_millis: self.cpus.map(|cpus| (cpus * 1000.0).round() as u64),
            cpu_time_ms: ms(self.cpu_seconds),
            open_files: self.open_files,
            file_bytes: bytes(self.file_size),
            disk_bytes: bytes(self.disk),
            disk_inodes: self.files,
            tmp_bytes: bytes(self.tmp),
            tmp_inodes: None,
            output_bytes: bytes(self.output),
            wall_ms: ms(self.seconds),
        }
    }
}
