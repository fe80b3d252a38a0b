//! Which processes descend from a command.
//!
//! A process group is left by `setpgid`, a session by `setsid`, and a parent by dying: so all
//! descendants carry a *mark* as well, a number in the soft value of `RLIMIT_LOCKS`, a
//! limit without any effect that is inherited by everything and that the kernel shows for every
//! process. A hostile process may change its mark; it is still found by its parents, its group and
//! its session, and ends with the sandbox at the latest.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal,
};

use crate::sys;

/// Rounds of looking for processes that were forked while others were being killed.
const ROUNDS: usize = 16;

/// Milliseconds that killed processes may take to be gone when the guest ends.
const FAREWELL_ROUNDS: usize = 500;

/// A process as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    state: u8,
    threads: u32,
    /// When it started; with the id it names a process for ever.
    started: u64,
}

impl Seen {
    fn read(pid: i32) -> Option<Self> {
        parse_stat(pid, &read_small(format!("/proc/{pid}/stat"))?)
    }

    /// It has ended and only waits to be reaped. (While other threads live, a process whose first
    /// thread has ended looks the same.)
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.threads().iter().all(|state| matches!(state, b'T' | b't' | b'Z' | b'X'))
    }

    /// No thread of it runs: it is stopped, or waits in `vfork` for a child that is.
    pub(crate) fn is_at_rest(&self, all: &[Self]) -> bool {
        self.is_stopped()
            || (self.state == b'D'
                && all.iter().any(|other| other.parent == self.pid && other.is_stopped()))
    }

    /// States of all its threads.
    fn threads(&self) -> Vec<u8> {
        if self.threads <= 1 {
            return vec![self.state];
        }
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.pid)) else {
            return Vec::new();
        };
        threads
            .flatten()
            .filter_map(|thread| read_small(thread.path().join("stat")))
            .filter_map(|stat| parse_stat(0, &stat))
            .map(|seen| seen.state)
            .collect()
    }

    /// Names it for ever.
    pub(crate) fn identity(&self) -> (i32, u64) {
        (self.pid, self.started)
    }

    /// Orders the youngest first.
    pub(crate) fn age(&self) -> (Reverse<u64>, Reverse<i32>) {
        (Reverse(self.started), Reverse(self.pid))
    }

    /// What it calls itself, for messages.
    pub(crate) fn name(&self) -> String {
        let name = read_small(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        name.trim_end().to_owned()
    }

    /// Sends a signal to this very process, never to another that was given its id since.
    pub(crate) fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        let same = || Self::read(self.pid).is_some_and(|now| now.started == self.started);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) if same() => {
                let _ = pidfd_send_signal(fd, signal);
            }
            Ok(_) => {}
            // A kernel without descriptors for processes.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) if same() => {
                let _ = kill_process(pid, signal);
            }
            Err(_) => {}
        }
    }
}

/// Every process of this guest: as the first process all that there are, else its descendants, as
/// orphans among them come to it too.
pub(crate) fn commands() -> Vec<Seen> {
    let own = rustix::process::getpid();
    let all = everyone_but(own.as_raw_nonzero().get());
    if own.is_init() {
        return all;
    }
    let found = closure(&all, [own.as_raw_nonzero().get()].into());
    all.into_iter().filter(|seen| found.contains(&seen.pid)).collect()
}

fn everyone_but(own: i32) -> Vec<Seen> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter_map(Seen::read)
        // Whose parent is outside of the namespace was put there by whoever made it: a bridge of a
        // harness. Orphans of commands come to the first process.
        .filter(|seen| seen.parent != 0)
        .collect()
}

/// What belongs to the command that was started as `root` with `mark`. It may have ended; then its
/// id is `None`, as it may be another's by now.
fn members(root: Option<i32>, mark: u64) -> Vec<Seen> {
    let all = commands();
    let belongs = |seen: &&Seen| {
        let of_root = |id: i32| root == Some(id);
        of_root(seen.pid)
            || of_root(seen.group)
            || of_root(seen.session)
            || read_mark(seen.pid) == Some(mark)
    };
    let direct = all.iter().filter(belongs).map(|seen| seen.pid).collect();
    let found = closure(&all, direct);
    all.into_iter().filter(|seen| found.contains(&seen.pid) && !seen.is_dead()).collect()
}

