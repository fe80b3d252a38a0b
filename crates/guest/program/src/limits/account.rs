use std::time::{Duration, Instant};

use moat_guest::{LimitReached, Metered};

use super::Counted;
use crate::sys::Usage;

/// What one command, with its descendants, used and reached.
pub(crate) struct Account {
    pub(crate) before: Counted,
    started: Instant,
    /// How long it was kept from running by a pause.
    paused: Duration,
    /// Itself and the descendants that it waited for; known once it has ended.
    own: Usage,
    /// Descendants that were left to the guest.
    orphans: Usage,
    /// The most memory that was seen of all of it at once.
    peak: u64,
    /// The most processor time that was seen of all of it, in microseconds: when it is killed, its
    /// descendants may be gone after it.
    cpu_us: u64,
    reached: Option<LimitReached>,
    /// It is to be killed for what it reached.
    condemned: bool,
}

impl Account {
    pub(crate) fn new(before: Counted, started: Instant) -> Self {
        Self {
            before,
            started,
            paused: Duration::ZERO,
            own: Usage::default(),
            orphans: Usage::default(),
            peak: 0,
            cpu_us: 0,
            reached: None,
            condemned: false,
        }
    }

    pub(crate) fn ran(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started).saturating_sub(self.paused)
    }

    pub(crate) fn was_paused(&mut self, time: Duration) {
        self.paused = self.paused.saturating_add(time);
    }

    pub(crate) fn end(&mut self, own: Usage) {
        self.own = own;
    }

    pub(crate) fn add_orphan(&mut self, usage: &Usage) {
        self.orphans.add(usage);
    }

    /// Microseconds of processor time of descendants that were left to the guest and have ended.
    pub(crate) fn orphans_cpu_us(&self) -> u64 {
        self.orphans.cpu_us
    }

    /// What its processes use at this moment, or used so far.
    pub(crate) fn saw(&mut self, memory: u64, cpu_us: u64) {
        self.peak = self.peak.max(memory);
        self.cpu_us = self.cpu_us.max(cpu_us.saturating_add(self.orphans.cpu_us));
    }

    /// Notes the first limit that it was ended for, or else the first that it reached.
    pub(crate) fn reach(&mut self, reached: LimitReached) {
        let ended_before = self.reached.is_some_and(|before| before.ended);
        if self.reached.is_none() || (reached.ended && !ended_before) {
            self.reached = Some(reached);
        }
    }

    /// As [`Account::reach`], and it is to be killed.
    pub(crate) fn condemn(&mut self, reached: LimitReached) {
        self.reach(LimitReached { ended: true, ..reached });
        self.condemned = true;
    }

    /// Whether it is to be killed; says so once.
    pub(crate) fn take_condemned(&mut self) -> bool {
        std::mem::take(&mut self.condemned)
    }

    pub(crate) fn reached(&self) -> Option<LimitReached> {
        self.reached
    }

    pub(crate) fn metered(&self, wall_ms: u64) -> Metered {
        let mut all = self.own;
        all.add(&self.orphans);
        Metered {
            cpu_ms: all.cpu_us.max(self.cpu_us) / 1000,
            peak_memory_bytes: all.peak_memory.max(self.peak),
            read_bytes: all.read,
            written_bytes: all.written,
            wall_ms,
        }
    }
}
