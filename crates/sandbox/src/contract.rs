mod bases;
mod files;
mod limits;
mod spec;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use moat_core::{BootNonce, CallKey, Epoch, Metered, Retryable, SandboxLimitReached, SnapshotId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

pub use bases::Bases;
pub use files::*;
pub use limits::check_limits;
pub use spec::*;

/// Makes sandboxes of one kind.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The name that journals carry (`local`, `docker`, …).
    fn name(&self) -> &'static str;

    /// Makes a sandbox with an empty workspace and a guest that answers.
    async fn create(&self, spec: &SandboxSpec) -> Result<Box<dyn Sandbox>, SandboxError>;

    /// Finds a sandbox again by its handle. `None`: it is gone for good.
    async fn reattach(
        &self,
        handle: &Value,
        epoch: Epoch,
    ) -> Result<Option<Box<dyn Sandbox>>, SandboxError>;

    /// Ends a sandbox and removes what it left on the host. Ending one that is gone is no error.
    async fn destroy(&self, handle: &Value) -> Result<(), SandboxError>;

    /// The workspaces that it keeps, if sandboxes of it can lie over such.
    fn bases(&self) -> Option<&dyn Bases> {
        None
    }
}

/// One sandbox. Dropping it only lets go of the connection; the sandbox lives on for its grace.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// What finds it again, secret-free; stored in the journal.
    fn handle(&self) -> Value;

    /// What it can do.
    fn guest(&self) -> Arc<dyn Guest>;

    /// Fences that this host lacks and that were allowed to be missing.
    fn missing_fences(&self) -> &[String];

    /// What else is special about it, for the journal.
    fn notes(&self) -> &[SandboxNote] {
        &[]
    }

    /// The sockets at which every connection from inside arrives, for whoever decides about it.
    /// Asked again after a re-attachment, they are the same ones.
    async fn network(&self) -> Result<NetworkSockets, SandboxError> {
        Err(unsupported("give access to its network"))
    }

    /// Opens a stream to a TCP port that something inside listens on.
    async fn connect(&self, port: u16) -> Result<Box<dyn ByteStream>, SandboxError> {
        let _ = port;
        Err(unsupported("be connected to"))
    }

    /// The workspace that it lies over; `None`: its workspace was empty when it was made.
    fn base(&self) -> Option<SnapshotId> {
        None
    }

    /// What it used since it was made.
    async fn metered(&self) -> Result<Metered, SandboxError> {
        Err(unsupported("say what it used"))
    }

    /// Stops all its processes until [`Sandbox::resume`], also when this side goes away.
    async fn pause(&self) -> Result<(), SandboxError> {
        Err(unsupported("be paused"))
    }

    /// Lets its processes go on.
    async fn resume(&self) -> Result<(), SandboxError> {
        Err(unsupported("be resumed"))
    }
}

/// The sockets of a sandbox's network namespace that this side holds.
///
/// They do not block. The guest has them as well, so that they outlive this side, and what a socket
/// does is common to all who have it: a guest that was replaced by an attacker can make an `accept`,
/// a receive or a close wait that came back at once before. `moat-sockets` uses them so that this
/// holds up nobody else; whoever does not is to drop them by [`moat_sockets::close_elsewhere`].
#[derive(Debug, Default)]
pub struct NetworkSockets {
    /// Listening TCP sockets: the HTTP proxy and the resolver at [`GATEWAY`], and those that the
    /// [`NetworkSpec`] asked for. The local address of an accepted connection is what the program
    /// inside connected to; one that is not synthetic is to be refused.
    pub tcp: Vec<std::net::TcpListener>,
    /// Where the resolver of the sandbox receives its queries.
    pub dns: Option<std::net::UdpSocket>,
    /// Where programs that want an SSH agent connect to, if the sandbox was given one.
    pub ssh_agent: Option<std::os::unix::net::UnixListener>,
}

/// Bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

fn unsupported(what: &str) -> SandboxError {
    SandboxError::Guest(GuestError::Unsupported(what.to_owned()))
}

/// A directory of the sandbox beneath which the guest resolves paths; no link leads out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// `/workspace`
    Workspace,
    /// `/home/agent`
    Home,
    /// `/moat/outputs`: whole outputs of calls; commands can read it and not write it
    Outputs,
}

