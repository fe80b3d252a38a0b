//! Between the protocol's types and the contract's.

use std::ffi::OsString;
use std::fmt::Display;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use moat_core::{BootNonce, Epoch, LimitName, Metered, SandboxLimitReached};
use moat_guest::{
    ApplyKind, ApplyRecord, CommitOutcome as WireOutcome, Failure, LimitName as WireLimit,
    LimitReached as WireReached, Metered as WireMetered, OutputStream as WireStream, Place,
    ProcessExit as WireExit, ProcessStatus as WireStatus, RawBytes, Refusal, Root as WireRoot,
    StatKind, StatRecord, Welcome,
};

use super::check::{Check, is_on};
use crate::{
    ApplyEntry, ApplyNode, CommitOutcome, FileKind, FileStat, GuestError, OutputStream,
    ProcessExit, ProcessStatus, Root, ScanEntry,
};

/// The largest number that is believed: whatever counts with doubles has it exactly.
const MAX_COUNT: u64 = 1 << 53;

/// Characters of a guest's text that are shown in an error.
const MAX_SHOWN: usize = 400;

/// The guest broke the protocol.
pub(super) fn broken(reason: impl Display) -> GuestError {
    GuestError::Protocol(shown(&reason.to_string()))
}

/// The same error once more, for everyone who waits on one connection.
pub(super) fn copy(error: &GuestError) -> GuestError {
    match error {
        GuestError::Superseded => GuestError::Superseded,
        GuestError::Protocol(reason) => GuestError::Protocol(reason.clone()),
        GuestError::Disconnected(reason) => GuestError::Disconnected(reason.clone()),
        other => GuestError::Disconnected(other.to_string()),
    }
}

pub(super) fn nonce(welcome: Welcome) -> Result<(BootNonce, u32), GuestError> {
    let ours = moat_guest::VERSIONS;
    if is_on(Check::Version) && !(ours.min..=ours.max).contains(&welcome.version) {
        return Err(broken("it chose a version that was not offered"));
    }
    let nonce = welcome.nonce;
    let is_nonce = nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_on(Check::Nonce) && !is_nonce {
        return Err(broken("its nonce is none"));
    }
    Ok((BootNonce(nonce), welcome.version))
}

/// Why a guest refuses the owner with this epoch.
pub(super) fn refusal(refusal: Refusal, ours: Epoch) -> GuestError {
    match refusal {
        Refusal::Superseded { epoch } if is_on(Check::Epoch) && epoch <= ours.0 => {
            broken("it says that an owner is later whose epoch is not")
        }
        Refusal::Superseded { .. } => GuestError::Superseded,
        Refusal::Version { versions } => GuestError::Unsupported(format!(
            "speak this version of the protocol, only {} to {}: checkpoint it and replace it",
            versions.min, versions.max
        )),
        Refusal::Full => GuestError::Unsupported("take another connection".to_owned()),
        Refusal::Protocol { reason } => broken(format_args!("it refused: {reason}")),
    }
}

pub(super) fn failure(failure: Failure) -> GuestError {
    match failure {
        Failure::UnknownKey => broken("it misses a key that was not asked for"),
        Failure::StdinClosed => GuestError::StdinClosed,
        Failure::Outside { path } => GuestError::Outside(shown_path(&path)),
        Failure::Unsupported { what } => GuestError::Unsupported(shown(&what)),
        Failure::Os { operation, path, errno } => GuestError::Os {
            operation: format!("cannot {}", shown(&operation)),
            path: shown_path(&path),
            errno,
            message: std::io::Error::from_raw_os_error(errno).to_string(),
        },
    }
}

/// A guest's text, cut to a length that can be shown.
fn shown(text: &str) -> String {
    let most = if is_on(Check::Words) { MAX_SHOWN } else { usize::MAX };
    text.chars().take(most).collect()
}

fn shown_path(path: &RawBytes) -> String {
    shown(&String::from_utf8_lossy(&path.0))
}

pub(super) fn root(root: Root) -> WireRoot {
    match root {
        Root::Workspace => WireRoot::Workspace,
        Root::Home => WireRoot::Home,
        Root::Outputs => WireRoot::Outputs,
    }
}

/// Where a command runs. A folder beneath a root is named by the root, which a guest may have
/// elsewhere than where commands usually find it.
pub(super) fn place(path: &Path) -> Place {
    let roots = [Root::Workspace, Root::Home, Root::Outputs];
    let beneath =
        roots.into_iter().find_map(|root| Some((root, path.strip_prefix(root.path()).ok()?)));
    match beneath {
        Some((found, rest)) => Place { root: Some(root(found)), path: RawBytes::from_path(rest) },
        None => Place { root: None, path: RawBytes::from_path(path) },
    }
}

