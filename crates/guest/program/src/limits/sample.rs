//! One look at all processes.

use std::collections::BTreeSet;
use std::fs;

use crate::tree;

/// Bytes of a page of memory. Larger pages of other configurations only make counts smaller.
const PAGE: u64 = 4096;

/// Microseconds of a tick, in which `/proc` counts processor time on every Linux.
const TICK_US: u64 = 10_000;

/// A process as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    pub(super) threads: u64,
    pub(super) started: u64,
    /// Microseconds of processor time of itself and of those it waited for.
    pub(super) cpu_us: u64,
    /// Bytes of memory that are its own, or shared with those it forked or was forked from.
    pub(super) private: u64,
}

impl Task {
    fn read(pid: i32) -> Option<Self> {
        let stat = tree::read_small(format!("/proc/{pid}/stat"))?;
        let mut task = parse_stat(pid, &stat)?;
        let memory = tree::read_small(format!("/proc/{pid}/statm")).unwrap_or_default();
        let mut pages = memory.split_whitespace().map(|field| field.parse().unwrap_or(0_u64));
        let (_, resident, shared) = (pages.next(), pages.next(), pages.next());
        let private = resident.unwrap_or(0).saturating_sub(shared.unwrap_or(0));
        task.private = private.saturating_mul(PAGE);
        Some(task)
    }

    pub(super) fn identity(&self) -> (i32, u64) {
        (self.pid, self.started)
    }

    /// Bytes of memory that it has, and its share of what several have: private ones and those of
    /// files in memory. Takes the kernel a while for a large process.
    pub(super) fn share(&self) -> Option<(u64, u64)> {
        let text = tree::read_small(format!("/proc/{}/smaps_rollup", self.pid))?;
        parse_rollup(&text)
    }

    /// Bytes that it, and those it waited for, had written to storage.
    pub(super) fn written(&self) -> u64 {
        let text = tree::read_small(format!("/proc/{}/io", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("write_bytes:"));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    }

    pub(super) fn read_bytes(&self) -> u64 {
        let text = tree::read_small(format!("/proc/{}/io", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("read_bytes:"));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    }
}

/// All processes of this guest but itself. `None`: the kernel does not say.
pub(super) fn tasks(first_process: bool) -> Option<Vec<Task>> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let entries = fs::read_dir("/proc").ok()?;
    let all: Vec<Task> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter_map(Task::read)
        .collect();
    if first_process {
        return Some(all);
    }
    let mut ours = BTreeSet::from([own]);
    loop {
        let before = ours.len();
        ours.extend(
            all.iter()
                .filter(|task| ours.contains(&task.parent))
                .map(|t| t.pid)
                .collect::<Vec<_>>(),
        );
        if ours.len() == before {
            break;
        }
    }
    Some(all.into_iter().filter(|task| ours.contains(&task.pid)).collect())
}

/// How many processes there are beside the guest, which has to be the first.
pub(super) fn count() -> u64 {
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let all = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<i32>().is_ok()));
    (all.count() as u64).saturating_sub(1)
}

/// What open descriptors of a process hold beside what is found by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// How many there are.
    pub(super) count: u64,
    /// Bytes of files of the workspace's file system that have no name any more.
    pub(super) disk: u64,
    /// Bytes of memory files.
    pub(super) memory: u64,
}

/// Which file systems are which.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Devices {
    /// Those of workspace and home.
    pub(super) disk: [u64; 2],
    /// Those of `/tmp` and `/dev/shm`, whose use the kernel tells.
    pub(super) tmp: [u64; 2],
}

/// Looks through the open descriptors of a process. Nothing where it may not be looked at.
pub(super) fn held(pid: i32, devices: &Devices) -> Held {
    let mut held = Held::default();
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return held };
    for entry in entries.flatten() {
        held.count += 1;
        // Of what the descriptor leads to, not of the link.
        let Ok(stat) = rustix::fs::stat(entry.path()) else { continue };
        let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
        if !is_file || stat.st_nlink > 0 {
            continue;
        }
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        if devices.disk.contains(&stat.st_dev) {
            held.disk = held.disk.saturating_add(bytes);
        } else if !devices.tmp.contains(&stat.st_dev) {
            held.memory = held.memory.saturating_add(bytes);
        }
    }
    held
}

fn parse_stat(pid: i32, stat: &str) -> Option<Task> {
    // The name of a process may hold anything, also parentheses: what follows the last one counts.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(1);
    let mut number = |skip: usize| fields.nth(skip)?.parse::<i64>().ok();
    // Field 4 is the parent; 14 to 17 are times, 20 the threads, 22 the start.
    let (parent, group, session) = (number(0)?, number(0)?, number(0)?);
    let times = [number(7)?, number(0)?, number(0)?, number(0)?];
    let threads = number(2)?;
    let started = number(1)?;
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    let ticks = times.into_iter().map(unsigned).fold(0, u64::saturating_add);
    Some(Task {
        pid,
        parent: i32::try_from(parent).ok()?,
        group: i32::try_from(group).ok()?,
        session: i32::try_from(session).ok()?,
        threads: unsigned(threads).max(1),
        started: unsigned(started),
        cpu_us: ticks.saturating_mul(TICK_US),
        private: 0,
    })
}

fn parse_rollup(text: &str) -> Option<(u64, u64)> {
    let kib = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some((kib("Pss_Anon:")?.saturating_mul(1024), kib("Pss_Shmem:")?.saturating_mul(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_understood_whatever_the_name() {
        let stat = "7 (a) R (1 2) S 3 4 5 0 -1 4194560 1 0 0 0 11 12 13 14 20 0 6 0 987 1 2 3";
        let task = parse_stat(7, stat).unwrap();
        assert_eq!((task.parent, task.group, task.session), (3, 4, 5));
        assert_eq!((task.threads, task.started), (6, 987));
        assert_eq!(task.cpu_us, 500_000);
    }

    #[test]
    fn a_process_that_holds_memory_is_seen_to() {
        let me = std::process::id() as i32;
        let before = Task::read(me).unwrap();
        let held = vec![7_u8; 64 << 20];
        let after = Task::read(me).unwrap();
        assert!(after.private >= before.private + held.len() as u64 / 2, "{after:?}");
        let (anonymous, _) = after.share().unwrap();
        assert!(anonymous >= held.len() as u64, "{anonymous}");
    }

    #[test]
    fn files_without_a_name_are_seen() {
        use std::os::fd::AsRawFd as _;
        let folder = std::env::temp_dir();
        let device = rustix::fs::stat(&folder).unwrap().st_dev;
        let devices = Devices { disk: [device; 2], tmp: [0; 2] };
        let path = folder.join(format!("moat-held-{}", std::process::id()));
        let file = fs::File::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(file.as_raw_fd() > 2);
        let me = std::process::id() as i32;
        let before = held(me, &devices);
        rustix::io::pwrite(&file, &vec![1; 1 << 20], 0).unwrap();
        let after = held(me, &devices);
        assert!(after.disk + after.memory >= before.disk + before.memory + (1 << 20), "{after:?}");
        assert!(after.count > 3);
    }
}