impl Root {
    /// Where commands inside find it.
    pub fn path(self) -> &'static Path {
        Path::new(match self {
            Self::Workspace => "/workspace",
            Self::Home => "/home/agent",
            Self::Outputs => "/moat/outputs",
        })
    }
}

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Starting the same key again gives the process that is there already.
    pub key: CallKey,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// An absolute path inside the sandbox.
    pub cwd: PathBuf,
    /// Added to the sandbox's environment.
    pub environment: BTreeMap<String, String>,
    /// Gives it a terminal of this many rows and columns. Without one its input is empty.
    pub tty: Option<(u16, u16)>,
    /// Who runs it, by a name of the sandbox; `None`: the sandbox's own user.
    pub user: Option<String>,
}

/// Where the bytes of an output came from. A terminal has only `Stdout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What is heard from a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// Bytes, in the order in which they arrived over both streams.
    Output {
        /// Bytes of both streams that came before.
        offset: u64,
        /// Where they came from.
        stream: OutputStream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// It ended; all its output was sent before. Nothing follows.
    Exited(ProcessExit),
    /// The connection to the guest is gone. Nothing follows.
    Disconnected,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessExit {
    /// Its exit code, or -N if signal N ended it.
    pub code: i32,
    /// The limit that it reached, if it reached one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<SandboxLimitReached>,
    /// What it and its descendants used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metered: Option<Metered>,
    /// Milliseconds that it ran.
    pub wall_ms: u64,
}

/// A process that the guest keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessStatus {
    /// What it is known by.
    pub key: CallKey,
    /// Bytes of output so far.
    pub output: u64,
    /// How it ended; absent: it runs.
    pub exit: Option<ProcessExit>,
}

/// What a sandbox can do. Implemented once over the guest protocol; a hosted provider that cannot
/// run our guest implements it on its own API.
#[async_trait]
pub trait Guest: Send + Sync {
    /// Which boot this is.
    fn nonce(&self) -> &BootNonce;

    /// Starts a command, or finds the one with the same key.
    async fn start(&self, command: &Command) -> Result<ProcessStatus, GuestError>;

    /// Hears a process from an offset of its output on. The channel is bounded: a listener that
    /// does not read slows the process down and loses nothing.
    async fn attach(
        &self,
        key: CallKey,
        offset: u64,
    ) -> Result<mpsc::Receiver<ProcessEvent>, GuestError>;

    /// Bytes before `offset` are safe on this side; the guest may drop them.
    async fn acknowledge(&self, key: CallKey, offset: u64) -> Result<(), GuestError>;

    /// The outcome is safe on this side; the guest may forget the process, or the commit, whole.
    /// A process that still runs is killed with its descendants.
    async fn release(&self, key: CallKey) -> Result<(), GuestError>;

    /// Types into a process with a terminal. Doing it again with the same `call` changes nothing.
    async fn write_stdin(
        &self,
        process: CallKey,
        call: CallKey,
        bytes: &[u8],
    ) -> Result<(), GuestError>;

    /// Signals the process and all its descendants.
    async fn signal(&self, process: CallKey, signal: i32) -> Result<(), GuestError>;

    /// Changes the size of its terminal.
    async fn resize(&self, process: CallKey, rows: u16, columns: u16) -> Result<(), GuestError>;

    /// All processes that the guest keeps.
    async fn processes(&self) -> Result<Vec<ProcessStatus>, GuestError>;

    /// What a path is; the last part is not followed if it is a link. `None`: nothing is there.
    async fn stat(&self, root: Root, path: &Path) -> Result<Option<FileStat>, GuestError>;

