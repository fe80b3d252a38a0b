use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{SandboxLimits, SnapshotId};

/// How the sandboxes of a run are made, so that one that is made anew years later is like the
/// first. Holds references to secrets, never values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSettings {
    /// What makes them, as `local` or `docker:IMAGE`; absent: the usual provider of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What each may use.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: SandboxLimits,
    /// The image that is its root; absent: the host's system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRecord>,
    /// Commands run as its user 0, with a root file system that they may write.
    #[serde(skip_serializing_if = "is_default")]
    pub as_root: bool,
    /// Users beside its own, by name, and their numbers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<String, Option<u32>>,
    /// Groups and their members.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Vec<String>>,
    /// Who runs commands that name nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
    /// Its network; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkSettings>,
    /// Variables that hold the placeholder of a secret of the network, and the names of those.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_variables: BTreeMap<String, String>,
    /// What is mounted into it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountRecord>,
    /// What checkpoints leave out and every sandbox has from the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<EphemeralFiles>,
}

/// Files that checkpoints leave out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EphemeralFiles {
    /// Paths beneath the workspace.
    pub paths: Vec<String>,
    /// What a fresh sandbox has there.
    pub snapshot: SnapshotId,
}

/// Something from elsewhere that a sandbox sees as a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// Where commands find it, absolute.
    pub path: String,
    /// Whether they can only read it.
    pub read_only: bool,
    /// What it is.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MountSource {
    /// Storage that is reached over a network.
    Remote(RemoteRecord),
    /// A folder of this machine that several runs see.
    Shared {
        /// Its name.
        name: String,
        /// `read_only`, `lock` or `copy_on_write`.
        sharing: String,
    },
}

/// Storage that is reached over a network, in rclone's words. Secrets are only named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteRecord {
    /// The kind of storage.
    pub backend: String,
    /// The path there: a bucket and a prefix, for most.
    pub path: String,
    /// Settings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Settings whose values are secrets, and the names of those.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
}

impl SandboxSettings {
    /// Nothing differs from what a sandbox is by default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// An image, as it was asked for and as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// What names it.
    pub reference: String,
    /// The digest of its configuration. A sandbox that is made anew has exactly this image.
    pub digest: String,
}

/// The network policy of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkSettings {
    /// Policies from the widest level to the narrowest, each with the level's name.
    pub levels: Vec<(String, Value)>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
