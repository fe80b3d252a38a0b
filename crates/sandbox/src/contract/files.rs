//! What a guest says about files, and what it is told to make of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link and the bytes of its target.
    Symlink(PathBuf),
    /// A pipe, socket or device.
    Other,
}

/// What is known about a path without reading its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner, as seen inside.
    pub uid: u32,
    /// Group, as seen inside.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Last change of the content: nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// Last change of anything: nanoseconds since the Unix epoch.
    pub ctime_ns: i64,
    /// Tells names of one file from equal files.
    pub inode: u64,
    /// Names that this file has.
    pub links: u64,
    /// Extended attributes that a checkpoint keeps (`user.*`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// One path of a scan, relative to the root. Folders stand before what is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanEntry {
    /// Relative to the root; empty for the root itself.
    pub path: PathBuf,
    /// What is known about it.
    pub stat: FileStat,
}

/// A path that is to be as said when [`crate::Guest::apply`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyEntry {
    /// Relative to the root. Folders stand before what is in them.
    pub path: PathBuf,
    /// What it is to be.
    pub node: ApplyNode,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group, as seen inside; where the guest may not set them, its own.
    pub owner: (u32, u32),
    /// Last change of the content: nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an [`ApplyEntry`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyNode {
    /// A folder.
    Dir,
    /// A file of this size, whose content follows by [`crate::Guest::write_at`] before it is finished;
    /// small content may be given at once.
    File {
        /// Bytes.
        size: u64,
        /// The whole content, if it is at most 1 MiB.
        content: Option<Vec<u8>>,
    },
    /// A symbolic link.
    Symlink(PathBuf),
    /// Another name of a file that an earlier entry made.
    Hardlink(PathBuf),
}

/// One file of [`crate::Guest::commit`]. Hashes are BLAKE3 of the content; `None`: there is no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// Relative to the workspace.
    pub path: PathBuf,
    /// What has to be there before.
    pub before: Option<moat_core::Hash>,
    /// What is to be there after: content and permission bits (`None`: as before, or 0644).
    pub after: Option<(Vec<u8>, Option<u32>)>,
}

/// What came of [`crate::Guest::commit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// Every file is as wanted.
    Done,
    /// A file was neither as before nor as after; nothing was changed.
    Conflict(PathBuf),
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileData {
    /// Zero bytes of a hole, which come first.
    pub hole: u64,
    /// What comes after them; nothing at the end of the file.
    pub bytes: Vec<u8>,
}

/// Files that commands have mapped into memory to write them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappedFiles {
    /// Their inodes.
    pub inodes: BTreeSet<u64>,
    /// There may be others: not every process could be looked at.
    pub others: bool,
}

impl MappedFiles {
    /// Whether a file may be one of them.
    pub fn may_hold(&self, inode: u64) -> bool {
        self.others || self.inodes.contains(&inode)
    }
}
