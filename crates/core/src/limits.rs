//! What a sandbox may use, what it used, and which limit it reached.

use serde::{Deserialize, Serialize};

/// What a sandbox, and each command in it, may use. Absent: the provider's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxLimits {
    /// Bytes of memory of all its processes, page cache of its own files included where the host
    /// counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Bytes of swap beside the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_bytes: Option<u64>,
    /// Processes and threads at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Thousandths of a processor core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Milliseconds of processor time of one command and its descendants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_time_ms: Option<u64>,
    /// Open descriptors of one process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Bytes of one file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
    /// Bytes of the workspace and the home folder together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Files and folders of the workspace and the home folder together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_inodes: Option<u64>,
    /// Bytes of `/tmp`, and as many of `/dev/shm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmp_bytes: Option<u64>,
    /// Files and folders of `/tmp`, and as many of `/dev/shm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmp_inodes: Option<u64>,
    /// Bytes that one command may print.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// Milliseconds that one command may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
}

impl SandboxLimits {
    /// These, and where they leave something open, those.
    #[must_use]
    pub fn or(self, fallback: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.or(fallback.memory_bytes),
            swap_bytes: self.swap_bytes.or(fallback.swap_bytes),
            pids: self.pids.or(fallback.pids),
            cpu_millis: self.cpu_millis.or(fallback.cpu_millis),
            cpu_time_ms: self.cpu_time_ms.or(fallback.cpu_time_ms),
            open_files: self.open_files.or(fallback.open_files),
            file_bytes: self.file_bytes.or(fallback.file_bytes),
            disk_bytes: self.disk_bytes.or(fallback.disk_bytes),
            disk_inodes: self.disk_inodes.or(fallback.disk_inodes),
            tmp_bytes: self.tmp_bytes.or(fallback.tmp_bytes),
            tmp_inodes: self.tmp_inodes.or(fallback.tmp_inodes),
            output_bytes: self.output_bytes.or(fallback.output_bytes),
            wall_ms: self.wall_ms.or(fallback.wall_ms),
        }
    }
}

/// A limit, by the name that events, errors and the command line use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitName {
    /// Memory; the kernel or the watcher ended a process.
    Memory,
    /// Processes and threads.
    Pids,
    /// Processor time of a command.
    CpuTime,
    /// Open descriptors of a process.
    OpenFiles,
    /// Size of one file.
    FileSize,
    /// Bytes of workspace and home.
    Disk,
    /// Files of workspace and home.
    DiskInodes,
    /// Bytes of `/tmp` or `/dev/shm`.
    Tmp,
    /// Files of `/tmp` or `/dev/shm`.
    TmpInodes,
    /// Bytes printed by a command.
    Output,
    /// Time that a command ran.
    WallTime,
}

impl LimitName {
    /// The name as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::CpuTime => "cpu_time",
            Self::OpenFiles => "open_files",
            Self::FileSize => "file_size",
            Self::Disk => "disk",
            Self::DiskInodes => "disk_inodes",
            Self::Tmp => "tmp",
            Self::TmpInodes => "tmp_inodes",
            Self::Output => "output",
            Self::WallTime => "wall_time",
        }
    }

    /// What its numbers count.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Memory | Self::FileSize | Self::Disk | Self::Tmp | Self::Output => "bytes",
            Self::Pids => "processes",
            Self::OpenFiles => "descriptors",
            Self::DiskInodes | Self::TmpInodes => "files",
            Self::CpuTime | Self::WallTime => "ms",
        }
    }
}

impl std::fmt::Display for LimitName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A limit that was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxLimitReached {
    /// Which one.
    pub limit: LimitName,
    /// What was allowed, in the limit's unit.
    pub allowed: u64,
    /// What was seen, in the limit's unit, where that is known. A hard limit is never passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// The kernel holds it; else a watcher does, which sees it a little late.
    pub hard: bool,
    /// The command was ended for it; else it was only refused something.
    pub ended: bool,
}

impl std::fmt::Display for SandboxLimitReached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} limit of {} {}", self.limit, self.allowed, self.limit.unit())?;
        if let Some(seen) = self.seen.filter(|seen| *seen > self.allowed) {
            write!(f, " (seen: {seen})")?;
        }
        Ok(())
    }
}

/// What a command and its descendants, or a sandbox, used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metered {
    /// Milliseconds of processor time.
    pub cpu_ms: u64,
    /// Bytes of memory at the highest point.
    pub peak_memory_bytes: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage.
    pub written_bytes: u64,
    /// Milliseconds from start to end.
    pub wall_ms: u64,
}
