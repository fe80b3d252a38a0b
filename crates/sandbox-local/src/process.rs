//! The first process of a sandbox, as the host sees it.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// Names one process for ever: numbers are used again, but not at the same tick of one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessId {
    /// Its number.
    pid: i32,
    /// When it was started, in ticks since the boot.
    started: u64,
    /// Which boot of the host.
    boot: String,
}

/// Which boot of the host this is.
pub(crate) fn boot() -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(boot.trim().to_owned())
}

impl ProcessId {
    /// Of a process that runs now.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let stat = Stat::read(pid)?;
        Ok(Self { pid, started: stat.started, boot: boot()? })
    }

    /// The process, if it lives.
    pub(crate) fn find(&self) -> Option<Process> {
        let pid = Pid::from_raw(self.pid)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok();
        // Checked after the descriptor was opened: from then on the number cannot change hands
        // without the descriptor knowing.
        let stat = Stat::read(self.pid).ok()?;
        let same = stat.started == self.started && boot().ok()? == self.boot;
        (same && !stat.dead).then_some(Process { pid, fd })
    }
}

/// A process that lived when it was found.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    /// Absent on kernels before 5.3.
    fd: Option<OwnedFd>,
}

impl Process {
    /// Ends it, and with it everything in its pid namespace.
    pub(crate) fn kill(&self) {
        // That it is gone already is as good.
        let _ = match &self.fd {
            Some(fd) => pidfd_send_signal(fd, Signal::KILL),
            None => kill_process(self.pid, Signal::KILL),
        };
    }

    /// Waits until it is gone; blocks. Answers whether it is.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let Some(fd) = &self.fd else { return self.wait_by_number(patience) };
        let timeout = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&timeout)), Ok(ready) if ready > 0)
    }

    fn wait_by_number(&self, patience: Duration) -> bool {
        let step = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        loop {
            match Stat::read(self.pid.as_raw_nonzero().get()) {
                Ok(stat) if !stat.dead => {}
                _ => return true,
            }
            if waited >= patience {
                return false;
            }
            std::thread::sleep(step);
            waited += step;
        }
    }
}

/// What `/proc/PID/stat` says.
struct Stat {
    started: u64,
    /// It has ended and only waits for its parent to notice.
    dead: bool,
}

impl Stat {
    fn read(pid: i32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::Error::other("`/proc/PID/stat` does not make sense"))
    }

    /// The name of the program, in parentheses, may hold anything; what follows the last one is
    /// plain: state, parent, … and as the 20th field after the name the start.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { started, dead: matches!(state, "Z" | "X" | "x") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_only_as_itself() {
        let me = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(me.find().is_some());
        let other = ProcessId { started: me.started + 1, ..me.clone() };
        assert!(other.find().is_none());
        let earlier = ProcessId { boot: "another".to_owned(), ..me };
        assert!(earlier.find().is_none());
    }

    #[test]
    fn a_program_cannot_fake_its_fields_by_its_name() {
        let line = "7 (x) Z 1 (y) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat.started, 4711);
        assert!(!stat.dead);
    }
}
