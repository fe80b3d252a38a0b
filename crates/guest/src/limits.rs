//! What commands may use, which limit one reached, and what it used.

use serde::{Deserialize, Serialize};

/// What the guest holds commands to. Absent: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuestLimits {
    /// Bytes of memory of all commands together.
    pub memory_bytes: Option<u64>,
    /// The kernel holds them to it; else the guest watches.
    pub memory_is_hard: bool,
    /// A descriptor of `memory.events` or `memory.oom_control`, in which the kernel counts the
    /// processes that it ended for want of memory.
    pub memory_events_fd: Option<i32>,
    /// A descriptor of the file in which the kernel keeps the most memory that was ever used.
    pub memory_peak_fd: Option<i32>,
    /// Processes and threads of all commands together.
    pub pids: Option<u64>,
    /// `RLIMIT_NPROC` of commands.
    pub pids_rlimit: Option<u64>,
    /// A descriptor of `pids.events`, in which the kernel counts refused forks.
    pub pids_events_fd: Option<i32>,
    /// Milliseconds of processor time of one command and its descendants.
    pub cpu_time_ms: Option<u64>,
    /// Milliseconds that one command may run.
    pub wall_ms: Option<u64>,
    /// Bytes that one command may print.
    pub output_bytes: Option<u64>,
    /// Open descriptors of one process.
    pub open_files: Option<u64>,
    /// Bytes of one file.
    pub file_bytes: Option<u64>,
    /// Bytes of workspace and home together.
    pub disk_bytes: Option<u64>,
    /// Files and folders of workspace and home together.
    pub disk_inodes: Option<u64>,
    /// Bytes of `/tmp`, and of `/dev/shm`; the kernel holds them to it.
    pub tmp_bytes: Option<u64>,
    /// Files and folders of `/tmp`, and of `/dev/shm`; the kernel holds them to it.
    pub tmp_inodes: Option<u64>,
}

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LimitName {
    /// Bytes of memory.
    Memory,
    /// Processes and threads.
    Pids,
    /// Milliseconds of processor time.
    CpuTime,
    /// Open descriptors.
    OpenFiles,
    /// Bytes of one file.
    FileSize,
    /// Bytes of workspace and home.
    Disk,
    /// Files of workspace and home.
    DiskInodes,
    /// Bytes of `/tmp` or `/dev/shm`.
    Tmp,
    /// Files of `/tmp` or `/dev/shm`.
    TmpInodes,
    /// Bytes printed.
    Output,
    /// Milliseconds of running.
    WallTime,
}

/// A limit that a command reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LimitReached {
    /// Which one.
    pub limit: LimitName,
    /// What was allowed.
    pub allowed: u64,
    /// What was seen, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// It is never passed; else it was seen a little late.
    pub hard: bool,
    /// The command was ended for it; else it was only refused something.
    pub ended: bool,
}

/// What a command and its descendants, or all commands, used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Metered {
    /// Milliseconds of processor time.
    pub cpu_ms: u64,
    /// Bytes of memory at the highest point that was seen.
    pub peak_memory_bytes: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage.
    pub written_bytes: u64,
    /// Milliseconds from start to end, or until now.
    pub wall_ms: u64,
}
