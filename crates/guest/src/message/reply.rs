use serde::{Deserialize, Serialize};

use super::Versions;
use crate::{LimitReached, Metered, RawBytes};

/// What the guest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GuestMessage {
    /// The connection is open.
    Welcome(Welcome),
    /// The connection ends: at its start, or because a later owner came. Nothing follows.
    Refused(Refusal),
    /// An answer. All but `Entries` end the request.
    Reply {
        /// Which request.
        id: u64,
        /// The answer.
        body: Reply,
    },
    /// The request could not be done. It has ended.
    Failed {
        /// Which request.
        id: u64,
        /// Why.
        failure: Failure,
    },
    /// The payload is output of a process, at most 64 KiB.
    Output {
        /// The id of the `Attach` request.
        listener: u64,
        /// Bytes of both streams that came before.
        offset: u64,
        /// Where they came from.
        stream: OutputStream,
    },
    /// The process ended, and all its output was sent. The listener has ended.
    Exited {
        /// The id of the `Attach` request.
        listener: u64,
        /// How.
        exit: ProcessExit,
    },
}

/// The first thing a guest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Welcome {
    /// The version that both sides speak from now on.
    pub version: u32,
    /// 32 hexadecimal digits that were drawn when the guest started.
    pub nonce: String,
}

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// An owner with a higher epoch was here.
    Superseded {
        /// The highest epoch.
        epoch: u64,
    },
    /// There is no version that both sides speak.
    Version {
        /// What the guest speaks.
        versions: Versions,
    },
    /// There are too many connections.
    Full,
    /// The other side broke the protocol.
    Protocol {
        /// How.
        reason: String,
    },
}

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It was done.
    Done,
    /// A process.
    Process(ProcessStatus),
    /// Processes.
    Processes(Vec<ProcessStatus>),
    /// The payload is what was asked for.
    Bytes,
    /// The payload is what was asked for, behind a hole.
    Data {
        /// Zero bytes that come before the payload.
        hole: u64,
    },
    /// Files that commands can write without a call that anybody sees.
    Mapped {
        /// Their inodes, at most 4096.
        inodes: Vec<u64>,
        /// There may be others: not every process could be looked at, or there are too many files.
        others: bool,
    },
    /// The payload is stat records; more follow unless this is the last.
    Entries {
        /// Nothing follows.
        last: bool,
    },
    /// What came of a commit; absent: there was none under that key.
    Committed(Option<CommitOutcome>),
    /// Whether there were any commands to stop.
    Frozen(bool),
    /// So many descriptors come with the answer's first byte.
    Sockets(u32),
    /// What all commands used.
    Metered(Metered),
}

/// Where output came from. A terminal has only `stdout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A process that the guest keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProcessStatus {
    /// What it is known by.
    pub key: String,
    /// Bytes of output so far.
    pub output: u64,
    /// How it ended; absent: it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ProcessExit>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProcessExit {
    /// Its exit code, or -N if signal N ended it.
    pub code: i32,
    /// The limit that it reached, if it reached one. From version 2 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitReached>,
    /// What it and its descendants used. From version 2 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metered: Option<Metered>,
    /// Milliseconds that it ran.
    pub wall_ms: u64,
}

/// What came of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CommitOutcome {
    /// Every file is as wanted.
    Done,
    /// A file was neither as before nor as after; nothing was changed.
    Conflict(RawBytes),
}

/// Why a request could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// No process and no commit has that key.
    UnknownKey,
    /// The process has no terminal, or has ended.
    StdinClosed,
    /// A path leads out of its root, or is no path.
    Outside {
        /// Which.
        path: RawBytes,
    },
    /// The operating system refused.
    Os {
        /// What was tried.
        operation: String,
        /// On what.
        path: RawBytes,
        /// The error's number.
        errno: i32,
    },
    /// The guest cannot do that.
    Unsupported {
        /// What: the end of a sentence that begins with "cannot".
        what: String,
    },
}