/// Signals a command and all that descends from it.
pub(crate) fn signal_tree(root: Option<i32>, mark: u64, signal: Signal) {
    let rounds = if signal == Signal::KILL { ROUNDS } else { 1 };
    for _ in 0..rounds {
        let members = members(root, mark);
        if members.is_empty() {
            break;
        }
        members.iter().for_each(|seen| seen.signal(signal));
    }
}

/// Kills a command and all that descends from it, also what forks while it is being killed. Where
/// the guest is the first process everything is stopped for that moment, in one step of the kernel
/// that no fork gets past; what is none of the command's goes on afterwards.
pub(crate) fn kill_tree(root: Option<i32>, mark: u64, first_process: bool) {
    for round in 0..ROUNDS {
        let found = members(root, mark);
        if found.is_empty() {
            return;
        }
        if round == 0 || !first_process {
            found.iter().for_each(|seen| seen.signal(Signal::KILL));
            continue;
        }
        let stopped_before: BTreeSet<_> =
            commands().iter().filter(|seen| seen.is_stopped()).map(Seen::identity).collect();
        if sys::kill_all(libc::SIGSTOP).is_err() {
            continue;
        }
        let found = members(root, mark);
        found.iter().for_each(|seen| seen.signal(Signal::KILL));
        let mut others = commands();
        others.sort_by_key(Seen::age);
        others.retain(|seen| !stopped_before.contains(&seen.identity()));
        others.iter().for_each(|seen| seen.signal(Signal::CONT));
    }
}

/// Kills one process, if it still is the one that started then.
pub(crate) fn kill_one(pid: i32, started: u64) {
    if let Some(seen) = Seen::read(pid).filter(|seen| seen.started == started) {
        seen.signal(Signal::KILL);
    }
}

/// Kills all commands, and waits a moment for it to be gone: for where the
/// kernel does not do this, because the guest is not the first process.
pub(crate) fn kill_commands() {
    for _ in 0..FAREWELL_ROUNDS {
        let alive = commands();
        alive.iter().filter(|seen| !seen.is_dead()).for_each(|seen| seen.signal(Signal::KILL));
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        if alive.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `found` and all whose parents are in it.
fn closure(all: &[Seen], mut found: BTreeSet<i32>) -> BTreeSet<i32> {
    loop {
        let before = found.len();
        for seen in all {
            if found.contains(&seen.parent) {
                found.insert(seen.pid);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

pub(crate) fn read_mark(pid: i32) -> Option<u64> {
    parse_mark(&read_small(format!("/proc/{pid}/limits"))?)
}

fn parse_mark(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn parse_stat(pid: i32, stat: &str) -> Option<Seen> {
    // The name of a process may hold anything, also parentheses: what follows the last one counts.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let mut number = || fields.next()?.parse().ok();
    let (parent, group, session) = (number()?, number()?, number()?);
    // The session was field 6; the number of threads is field 20, the start field 22.
    let threads = fields.nth(13)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(Seen { pid, parent, group, session, state, threads, started })
}

pub(crate) fn read_small(path: impl AsRef<Path>) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(16 << 10).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_fields() {
        let stat = "7 (a) R (1 2) S 3 4 5 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987 1 2 3";
        let seen = parse_stat(7, stat).unwrap();
        assert_eq!((seen.parent, seen.group, seen.session), (3, 4, 5));
        assert_eq!((seen.threads, seen.started), (1, 987));
        assert_eq!(seen.state, b'S');
        assert_eq!(Seen::read(std::process::id() as i32).unwrap().pid, std::process::id() as i32);
    }

    #[test]
    fn marks_are_read_from_limits() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\n\
                      Max file locks            1234                 unlimited            locks\n";
        assert_eq!(parse_mark(limits), Some(1234));
        assert!(parse_mark("Max file locks            unlimited  unlimited  locks").is_none());
    }
}
