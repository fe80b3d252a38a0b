use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::SandboxLimits;

/// How the sandboxes of a run are made, so that one that is made anew years later is like the
/// first. Holds references to secrets, never values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSettings {
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
