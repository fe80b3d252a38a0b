//! The bytes and files of the disk, which no kernel counts for a sandbox.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use moat_guest::LimitName;

use super::{LONGEST, SHARE, SHORTEST, Watch, soft, time_to_fill, worked, worked_since};
use crate::limits::Limits;
use crate::limits::disk::{Count, Usage};
use crate::limits::sample::{self, Task};
use crate::process::Processes;

/// Bytes of storage that can be filled within a second.
const WRITE_RATE: u64 = 4 << 30;

/// Bytes that a full disk may grow by before the next command is ended for it: whoever cleans up
/// has to write a little.
const SLACK: u64 = 1 << 20;

/// What was counted, and when it is counted again.
pub(super) struct Disk {
    pub(super) roots: Vec<PathBuf>,
    pub(super) counting: Option<(Count, Duration)>,
    pub(super) next: Option<Instant>,
    /// What was there when a command was last ended for it, or the limit.
    pub(super) accepted: Usage,
    /// Processor time was used since the last count began.
    pub(super) stale: bool,
    pub(super) held: u64,
    /// How soon what is left can be filled.
    pub(super) fills: Duration,
}

impl Watch {
    pub(super) fn count_disk(&mut self, processes: &mut Processes) -> Result<(), ()> {
        let before = worked();
        let (mut count, spent) = self.disk.counting.take().unwrap_or_else(|| {
            self.disk.stale = false;
            (Count::begin(&self.disk.roots), Duration::ZERO)
        });
        let Some(mut usage) = count.step() else {
            self.disk.counting = Some((count, spent + worked_since(before)));
            return Ok(());
        };
        let spent = spent + worked_since(before);
        usage.bytes = usage.bytes.saturating_add(self.disk.held);
        let allowed = allowed_disk(&processes.limits);
        if usage.bytes <= allowed.bytes && usage.inodes <= allowed.inodes && !usage.too_deep {
            self.disk.accepted = allowed;
        }
        let accepted = self.disk.accepted;
        let many = usage.inodes > accepted.inodes || (usage.too_deep && !accepted.too_deep);
        if usage.bytes > accepted.bytes || many {
            let reached = if many {
                soft(LimitName::DiskInodes, allowed.inodes, usage.inodes)
            } else {
                soft(LimitName::Disk, allowed.bytes, usage.bytes)
            };
            let tasks = sample::tasks(self.first_process).ok_or(())?;
            let owner = self.writer(&tasks, processes);
            self.end(owner, reached, &tasks, processes);
            // What is there stays there, so that it can be looked at and removed.
            self.disk.accepted = Usage {
                bytes: usage.bytes.max(allowed.bytes).saturating_add(SLACK),
                inodes: usage.inodes.max(allowed.inodes).saturating_add(16),
                too_deep: usage.too_deep,
            };
        }
        let left = accepted.bytes.saturating_sub(usage.bytes);
        self.disk.fills = time_to_fill(left, WRITE_RATE).max(SHORTEST * 2);
        let wait = self.disk.fills.min(LONGEST).max(spent * SHARE);
        self.disk.next = self.next_look.map(|_| Instant::now() + wait);
        if !self.disk.stale && self.disk.next.is_some() {
            // The next look says whether anything happens.
            self.disk.next = None;
            self.next_look = self.next_look.map(|next| next.min(Instant::now() + wait));
        }
        Ok(())
    }

    /// Which command has written most.
    fn writer(&self, tasks: &[Task], processes: &mut Processes) -> Option<u64> {
        let mut written: BTreeMap<Option<u64>, u64> = BTreeMap::new();
        for task in tasks {
            let owner = self.known.get(&task.identity()).and_then(|known| known.owner);
            let sum = written.entry(owner).or_default();
            *sum = sum.saturating_add(task.written());
        }
        let most = written.iter().max_by_key(|(_, bytes)| **bytes).filter(|(_, b)| **b > 0);
        match most {
            Some((owner, _)) => *owner,
            None => processes.all_running().map(|process| process.number()).max(),
        }
    }
}

pub(super) fn has_disk_limit(processes: &Processes) -> bool {
    let config = &processes.limits.config;
    config.disk_bytes.is_some() || config.disk_inodes.is_some()
}

pub(super) fn allowed_disk(limits: &Limits) -> Usage {
    Usage {
        bytes: limits.config.disk_bytes.unwrap_or(u64::MAX),
        inodes: limits.config.disk_inodes.unwrap_or(u64::MAX),
        too_deep: false,
    }
}
