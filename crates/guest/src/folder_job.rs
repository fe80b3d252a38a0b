use serde::{Deserialize, Serialize};

use crate::RawBytes;

/// The argument that has the program do a [`FolderJob`], which is the next argument as JSON,
/// instead of being a guest.
pub const FOLDER_JOB: &str = "folder-job";

/// The descriptor from which a job reads its input.
pub const JOB_INPUT_FD: i32 = 3;

/// The descriptor to which a job writes its [`FolderJobReport`] as JSON, when it has ended.
pub const JOB_REPORT_FD: i32 = 4;

/// Bytes of the longest report.
pub const MAX_JOB_REPORT: usize = 64 << 10;

/// What the program does to the folder that is its root. Whoever starts it has confined it there:
/// what it reads is hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderJob {
    /// Applies an image's layer (an uncompressed tar stream) to what is there.
    Unpack {
        /// Files get the owners that the layer names. Else all belong to whoever unpacks.
        owners: bool,
        /// Members that the layer may have.
        max_entries: u64,
        /// Bytes of content that it may have.
        max_bytes: u64,
    },
    /// Removes everything.
    Clear,
}

/// What came of a [`FolderJob`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderJobReport {
    /// All was done.
    Done {
        /// Members of the layer.
        entries: u64,
        /// Bytes of their content.
        bytes: u64,
        /// Devices that were left out.
        devices: u64,
    },
    /// The input is not one that may be done.
    Refused {
        /// The member that is at fault, as far as there is one.
        member: RawBytes,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refused.
    Failed {
        /// What could not be done.
        step: String,
        /// On what.
        path: RawBytes,
        /// The system's number of the error.
        errno: i32,
    },
}
