use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{GuestLimits, RawBytes};

/// The descriptor at which the guest finds its listening unix stream socket, already bound.
pub const LISTENER_FD: i32 = 3;

/// The descriptor from which the guest reads its [`GuestConfig`] as JSON, to the end.
pub const CONFIG_FD: i32 = 4;

/// What the launcher tells the guest when it starts it, on descriptor [`CONFIG_FD`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestConfig {
    /// The epoch of the owner that makes the sandbox; a connection with a lower one is refused.
    pub epoch: u64,
    /// Milliseconds that the guest goes on after its last connection has closed. 0: it ends when
    /// the first connection closes and leaves no other.
    pub orphan_grace_ms: u64,
    /// Milliseconds that it waits for the first connection.
    #[serde(default = "default_start_grace_ms")]
    pub start_grace_ms: u64,
    /// Where its roots are, as it sees them.
    pub roots: RootPaths,
    /// A descriptor through which the outputs root is written. It lets a launcher mount the path
    /// read-only for everyone and still give the guest a way to write. Absent: through the path.
    #[serde(default)]
    pub outputs_fd: Option<i32>,
    /// Descriptors of sockets that the guest keeps and hands out on `Network`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_fds: Vec<i32>,
    /// The user that commands run as. Files are made as this user as well.
    pub uid: u32,
    /// The group that commands run as.
    pub gid: u32,
    /// Further groups of theirs.
    #[serde(default)]
    pub groups: Vec<u32>,
    /// Capabilities that their processes have, a bit for each by its number. Commands of other users
    /// have none.
    #[serde(default)]
    pub capabilities: u64,
    /// Others that commands can run as, by name.
    #[serde(default)]
    pub users: BTreeMap<String, GuestUser>,
    /// Environment of every command. Nothing else is inherited.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Bytes of output that are kept per process until they are acknowledged. A process whose
    /// spool is full blocks.
    #[serde(default = "default_output_spool")]
    pub output_spool: u32,
    /// Processes that are kept, running or ended, until they are released.
    #[serde(default = "default_max_processes")]
    pub max_processes: u32,
    /// What commands are held to.
    #[serde(default)]
    pub limits: GuestLimits,
}

/// Somebody that commands can run as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestUser {
    /// His number.
    pub uid: u32,
    /// His group.
    pub gid: u32,
    /// Further groups of his.
    #[serde(default)]
    pub groups: Vec<u32>,
    /// What his commands' environment has instead of the others'.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// Absolute paths of the roots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootPaths {
    /// The workspace.
    pub workspace: RawBytes,
    /// The home folder of commands.
    pub home: RawBytes,
    /// Whole outputs of calls. The guest's own user writes it, commands only read it.
    pub outputs: RawBytes,
}

fn default_start_grace_ms() -> u64 {
    30_000
}

fn default_output_spool() -> u32 {
    1 << 20
}

fn default_max_processes() -> u32 {
    128
}
