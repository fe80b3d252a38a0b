//! Stopping all commands, so that a scan sees one moment.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use moat_guest::{Failure, RawBytes};
use rustix::process::Signal;

use crate::sys;
use crate::tree::{self, Seen};

/// How long commands may take to stop. Only what waits for the kernel takes any time at all.
const LIMIT: Duration = Duration::from_secs(5);

/// Stands for whoever asked for a pause, which belongs to no connection and outlives all of them.
pub(crate) const PAUSE: u64 = u64::MAX;

/// What is stopped, and by whom.
pub(crate) struct Freezer {
    first_process: bool,
    /// Connections that want everything stopped.
    holders: BTreeSet<u64>,
    /// What had been stopped before by others, and stays so.
    stopped_before: BTreeSet<(i32, u64)>,
}

/// A freeze under way.
pub(crate) struct Freeze {
    connection: u64,
    deadline: Option<Instant>,
}

impl Freezer {
    pub(crate) fn new(first_process: bool) -> Self {
        Self { first_process, holders: BTreeSet::new(), stopped_before: BTreeSet::new() }
    }

    pub(crate) fn is_frozen(&self) -> bool {
        !self.holders.is_empty()
    }

    /// Everything is stopped until somebody lets it go on.
    pub(crate) fn is_paused(&self) -> bool {
        self.holders.contains(&PAUSE)
    }

    /// Lets everything go on, unless another connection still wants it stopped.
    pub(crate) fn thaw(&mut self, connection: u64) {
        if self.holders.remove(&connection) && self.holders.is_empty() {
            let mut all = tree::commands();
            // Children before their parents: a shell that wakes first would see its job stopped
            // and say so.
            all.sort_by_key(Seen::age);
            for seen in all.iter().filter(|seen| !self.stopped_before.contains(&seen.identity())) {
                seen.signal(Signal::CONT);
            }
            self.stopped_before.clear();
        }
    }

    fn stop(&self, running: &[Seen]) {
        // The kernel does this in one step, so that nothing forks its way past it.
        if self.first_process && sys::kill_all(libc::SIGSTOP).is_ok() {
            return;
        }
        running.iter().for_each(|seen| seen.signal(Signal::STOP));
    }
}

impl Freeze {
    /// How long to wait before looking again whether all have stopped.
    pub(crate) const INTERVAL: Duration = Duration::from_micros(500);

    /// From now on the connection wants everything stopped. A thaw that comes before all have
    /// stopped ends this freeze.
    pub(crate) fn begin(freezer: &mut Freezer, connection: u64) -> Self {
        if !freezer.is_frozen() {
            let commands = tree::commands();
            let stopped = commands.iter().filter(|seen| !seen.is_dead() && seen.is_stopped());
            freezer.stopped_before = stopped.map(Seen::identity).collect();
        }
        freezer.holders.insert(connection);
        Self { connection, deadline: None }
    }

    /// Stops what runs. `Some` once nothing does, or it was thawed meanwhile: whether there was
    /// anything.
    pub(crate) fn step(
        &mut self,
        freezer: &mut Freezer,
        now: Instant,
    ) -> Result<Option<bool>, Failure> {
        let mut alive = tree::commands();
        alive.retain(|seen| !seen.is_dead());
        if !freezer.holders.contains(&self.connection) {
            return Ok(Some(!alive.is_empty()));
        }
        let deadline = *self.deadline.get_or_insert(now + LIMIT);
        let any = !alive.is_empty();
        let running: Vec<_> = alive.iter().filter(|s| !s.is_at_rest(&alive)).copied().collect();
        if running.is_empty() {
            return Ok(Some(any));
        }
        if now >= deadline {
            freezer.thaw(self.connection);
            return Err(Failure::Os {
                operation: "stop all commands: they do not stop, first".to_owned(),
                path: RawBytes(running.first().map(Seen::name).unwrap_or_default().into_bytes()),
                errno: libc::EBUSY,
            });
        }
        freezer.stop(&running);
        Ok(None)
    }
}