pub(super) fn stream(stream: WireStream) -> OutputStream {
    match stream {
        WireStream::Stdout => OutputStream::Stdout,
        WireStream::Stderr => OutputStream::Stderr,
    }
}

pub(super) fn exit(exit: WireExit) -> ProcessExit {
    ProcessExit {
        code: exit.code,
        limit: exit.limit.map(limit_reached),
        metered: exit.metered.map(metered),
        wall_ms: countable(exit.wall_ms),
    }
}

fn limit_reached(reached: WireReached) -> SandboxLimitReached {
    let limit = match reached.limit {
        WireLimit::Memory => LimitName::Memory,
        WireLimit::Pids => LimitName::Pids,
        WireLimit::CpuTime => LimitName::CpuTime,
        WireLimit::OpenFiles => LimitName::OpenFiles,
        WireLimit::FileSize => LimitName::FileSize,
        WireLimit::Disk => LimitName::Disk,
        WireLimit::DiskInodes => LimitName::DiskInodes,
        WireLimit::Tmp => LimitName::Tmp,
        WireLimit::TmpInodes => LimitName::TmpInodes,
        WireLimit::Output => LimitName::Output,
        WireLimit::WallTime => LimitName::WallTime,
    };
    SandboxLimitReached {
        limit,
        allowed: countable(reached.allowed),
        seen: reached.seen.map(countable),
        hard: reached.hard,
        ended: reached.ended,
    }
}

pub(super) fn metered(metered: WireMetered) -> Metered {
    Metered {
        cpu_ms: countable(metered.cpu_ms),
        peak_memory_bytes: countable(metered.peak_memory_bytes),
        read_bytes: countable(metered.read_bytes),
        written_bytes: countable(metered.written_bytes),
        wall_ms: countable(metered.wall_ms),
    }
}

/// Sums of numbers that a guest made up stay numbers, in every program that reads JSON.
fn countable(number: u64) -> u64 {
    if is_on(Check::Countable) { number.min(MAX_COUNT) } else { number }
}

pub(super) fn status(status: WireStatus) -> Result<ProcessStatus, GuestError> {
    Ok(ProcessStatus {
        key: status.key.parse().map_err(broken)?,
        output: countable(status.output),
        exit: status.exit.map(exit),
    })
}

pub(super) fn outcome(outcome: WireOutcome) -> CommitOutcome {
    match outcome {
        WireOutcome::Done => CommitOutcome::Done,
        WireOutcome::Conflict(path) => CommitOutcome::Conflict(path.to_path()),
    }
}

pub(super) fn entry(record: StatRecord) -> ScanEntry {
    let kind = match record.kind {
        StatKind::File => FileKind::File,
        StatKind::Dir => FileKind::Dir,
        StatKind::Symlink(target) => FileKind::Symlink(path(target)),
        StatKind::Other => FileKind::Other,
    };
    let stat = FileStat {
        kind,
        mode: record.mode,
        uid: record.uid,
        gid: record.gid,
        size: record.size,
        mtime_ns: record.mtime_ns,
        ctime_ns: record.ctime_ns,
        inode: record.inode,
        links: record.links,
        xattrs: record.xattrs,
    };
    ScanEntry { path: path(record.path), stat }
}

fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

/// The record that makes or finishes an entry; `content` says whether it carries what it has.
pub(super) fn apply_record(entry: &ApplyEntry, content: bool) -> ApplyRecord {
    let bytes = |path: &Path| RawBytes::from_path(path).0;
    let kind = match &entry.node {
        ApplyNode::Dir => ApplyKind::Dir,
        ApplyNode::File { size, content: inline } => {
            ApplyKind::File(*size, inline.clone().filter(|_| content))
        }
        ApplyNode::Symlink(target) => ApplyKind::Symlink(bytes(target)),
        ApplyNode::Hardlink(target) => ApplyKind::Hardlink(bytes(target)),
    };
    ApplyRecord {
        path: bytes(&entry.path),
        kind,
        mode: entry.mode,
        uid: entry.owner.0,
        gid: entry.owner.1,
        mtime_ns: entry.mtime_ns,
        xattrs: if content { entry.xattrs.clone() } else { Default::default() },
    }
}
