//! What can be at one path of a fresh workspace.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mount::{AzureBlobMount, GcsMount, R2Mount, RcloneMount, S3Mount, SharedMount};
use super::permissions::Permissions;

/// What is at one path of a fresh workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ManifestEntry {
    /// A folder made here.
    Dir(Dir),
    /// A file whose content stands here.
    File(InlineFile),
    /// A copy of a file of the host.
    LocalFile(LocalFile),
    /// A copy of a folder of the host.
    LocalDir(LocalDir),
    /// A checkout of a git repository, fetched outside the sandbox.
    GitRepo(GitRepo),
    /// A skill: a folder of the host with a `SKILL.md`.
    Skill(Skill),
    /// What is in an archive of the host.
    Archive(ArchiveEntry),
    /// A bucket of S3, or of a service that speaks its protocol.
    S3Mount(S3Mount),
    /// A bucket of Google Cloud Storage.
    GcsMount(GcsMount),
    /// A bucket of Cloudflare R2.
    R2Mount(R2Mount),
    /// A container of Azure Blob Storage.
    AzureBlobMount(AzureBlobMount),
    /// Anything else that rclone reaches.
    RcloneMount(RcloneMount),
    /// A folder that several runs see.
    SharedMount(SharedMount),
}

/// What every entry may say about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Common<'a> {
    /// What it is for.
    pub description: Option<&'a str>,
    /// Checkpoints leave it out.
    pub ephemeral: bool,
    /// Permission bits of the path itself.
    pub permissions: Option<Permissions>,
    /// Whose it is, with everything beneath it.
    pub user: Option<&'a str>,
    /// Which group's it is.
    pub group: Option<&'a str>,
}

/// Makes the type of an entry: its own fields, and those that every entry has.
macro_rules! entry {
    (
        $(#[$about:meta])*
        $name:ident {
            $($(#[$about_field:meta])* $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$about])*
        #[derive(
            Clone, Debug, Default, PartialEq, Eq,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// What it is for; the model reads it.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub description: Option<String>,
            $($(#[$about_field])* pub $field: $type,)*
            /// Checkpoints leave it out: a sandbox that is made anew has it as it was at the start.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub ephemeral: bool,
            /// Permission bits of the path itself: octal digits (`"0640"`) or `rw-r-----`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub permissions: Option<$crate::manifest::Permissions>,
            /// Whose it is, with everything beneath it: `agent` (the default), `root`, or a user of
            /// the manifest.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub user: Option<String>,
            /// Which group's it is: of a user, or of the manifest; the user's own by default.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub group: Option<String>,
        }

        impl $name {
            /// What every entry may say about itself.
            pub fn common(&self) -> $crate::manifest::Common<'_> {
                $crate::manifest::Common {
                    description: self.description.as_deref(),
                    ephemeral: self.ephemeral,
                    permissions: self.permissions,
                    user: self.user.as_deref(),
                    group: self.group.as_deref(),
                }
            }
        }
    };
}
pub(super) use entry;

entry! {
    /// A folder made here.
    Dir {
        /// Paths beneath it.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        children: BTreeMap<String, ManifestEntry>,
    }
}

entry! {
    /// A file whose content stands here, as text or as base64.
    InlineFile {
        /// Its content as text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
        /// Its content as base64, for bytes that are no text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
        /// Whether it can be run.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        executable: bool,
    }
}

entry! {
    /// A copy of a file of the host, with its mode. One that is likely a secret is left out and
    /// named.
    LocalFile {
        /// The file, relative to the agent's folder.
        src: PathBuf,
        /// It is copied although it looks like a secret.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        allow_secret: bool,
    }
}

entry! {
    /// A copy of a folder of the host. Modes, empty folders and links that stay inside are kept;
    /// likely secrets are left out and named.
    LocalDir {
        /// The folder, relative to the agent's.
        src: PathBuf,
        /// Paths to leave out, in the syntax of `.gitignore`; a `.moatignore` in the folder adds to
        /// it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ignore: Vec<String>,
        /// Paths that look like secrets and are copied all the same, in the same syntax.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        allow_secrets: Vec<String>,
    }
}

entry! {
    /// A checkout of a git repository. It is fetched outside the sandbox, with the repository's own
    /// configuration and hooks ignored; credentials stay outside.
    GitRepo {
        /// The whole address: `https://…`, `ssh://…`, `git@host:path`, `file:///…`, or a path
        /// relative to the agent's folder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
        /// The host of an `https` address, beside `repo`; `github.com` by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// `owner/name` at that host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repo: Option<String>,
        /// A branch or tag; the repository's default by default.
        #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
        /// The commit that must be what is checked out (40 or 64 hexadecimal digits).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<String>,
        /// Only this folder of the repository, without its history.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
        /// Its submodules are fetched as well, from addresses of the same kinds.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        submodules: bool,
        /// How many commits of history come along: 1 by default, 0 for all of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        depth: Option<u32>,
        /// The name of the secret with which it is fetched over `https`: a token, or
        /// `user:password`. It stays outside the sandbox.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credential: Option<String>,
    }
}

entry! {
    /// A skill: a folder of the host with a `SKILL.md` whose front matter has a `name` and a
    /// `description`. Copied as a folder is; its description is the entry's, unless that has one.
    Skill {
        /// The folder, relative to the agent's.
        src: PathBuf,
        /// Paths that look like secrets and are copied all the same, in the syntax of `.gitignore`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        allow_secrets: Vec<String>,
    }
}

entry! {
    /// What is in an archive of the host: tar, tar.gz, tar.zst or zip, told apart by their bytes.
    /// Every member is checked before any is taken.
    ArchiveEntry {
        /// The file, relative to the agent's folder.
        src: PathBuf,
        /// Only what is beneath this folder of the archive.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
        /// Links that stay inside are taken; without this any link is refused.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        allow_links: bool,
        /// Paths that look like secrets and are taken all the same, in the syntax of `.gitignore`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        allow_secrets: Vec<String>,
        /// Members that it may have; 100,000 by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_members: Option<u64>,
        /// Bytes that all contents may have together; 4 GiB by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_bytes: Option<u64>,
    }
}

impl LocalDir {
    /// A copy of `src` with nothing ignored.
    pub fn new(src: impl Into<PathBuf>) -> Self {
        Self { src: src.into(), ..Self::default() }
    }
}

impl ManifestEntry {
    /// What every entry may say about itself.
    pub fn common(&self) -> Common<'_> {
        match self {
            Self::Dir(entry) => entry.common(),
            Self::File(entry) => entry.common(),
            Self::LocalFile(entry) => entry.common(),
            Self::LocalDir(entry) => entry.common(),
            Self::GitRepo(entry) => entry.common(),
            Self::Skill(entry) => entry.common(),
            Self::Archive(entry) => entry.common(),
            Self::S3Mount(entry) => entry.common(),
            Self::GcsMount(entry) => entry.common(),
            Self::R2Mount(entry) => entry.common(),
            Self::AzureBlobMount(entry) => entry.common(),
            Self::RcloneMount(entry) => entry.common(),
            Self::SharedMount(entry) => entry.common(),
        }
    }

    /// What it is for.
    pub fn description(&self) -> Option<&str> {
        self.common().description
    }

    /// Whether the model is shown a file.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File(_) | Self::LocalFile(_))
    }
}
