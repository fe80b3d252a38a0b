//! What a fresh workspace is to hold.

mod account;
mod ignore;
mod layout;
mod path;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use ignore::IgnoreRules;
pub use layout::{DEFAULT_DEPTH, DEFAULT_MAX_CHARS, Declared, Layout};
pub use path::ManifestError;
pub(crate) use path::parts;

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
    /// Environment of every command. Values reach the sandbox as they are: no secrets.
    pub environment: BTreeMap<String, String>,
    /// Users beside `agent` and `root`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<ManifestUser>,
    /// Groups beside those of the users' own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ManifestGroup>,
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

    /// Adds an entry.
    #[must_use]
    pub fn entry(mut self, path: impl Into<String>, entry: ManifestEntry) -> Self {
        self.entries.insert(path.into(), entry);
        self
    }
}

/// What is at one path of a fresh workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ManifestEntry {
    /// A folder made here.
    Dir(Dir),
    /// A file whose content stands here.
    File(InlineFile),
    /// A copy of a folder of the host.
    LocalDir(LocalDir),
    /// A checkout of a git repository, fetched outside the sandbox.
    GitRepo(GitRepo),
}

/// A folder made here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dir {
    /// What it is for; the model reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Paths beneath it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub children: BTreeMap<String, ManifestEntry>,
}

/// A file whose content stands here, as text or as base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InlineFile {
    /// What it is for; the model reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its content as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Its content as base64, for bytes that are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Whether it can be run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// A copy of a folder of the host. Modes, empty folders and links that stay inside are kept;
/// likely secrets are left out and named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalDir {
    /// What it is for; the model reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The folder, relative to the agent's.
    pub src: PathBuf,
    /// Paths to leave out, in the syntax of `.gitignore`; a `.moatignore` in the folder adds to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Paths that look like secrets and are copied all the same, in the same syntax.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_secrets: Vec<String>,
}

impl LocalDir {
    /// A copy of `src` with nothing ignored.
    pub fn new(src: impl Into<PathBuf>) -> Self {
        Self { src: src.into(), ..Self::default() }
    }
}

/// A checkout of a git repository. It is fetched outside the sandbox, with the repository's own
/// configuration and hooks ignored; credentials stay outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GitRepo {
    /// What it is for; the model reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The whole address: `https://…`, `ssh://…`, `git@host:path`, `file:///…`, or a path
    /// relative to the agent's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The host of an `https` address, beside `repo`; `github.com` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `owner/name` at that host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// A branch or tag; the repository's default by default.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The commit that must be what is checked out (40 or 64 hexadecimal digits).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Only this folder of the repository, without its history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subpath: Option<String>,
}

impl ManifestEntry {
    /// What it is for.
    pub fn description(&self) -> Option<&str> {
        match self {
            Self::Dir(Dir { description, .. })
            | Self::File(InlineFile { description, .. })
            | Self::LocalDir(LocalDir { description, .. })
            | Self::GitRepo(GitRepo { description, .. }) => description.as_deref(),
        }
    }
}
