//! Holding commands to their limits.

use std::time::Duration;

use super::*;

impl Process {
    /// Condemns it if it has said more than it may; what was too much is not kept.
    pub(super) fn check_output(&mut self) {
        let Some((allowed, seen)) = self.spool.exceeded() else { return };
        let is_running = self.ended.is_none();
        let reached = LimitReached {
            limit: LimitName::Output,
            allowed,
            seen: Some(seen),
            hard: true,
            ended: is_running,
        };
        match is_running {
            true if !self.is_dying() => self.account.condemn(reached),
            true => {}
            false => self.account.reach(reached),
        }
    }
}

impl Processes {
    /// The command of this number, while it runs.
    pub(crate) fn running(&mut self, number: u64) -> Option<&mut Process> {
        self.kept.get_mut(&number).filter(|process| process.ended.is_none())
    }

    /// All that run.
    pub(crate) fn all_running(&mut self) -> impl Iterator<Item = &mut Process> {
        self.kept.values_mut().filter(|process| process.ended.is_none())
    }

    /// The number of the command that this mark was given to.
    pub(crate) fn owner_of(&self, mark: u64) -> Option<u64> {
        mark.checked_sub(FIRST_MARK).filter(|number| *number < self.next)
    }

    /// The guest is the first process of its namespace.
    pub(crate) fn is_first(&self) -> bool {
        !self.tied
    }

    /// When the next command has run for as long as it may.
    pub(crate) fn wall_deadline(&self) -> Option<Instant> {
        let allowed = Duration::from_millis(self.limits.config.wall_ms?);
        let now = Instant::now();
        let running = self.kept.values().filter(|process| process.ended.is_none());
        running
            .filter(|process| !process.is_dying())
            .map(|process| now + allowed.saturating_sub(process.account.ran(now)))
            .min()
    }

    /// Condemns what has run for as long as it may.
    pub(crate) fn end_overdue(&mut self, now: Instant) {
        let Some(allowed) = self.limits.config.wall_ms else { return };
        for process in self.all_running().filter(|process| !process.is_dying()) {
            let ran = u64::try_from(process.account.ran(now).as_millis()).unwrap_or(u64::MAX);
            if ran >= allowed {
                process.account.condemn(LimitReached {
                    limit: LimitName::WallTime,
                    allowed,
                    seen: Some(ran),
                    hard: false,
                    ended: true,
                });
            }
        }
    }

    /// Kills what was condemned, with all that descends from it.
    pub(crate) fn kill_condemned(&mut self) {
        let first_process = self.is_first();
        for process in self.kept.values_mut() {
            if process.account.take_condemned() {
                tree::kill_tree(process.live_pid(), process.mark, first_process);
            }
        }
    }

    /// The time of a pause is not counted as time that a command ran.
    pub(crate) fn were_paused(&mut self, time: Duration) {
        self.all_running().for_each(|process| process.account.was_paused(time));
    }
}
