use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{BootNonce, SnapshotId};

/// Body of `sandbox_attached`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxAttached {
    /// The provider's name.
    pub provider: String,
    /// What the provider needs to find the sandbox again. Holds no secret.
    pub handle: Value,
    /// Which boot of a guest this is.
    pub nonce: BootNonce,
    /// Fences that this host lacks and that were allowed to be missing, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_fences: Vec<String>,
    /// What else is special about it, by name: `commands_are_root`, `one_owner` (all files of its
    /// image belong to its one user), `owners_hidden` (they belong to nobody inside).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Body of `sandbox_lost`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxLost {
    /// The boot that is gone.
    pub nonce: BootNonce,
    /// What is known about why.
    pub reason: String,
}

/// Body of `sandbox_rehydrated`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxRehydrated {
    /// The snapshot that the new sandbox was filled from.
    pub snapshot: SnapshotId,
    /// The new boot.
    pub nonce: BootNonce,
    /// Milliseconds it took.
    #[serde(default)]
    pub duration_ms: u64,
}

/// Body of `checkpointed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpointed {
    /// The snapshot, committed and verified.
    pub snapshot: SnapshotId,
    /// Files in it.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// Bytes that had not been stored before.
    #[serde(default)]
    pub new_bytes: u64,
    /// Paths that differ from the checkpoint before, at most 1,000 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// How many paths differ.
    #[serde(default)]
    pub changed_count: u64,
    /// Milliseconds it took.
    #[serde(default)]
    pub duration_ms: u64,
}
