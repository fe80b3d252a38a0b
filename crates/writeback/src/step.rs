use std::path::PathBuf;

use moat_core::BlobId;
use moat_snapshot::{Entry, Node};
use serde::{Deserialize, Serialize};

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum State {
    /// Nothing.
    Absent,
    /// A regular file.
    File {
        /// The keyed hash of its content.
        content: BlobId,
        /// Bytes.
        size: u64,
        /// Permission bits (nine bits).
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// Its target.
        #[serde(with = "crate::path_text")]
        target: PathBuf,
    },
    /// A folder.
    Dir {
        /// Permission bits (nine bits).
        mode: u32,
    },
    /// A pipe, socket or device.
    Other,
}

impl State {
    /// What a snapshot says.
    pub(crate) fn of(entry: Option<&Entry>) -> Self {
        let Some(entry) = entry else { return Self::Absent };
        let mode = entry.meta.mode & 0o777;
        match &entry.node {
            Node::Dir => Self::Dir { mode },
            Node::File { content, size, .. } => Self::File { content: *content, size: *size, mode },
            Node::Symlink(target) => Self::Link { target: target.clone() },
        }
    }

    /// Whether this is as good as `other` for deciding whether somebody else changed the path.
    /// Folders count as equal whatever their mode: changes of what is in them are seen one by one.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Dir { .. }, Self::Dir { .. })) || self == other
    }

    pub(crate) fn is_dir(&self) -> bool {
        matches!(self, Self::Dir { .. })
    }
}

/// One path that is written, from what is there to what is to be there. Doing it again does
/// nothing; doing it backwards undoes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Relative to the folder.
    #[serde(with = "crate::path_text")]
    pub path: PathBuf,
    /// What has to be there.
    pub before: State,
    /// What is then there.
    pub after: State,
    /// When the content was last changed before, so that an undo brings that back as well:
    /// nanoseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_mtime_ns: Option<i64>,
    /// The time to give to what is then there; absent: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_mtime_ns: Option<i64>,
}

impl Step {
    /// The step that takes this one back.
    pub(crate) fn backwards(&self) -> Self {
        Self {
            path: self.path.clone(),
            before: self.after.clone(),
            after: self.before.clone(),
            before_mtime_ns: None,
            after_mtime_ns: self.before_mtime_ns,
        }
    }
}
