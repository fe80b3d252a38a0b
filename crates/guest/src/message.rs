use serde::{Deserialize, Serialize};

use crate::RawBytes;

mod reply;
mod request;

pub use reply::{
    CommitOutcome, Failure, GuestMessage, OutputStream, ProcessExit, ProcessStatus, Refusal, Reply,
    Welcome,
};
pub use request::{ClientMessage, FileChange, Request, Start};

/// The versions of the protocol that this code speaks.
pub const VERSIONS: Versions = Versions { min: 1, max: 3 };

/// Bytes of the longest key of a call.
pub const MAX_KEY: usize = 128;

/// Descriptors that come with one answer at most.
pub const MAX_SOCKETS: usize = 64;

/// Files that an answer about mapped files names at most.
pub const MAX_MAPPED: usize = 4096;

/// Bytes of the longest path, as sent and as found by a scan.
pub const MAX_PATH: usize = 64 << 10;

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Versions {
    /// The oldest.
    pub min: u32,
    /// The newest.
    pub max: u32,
}

impl Versions {
    /// The newest version of both, if they share one.
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// What the guest resolves paths beneath.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// Where the agent works.
    Workspace,
    /// The home folder of commands.
    Home,
    /// Whole outputs of calls.
    Outputs,
}

/// A folder to run a command in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Place {
    /// What `path` is relative to. Absent: it is absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The path; empty for the root itself.
    pub path: RawBytes,
}
