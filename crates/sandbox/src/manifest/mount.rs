//! Storage elsewhere that a sandbox sees as a folder.
//!
//! Credentials are named, never written down: whoever runs the agent says where each name's value
//! is read, and only the program that mounts, on the harness's side, is given it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::entry::entry;

/// A reference to a credential of the host, by the name that its owner gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretReference {
    /// The name.
    pub secret: String,
}

/// How the files of storage elsewhere come into the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MountStrategy {
    /// They are mounted by the harness: read when they are needed, and left out of checkpoints.
    #[default]
    Mount,
    /// They are copied before the run begins and are files of the workspace from then on.
    Copy,
}

/// How runs share a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Nobody can change it.
    #[default]
    ReadOnly,
    /// One sandbox at a time has it, and can change it; others wait for a while and are refused by
    /// name then.
    Lock,
    /// Each run has a copy of its own from the moment it began; nobody sees another's changes.
    CopyOnWrite,
}

/// Makes the type of a mount: its own fields, those of all mounts, and those of all entries.
macro_rules! mount {
    (
        $(#[$about:meta])*
        $name:ident { $($(#[$about_field:meta])* $field:ident: $type:ty,)* }
    ) => {
        entry! {
            $(#[$about])*
            $name {
                $($(#[$about_field])* $field: $type,)*
                /// Where commands find it: a path beneath the workspace, or an absolute one beneath
                /// `/mnt`, `/media`, `/srv` or `/data`; the entry's own place by default.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                mount_path: Option<String>,
                /// Whether commands can only read it; they can by default.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                read_only: Option<bool>,
                /// Mounted, or copied before the run begins.
                #[serde(default, skip_serializing_if = "is_default")]
                strategy: MountStrategy,
            }
        }

        impl $name {
            /// What every mount says.
            pub fn place(&self) -> MountPlace<'_> {
                MountPlace {
                    path: self.mount_path.as_deref(),
                    read_only: self.read_only.unwrap_or(true),
                    strategy: self.strategy,
                }
            }
        }
    };
}

/// What every mount says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountPlace<'a> {
    /// Where commands find it, if not at the entry's place.
    pub path: Option<&'a str>,
    /// Whether commands can only read it.
    pub read_only: bool,
    /// Mounted or copied.
    pub strategy: MountStrategy,
}

mount! {
    /// A bucket of S3, or of a service that speaks its protocol.
    S3Mount {
        /// The bucket.
        bucket: String,
        /// Only what is beneath this prefix.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// Its region.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<String>,
        /// The address of the service, where it is not Amazon's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint_url: Option<String>,
        /// Whose service it is, in rclone's words (`AWS`, `Minio`, `Ceph`, …); `AWS` by default,
        /// `Other` with an `endpoint_url`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        s3_provider: Option<String>,
        /// The access key's id; without one, requests are not signed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        access_key_id: Option<SecretReference>,
        /// The access key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret_access_key: Option<SecretReference>,
        /// The token that goes with a temporary key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_token: Option<SecretReference>,
    }
}

mount! {
    /// A bucket of Google Cloud Storage.
    GcsMount {
        /// The bucket.
        bucket: String,
        /// Only what is beneath this prefix.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// The address of the service, where it is not Google's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint_url: Option<String>,
        /// The JSON key of a service account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service_account: Option<SecretReference>,
        /// The id of an HMAC key, with which the bucket is reached as one of S3 is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        access_id: Option<SecretReference>,
        /// The HMAC key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret_access_key: Option<SecretReference>,
    }
}

mount! {
    /// A bucket of Cloudflare R2.
    R2Mount {
        /// The bucket.
        bucket: String,
        /// The account that it belongs to.
        account_id: String,
        /// Only what is beneath this prefix.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// The address of the service, where it is another than the account's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint_url: Option<String>,
        /// The access key's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        access_key_id: Option<SecretReference>,
        /// The access key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret_access_key: Option<SecretReference>,
    }
}

mount! {
    /// A container of Azure Blob Storage.
    AzureBlobMount {
        /// The storage account.
        account: String,
        /// The container.
        container: String,
        /// Only what is beneath this prefix.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// The address of the service, where it is not Microsoft's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<String>,
        /// The account's key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account_key: Option<SecretReference>,
        /// An address with a shared access signature, instead of a key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sas_url: Option<SecretReference>,
    }
}

mount! {
    /// Anything else that rclone reaches: `sftp`, `webdav`, `drive`, `box`, `b2`, ….
    RcloneMount {
        /// The kind of storage, in rclone's words.
        backend: String,
        /// The path there.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        path: String,
        /// Settings of that kind of storage, in rclone's words; no secrets.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        options: BTreeMap<String, String>,
        /// Settings whose values are secrets.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        secrets: BTreeMap<String, SecretReference>,
    }
}

entry! {
    /// A folder of this machine that several runs see. It is made when the first run asks for it,
    /// and stays.
    SharedMount {
        /// Its name: 1 to 64 letters, digits, `_`, `-` and `.`, a letter or digit first.
        name: String,
        /// How runs share it.
        #[serde(default, skip_serializing_if = "is_default")]
        sharing: Sharing,
        /// Where commands find it, as of other mounts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mount_path: Option<String>,
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