    /// Up to `length` bytes (at most 4 MiB) of a file from `offset` on.
    async fn read_at(
        &self,
        root: Root,
        path: &Path,
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, GuestError>;

    /// What comes next in a file, without a hole before it: up to `length` bytes (at most 4 MiB) of
    /// what lies in `range`. Whoever cannot tell holes reads zeroes.
    async fn read_data(
        &self,
        root: Root,
        path: &Path,
        range: Range<u64>,
        length: u32,
    ) -> Result<FileData, GuestError>;

    /// Files that commands may write without any time of them changing. True while commands are
    /// stopped.
    async fn mapped(&self) -> Result<MappedFiles, GuestError>;

    /// Names and stats in a folder.
    async fn list(&self, root: Root, path: &Path) -> Result<Vec<ScanEntry>, GuestError>;

    /// Writes a small file whole: a temporary file beside it, then a rename. Makes parents.
    async fn write(
        &self,
        root: Root,
        path: &Path,
        content: &[u8],
        mode: u32,
    ) -> Result<(), GuestError>;

    /// Writes into a file at an offset (at most 4 MiB), making it if it is not there.
    async fn write_at(
        &self,
        root: Root,
        path: &Path,
        offset: u64,
        content: &[u8],
    ) -> Result<(), GuestError>;

    /// Makes a folder and its parents.
    async fn make_dir(&self, root: Root, path: &Path) -> Result<(), GuestError>;

    /// Removes a file, a link, or a folder with all that is in it. Links are never followed.
    /// Where nothing is there is nothing to do.
    async fn remove(&self, root: Root, path: &Path) -> Result<(), GuestError>;

    /// Renames beneath one root, replacing a file that is there.
    async fn rename(&self, root: Root, from: &Path, to: &Path) -> Result<(), GuestError>;

    /// Changes several files as one step that can be done again: a file that is already "after" is
    /// done, one that is "before" is written, anything else is a conflict. All files are checked
    /// before the first is written. The outcome is kept under `key` until it is released.
    async fn commit(
        &self,
        key: CallKey,
        changes: &[FileChange],
    ) -> Result<CommitOutcome, GuestError>;

    /// The outcome of a commit that was begun earlier under this key, if there was one.
    async fn committed(&self, key: CallKey) -> Result<Option<CommitOutcome>, GuestError>;

    /// Stops all commands, so that a scan sees one moment. Returns whether there were any.
    async fn freeze(&self) -> Result<bool, GuestError>;

    /// Lets them go on. The end of the connection that froze them does as well.
    async fn thaw(&self) -> Result<(), GuestError>;

    /// All paths beneath a root, parents first, names in byte order. `skip` names folders
    /// (relative to the root) that are left out.
    async fn scan(&self, root: Root, skip: &[PathBuf]) -> Result<Vec<ScanEntry>, GuestError>;

    /// Makes paths as said, over what is there. Entries with large files are made empty at their
    /// size; [`Guest::write_at`] fills them and [`Guest::finish`] sets times and modes.
    async fn apply(&self, root: Root, entries: &[ApplyEntry]) -> Result<(), GuestError>;

    /// Sets modes, owners and times as said, folders last, after all content is there.
    async fn finish(&self, root: Root, entries: &[ApplyEntry]) -> Result<(), GuestError>;

    /// Ends the sandbox.
    async fn shutdown(&self) -> Result<(), GuestError>;
}

/// Why a guest could not do something.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The connection is gone; the sandbox may be too.
    #[error("the sandbox does not answer: {0}")]
    Disconnected(String),
    /// Another owner of the run, with a higher epoch, has taken the sandbox.
    #[error("the sandbox belongs to a later owner of the run")]
    Superseded,
    /// No process, or no commit, has that key.
    #[error("the sandbox knows no call `{0}`")]
    UnknownKey(CallKey),
    /// The process takes no input: it has no terminal, or has ended.
    #[error("the process takes no input")]
    StdinClosed,
    /// The operating system of the sandbox refused.
    #[error("{operation} `{path}`: {message}")]
    Os {
        /// What was tried.
        operation: String,
        /// On what.
        path: String,
        /// The error's number.
        errno: i32,
        /// The error's text.
        message: String,
    },
    /// A path leads out of its root, or is no path.
    #[error("`{0}` is outside")]
    Outside(String),
    /// The guest said something that the protocol does not allow.
    #[error("the sandbox broke the protocol: {0}")]
    Protocol(String),
    /// The guest cannot do that.
    #[error("the sandbox cannot {0}")]
    Unsupported(String),
}

impl Retryable for GuestError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Disconnected(_))
    }
}

/// Why a provider could not make, find or end a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The host lacks a fence that is not allowed to be missing.
    #[error("this host lacks the fence `{fence}`: {reason}. {remedy}")]
    MissingFence {
        /// The fence's name, for `--allow-missing`.
        fence: String,
        /// What was tried and what the host said.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// A step of making the sandbox failed.
    #[error("cannot {step}: {message}")]
    Setup {
        /// What was tried.
        step: String,
        /// What the system said.
        message: String,
    },
    /// The guest could not be reached or understood.
    #[error(transparent)]
    Guest(#[from] GuestError),
}

impl Retryable for SandboxError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Guest(error) if error.is_retryable())
    }
}
