//! What commands are held to, and what they used.
//!
//! What the kernel enforces it enforces by itself; here its counters are read when a command ends,
//! so that a limit is told apart from a signal that anybody could have sent. What it does not
//! enforce is looked at again and again ([`watch`]), the more often the nearer a limit is, and the
//! command that reached it is killed with all that descends from it.

mod account;
mod counters;
mod disk;
mod sample;
mod watch;

use std::os::fd::OwnedFd;

use moat_guest::{GuestLimits, LimitName, LimitReached};

pub(crate) use account::Account;
pub(crate) use watch::Watch;

use counters::{events, peak, tmp_is_full};

use crate::sys;

/// Soft value beside the hard one of `RLIMIT_CPU`, in seconds: a moment to say why.
const CPU_NOTICE: u64 = 1;

/// The limits of one sandbox, and where the kernel counts.
pub(crate) struct Limits {
    pub(crate) config: GuestLimits,
    memory_events: Option<OwnedFd>,
    memory_peak: Option<OwnedFd>,
    pids_events: Option<OwnedFd>,
}

/// Where the kernel's counters stood.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// Processes that it ended for want of memory.
    killed: u64,
    /// Forks that it refused.
    refused: u64,
}

impl Limits {
    /// Takes over the descriptors that the configuration names.
    pub(crate) fn open(config: &GuestLimits) -> std::io::Result<Self> {
        let adopt = |fd: Option<i32>| fd.map(sys::adopt).transpose();
        Ok(Self {
            config: *config,
            memory_events: adopt(config.memory_events_fd)?,
            memory_peak: adopt(config.memory_peak_fd)?,
            pids_events: adopt(config.pids_events_fd)?,
        })
    }

    pub(crate) fn counted(&self) -> Counted {
        let count = |file: &Option<OwnedFd>, name: &str| {
            file.as_ref().and_then(|file| events(file, name)).unwrap_or(0)
        };
        Counted {
            killed: count(&self.memory_events, "oom_kill"),
            refused: count(&self.pids_events, "max"),
        }
    }

    /// The most memory that the sandbox ever used, if the kernel keeps count of it.
    pub(crate) fn peak(&self) -> Option<u64> {
        peak(self.memory_peak.as_ref()?)
    }

    /// Whether the kernel counts refused forks.
    pub(crate) fn counts_forks(&self) -> bool {
        self.pids_events.is_some()
    }

    /// Whether commands cannot have more processes than allowed.
    pub(crate) fn pids_are_hard(&self) -> bool {
        self.counts_forks() || self.config.pids_rlimit.is_some()
    }

    /// Where the kernel does not count refused forks: whether there are as many processes as there
    /// may be, one having just ended.
    fn is_crowded(&self) -> bool {
        let Some(allowed) = self.config.pids.filter(|_| !self.counts_forks()) else { return false };
        self.config.pids_rlimit.is_some() && sample::count().saturating_add(1) >= allowed
    }

    /// Bytes that one file may have, and which limit says so.
    fn file_size(&self) -> Option<(u64, LimitName)> {
        let file = self.config.file_bytes.map(|bytes| (bytes, LimitName::FileSize));
        let disk = self.config.disk_bytes.map(|bytes| (bytes, LimitName::Disk));
        file.into_iter().chain(disk).min_by_key(|(bytes, _)| *bytes)
    }

    /// In a child that becomes a command: what the kernel holds each process to.
    pub(crate) fn restrict(&self) {
        let config = &self.config;
        if crate::left_out::stands("limits") {
            sys::set_limit(libc::RLIMIT_CORE, 0, 0);
        }
        if let Some(count) = config.open_files {
            sys::set_limit(libc::RLIMIT_NOFILE, count, count);
        }
        if let Some((bytes, _)) = self.file_size() {
            sys::set_limit(libc::RLIMIT_FSIZE, bytes, bytes);
        }
        if let Some(count) = config.pids_rlimit {
            sys::set_limit(libc::RLIMIT_NPROC, count, count);
        }
        if let Some(ms) = config.cpu_time_ms {
            let seconds = ms.div_ceil(1000).saturating_add(1);
            sys::set_limit(libc::RLIMIT_CPU, seconds, seconds.saturating_add(CPU_NOTICE));
        }
    }

    /// Which limit a command reached that just ended with this code. `alone`: no other command
    /// ran meanwhile.
    pub(crate) fn judge(&self, code: i32, before: Counted, alone: bool) -> Option<LimitReached> {
        let now = self.counted();
        let hard =
            |limit, allowed, ended| LimitReached { limit, allowed, seen: None, hard: true, ended };
        let by = |signal: i32| code == -signal || code == 128 + signal;
        if let Some((allowed, limit)) = self.file_size().filter(|_| by(libc::SIGXFSZ)) {
            return Some(hard(limit, allowed, true));
        }
        if let Some(allowed) = self.config.cpu_time_ms.filter(|_| by(libc::SIGXCPU)) {
            return Some(hard(LimitName::CpuTime, allowed, true));
        }
        let killed = now.killed > before.killed;
        if let Some(allowed) = self.config.memory_bytes.filter(|_| killed) {
            let ended = by(libc::SIGKILL);
            if ended || alone {
                return Some(hard(LimitName::Memory, allowed, ended));
            }
        }
        if let Some(allowed) = self.config.pids.filter(|_| now.refused > before.refused) {
            return Some(hard(LimitName::Pids, allowed, false));
        }
        if let Some(allowed) = self.config.pids.filter(|_| code != 0 && self.is_crowded()) {
            return Some(hard(LimitName::Pids, allowed, false));
        }
        let full = tmp_is_full(&self.config)?;
        Some(hard(full.0, full.1, false))
    }
}
