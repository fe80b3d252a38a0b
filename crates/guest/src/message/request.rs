use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Place, Root, Versions};
use crate::RawBytes;

/// What the harness says. The first message on a connection is `Hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ClientMessage {
    /// Opens the connection; answered by `Welcome` or `Refused`.
    Hello {
        /// What the harness speaks.
        versions: Versions,
        /// The epoch of the run's owner. Connections with a lower one are cut off from now on.
        epoch: u64,
    },
    /// Asks for something. Requests may be answered in another order than they came in.
    Request {
        /// Repeated by the answer. Never used twice on a connection.
        id: u64,
        /// What is asked for.
        body: Request,
    },
    /// Allows a listener that many more `Output` messages.
    Credit {
        /// The id of the `Attach` request.
        listener: u64,
        /// Messages.
        frames: u32,
    },
    /// Ends a listener.
    Detach {
        /// The id of the `Attach` request.
        listener: u64,
    },
}

/// What the harness can ask for. Keys are opaque text of at most 128 bytes; paths are relative to
/// their root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Starts a command, or finds the one with the same key. → `Process`
    Start(Start),
    /// The same as somebody else whom the sandbox knows. → `Process`
    StartAs {
        /// His name.
        user: String,
        /// What he runs.
        start: Start,
    },
    /// Hears a process from an offset on, by `Output` and `Exited`. → `Done`
    Attach {
        /// The process.
        key: String,
        /// Bytes of its output that are not wanted.
        offset: u64,
        /// `Output` messages that may be sent before more are allowed by `Credit`.
        credit: u32,
    },
    /// Bytes before `offset` may be dropped. → `Done`
    Acknowledge {
        /// The process.
        key: String,
        /// Bytes of output that are safe.
        offset: u64,
    },
    /// The process or the outcome of the commit may be forgotten. → `Done`
    Release {
        /// The process or commit.
        key: String,
    },
    /// Types the payload into a terminal, once per `call`. → `Done`
    WriteStdin {
        /// The process.
        process: String,
        /// What it is done for.
        call: String,
    },
    /// Signals a process and all its descendants. → `Done`
    Signal {
        /// The process.
        process: String,
        /// The signal's number.
        signal: i32,
    },
    /// Changes the size of a terminal. → `Done`
    Resize {
        /// The process.
        process: String,
        /// Its rows.
        rows: u16,
        /// Its columns.
        columns: u16,
    },
    /// All processes that are kept. → `Processes`
    Processes,
    /// What a path is; a link at its end is not followed. → `Entries` with one record or none
    Stat {
        /// Beneath what.
        root: Root,
        /// The path.
        path: RawBytes,
    },
    /// Reads from a file. → `Bytes`
    ReadAt {
        /// Beneath what.
        root: Root,
        /// The path; links that stay beneath the root are followed.
        path: RawBytes,
        /// Bytes to leave out.
        offset: u64,
        /// Bytes to read, at most 4 MiB.
        length: u32,
    },
    /// Reads what comes next in a file, leaving a hole before it out. From version 3 on. → `Data`
    ReadData {
        /// Beneath what.
        root: Root,
        /// The path; links that stay beneath the root are followed.
        path: RawBytes,
        /// Bytes to leave out.
        offset: u64,
        /// Where to stop, in bytes from the beginning of the file.
        until: u64,
        /// Bytes to read, at most 4 MiB; a hole is not counted.
        length: u32,
    },
    /// Which files commands have mapped into memory to write them. From version 3 on. → `Mapped`
    Mapped,
    /// What is in a folder. → `Entries`, several times
    List {
        /// Beneath what.
        root: Root,
        /// The folder.
        path: RawBytes,
    },
    /// Replaces a file by the payload. → `Done`
    Write {
        /// Beneath what.
        root: Root,
        /// The path.
        path: RawBytes,
        /// Permission bits.
        mode: u32,
    },
    /// Writes the payload into a file. → `Done`
    WriteAt {
        /// Beneath what.
        root: Root,
        /// The path.
        path: RawBytes,
        /// Where it begins.
        offset: u64,
    },
    /// Makes a folder and its parents. → `Done`
    MakeDir {
        /// Beneath what.
        root: Root,
        /// The path.
        path: RawBytes,
    },
    /// Removes whatever is there, with all that is in it. → `Done`
    Remove {
        /// Beneath what.
        root: Root,
        /// The path.
        path: RawBytes,
    },
    /// Renames, replacing a file that is there. → `Done`
    Rename {
        /// Beneath what.
        root: Root,
        /// The old path.
        from: RawBytes,
        /// The new path.
        to: RawBytes,
    },
    /// Keeps the payload as the next part of the contents of the commit `key`. → `Done`
    Stage {
        /// The commit.
        key: String,
        /// Bytes that were staged before; at 0 what was staged is dropped.
        offset: u64,
    },
    /// Changes several files of the workspace as one step. The new contents, one after the other,
    /// are what was staged and then the payload. → `Committed`
    Commit {
        /// What it is done for.
        key: String,
        /// The files.
        changes: Vec<FileChange>,
    },
    /// The outcome of an earlier commit. → `Committed`
    Committed {
        /// The commit.
        key: String,
    },
    /// Stops all commands until `Thaw`, or the end of the connection. → `Frozen`
    Freeze,
    /// Lets them go on. → `Done`
    Thaw,
    /// Stops all commands until `Resume`, whatever becomes of connections. From version 2 on.
    /// → `Frozen`
    Pause,
    /// Lets them go on. From version 2 on. → `Done`
    Resume,
    /// What all commands used since the guest began. From version 2 on. → `Metered`
    Meter,
    /// All paths beneath a root, parents first, names in byte order. → `Entries`, several times
    Scan {
        /// Beneath what.
        root: Root,
        /// Folders that are left out.
        skip: Vec<RawBytes>,
    },
    /// Makes the paths of the payload (apply records). → `Done`
    Apply {
        /// Beneath what.
        root: Root,
    },
    /// Sets modes, owners and times of the payload (apply records). → `Done`
    Finish {
        /// Beneath what.
        root: Root,
    },
    /// The sockets of the sandbox's network. Only over a connection that can carry descriptors,
    /// which come with the first byte of the answer. → `Sockets`
    Network,
    /// A connection to a TCP port of the sandbox's loopback. As with `Network`, its descriptor comes
    /// with the answer. → `Sockets` with one
    Connect {
        /// The port.
        port: u16,
    },
    /// Ends the sandbox. → `Done`, as the last thing
    Shutdown,
}

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Start {
    /// What it is known by.
    pub key: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Where it runs.
    pub cwd: Place,
    /// Added to the sandbox's environment.
    pub environment: BTreeMap<String, String>,
    /// Rows and columns of its terminal. Absent: it has none, and its input is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<(u16, u16)>,
}

/// One file of a commit. Hashes are BLAKE3, as hexadecimal digits; absent: there is no file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FileChange {
    /// Relative to the workspace.
    pub path: RawBytes,
    /// The content that has to be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Bytes of the content that is to be there, which is the next part of the contents. Absent:
    /// the file is to be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its permission bits. Absent: as before, or 0644.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}
