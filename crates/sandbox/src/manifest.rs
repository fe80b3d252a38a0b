//! What a fresh workspace is to hold.

mod account;
mod entry;
mod environment;
mod grant;
mod ignore;
mod layout;
mod mount;
mod path;
mod permissions;
mod schema;
#[cfg(test)]
mod vectors;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use account::check as check_accounts;
pub use account::{Accounts, is_always_there};
pub use entry::{
    ArchiveEntry, Common, Dir, GitRepo, InlineFile, LocalDir, LocalFile, ManifestEntry, Skill,
};
pub(crate) use environment::problem as variable_problem;
pub use environment::{DescribedValue, EnvironmentValue, SecretValue};
pub use grant::{PathGrant, PathOperation, PathPolicy, PathRefusal, ResolvedPath};
pub use ignore::IgnoreRules;
pub use layout::{DEFAULT_DEPTH, DEFAULT_MAX_CHARS, Declared, Layout};
pub use mount::{
    AzureBlobMount, GcsMount, MountPlace, MountStrategy, R2Mount, RcloneMount, S3Mount,
    SecretReference, SharedMount, Sharing,
};
pub use path::ManifestError;
pub(crate) use path::parts;
pub use permissions::Permissions;
pub use schema::schema_text;

/// What a fresh workspace is to hold, and the environment of its commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Manifest {
    /// The version of this shape; 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1))]
    pub version: Option<u32>,
    /// Paths beneath the workspace. `.` is the workspace itself.
    pub entries: BTreeMap<String, ManifestEntry>,
    /// Environment of every command. Text reaches the sandbox as it is; of a secret, which is only
    /// named, its placeholder does.
    pub environment: BTreeMap<String, EnvironmentValue>,
    /// Users beside `agent` and `root`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<ManifestUser>,
    /// Groups beside those of the users' own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ManifestGroup>,
    /// Folders of the sandbox outside of the workspace that the file tools may touch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub path_grants: Vec<PathGrant>,
}

/// A user of the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestUser {
    /// The name: 1 to 32 small letters, digits, `_` and `-`, a letter or `_` first.
    #[serde(deserialize_with = "account::name")]
    #[schemars(regex(pattern = "^[a-z_][a-z0-9_-]{0,31}$"))]
    pub name: String,
    /// The number, from 1001 to 60000; the next free one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "account::uid")]
    #[schemars(range(min = 1001, max = 60000))]
    pub uid: Option<u32>,
}

/// A group of the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestGroup {
    /// The name, as a user's.
    #[serde(deserialize_with = "account::name")]
    #[schemars(regex(pattern = "^[a-z_][a-z0-9_-]{0,31}$"))]
    pub name: String,
    /// Its members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<ManifestUser>,
}

impl Manifest {
    /// A workspace that starts as a copy of one host folder.
    pub fn copy_of(folder: impl Into<PathBuf>) -> Self {
        Self::default().entry(".", ManifestEntry::LocalDir(LocalDir::new(folder)))
    }

    /// Whether an entry belongs to somebody by name.
    pub fn has_owners(&self) -> bool {
        fn any(entries: &BTreeMap<String, ManifestEntry>) -> bool {
            entries.values().any(|entry| {
                let common = entry.common();
                let beneath = matches!(entry, ManifestEntry::Dir(dir) if any(&dir.children));
                common.user.is_some() || common.group.is_some() || beneath
            })
        }
        any(&self.entries)
    }

    /// Adds a folder of the host, copied.
    #[must_use]
    pub fn copy_dir(self, path: impl Into<String>, src: impl Into<PathBuf>) -> Self {
        self.entry(path, ManifestEntry::LocalDir(LocalDir::new(src)))
    }

    /// Adds an empty folder.
    #[must_use]
    pub fn dir(self, path: impl Into<String>) -> Self {
        self.entry(path, ManifestEntry::Dir(Dir::default()))
    }

    /// Adds a file with this text.
    #[must_use]
    pub fn file(self, path: impl Into<String>, text: impl Into<String>) -> Self {
        let file = InlineFile { content: Some(text.into()), ..InlineFile::default() };
        self.entry(path, ManifestEntry::File(file))
    }

    /// Adds a variable.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<EnvironmentValue>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Adds an entry.
    #[must_use]
    pub fn entry(mut self, path: impl Into<String>, entry: ManifestEntry) -> Self {
        self.entries.insert(path.into(), entry);
        self
    }
}
