//! Looking at what the kernel does not enforce.

mod storage;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use moat_guest::{LimitName, LimitReached, Metered};

use super::Limits;
use super::counters::{TMP, files_in_memory, tmp_is_full};
use super::sample::{self, Devices, Held, Task};
use crate::process::{Processes, mark_of};
use crate::{sys, tree};

use storage::{Disk, allowed_disk, has_disk_limit};

/// How soon after its start a command is first looked at. Most have ended by then.
const FIRST: Duration = Duration::from_millis(10);

/// The shortest time between two looks.
const SHORTEST: Duration = Duration::from_millis(5);

/// The longest, while anything happens.
const LONGEST: Duration = Duration::from_secs(1);

/// The longest, while no processor time is used.
const QUIET: Duration = Duration::from_secs(4);

/// Looking takes at most one part in this many of a processor.
const SHARE: u32 = 20;

/// Bytes of memory that one core can fill within a second.
const FILL_RATE: u64 = 4 << 30;

/// Processes that can be started within a second.
const FORK_RATE: u64 = 20_000;

/// How long a command may hold all processes that there may be before it is ended, so that others
/// can have some.
const CROWDED: Duration = Duration::from_secs(1);

/// Processes whose descriptors are looked through although they seem to do nothing.
const FEW: usize = 64;

/// The watch over all commands.
pub(crate) struct Watch {
    first_process: bool,
    cores: u64,
    began: Instant,
    /// Processes that were seen before. What a process belonged to when it was first seen it
    /// belongs to for good.
    known: BTreeMap<(i32, u64), Known>,
    next_look: Option<Instant>,
    last_wait: Duration,
    crowded_since: Option<Instant>,
    disk: Disk,
    devices: Devices,
    peak: u64,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// The number of the command that it descends from.
    owner: Option<u64>,
    cpu_us: u64,
    held: Held,
}

/// What the processes of one command use together.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    cpu_us: u64,
    memory: u64,
    tasks: u64,
    descriptors: u64,
}

impl Watch {
    pub(crate) fn new(limits: &Limits, roots: Vec<PathBuf>, first_process: bool) -> Self {
        let device = |path: &std::path::Path| rustix::fs::stat(path).map_or(0, |stat| stat.st_dev);
        let devices = Devices {
            disk: [0, 1].map(|index| roots.get(index).map_or(0, |root| device(root))),
            tmp: TMP.map(|path| device(path.as_ref())),
        };
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        let accepted = allowed_disk(limits);
        Self {
            first_process,
            cores,
            began: Instant::now(),
            known: BTreeMap::new(),
            next_look: None,
            last_wait: FIRST,
            crowded_since: None,
            disk: Disk {
                roots,
                counting: None,
                next: None,
                accepted,
                stale: false,
                held: 0,
                fills: LONGEST,
            },
            devices,
            peak: 0,
        }
    }

    /// A command was started.
    pub(crate) fn wake(&mut self, now: Instant) {
        let soon = now + FIRST;
        self.next_look = Some(self.next_look.map_or(soon, |next| next.min(soon)));
        self.last_wait = FIRST;
    }

    /// When [`Watch::tick`] next has something to do.
    pub(crate) fn deadline(&self, processes: &Processes) -> Option<Instant> {
        let disk = if self.disk.counting.is_some() { Some(self.began) } else { self.disk.next };
        [self.next_look, disk, processes.wall_deadline()].into_iter().flatten().min()
    }

    /// Looks at what is due. `Err`: the kernel does not show processes any more, and nothing can
    /// be held to its limits.
    pub(crate) fn tick(&mut self, processes: &mut Processes, now: Instant) -> Result<(), ()> {
        processes.end_overdue(now);
        if self.next_look.is_some_and(|next| now >= next) {
            self.look(processes, now)?;
        }
        if self.disk.counting.is_some() || self.disk.next.is_some_and(|next| now >= next) {
            self.count_disk(processes)?;
        }
        processes.kill_condemned();
        Ok(())
    }

    fn look(&mut self, processes: &mut Processes, now: Instant) -> Result<(), ()> {
        let before = worked();
        let tasks = sample::tasks(self.first_process).ok_or(())?;
        if tasks.is_empty() {
            self.known.clear();
            self.next_look = None;
            self.disk.next = None;
            self.disk.counting = None;
            self.crowded_since = None;
            return Ok(());
        }
        let busy = self.recognise(&tasks, processes);
        let loads = self.loads(&tasks);
        let mut wait = if busy { LONGEST } else { (self.last_wait * 2).min(QUIET) };
        for (owner, load) in &loads {
            if let Some(process) = owner.and_then(|id| processes.running(id)) {
                process.account.saw(load.memory, load.cpu_us);
            }
        }
        wait = wait.min(self.check_cpu(&loads, processes));
        wait = wait.min(self.check_memory(&tasks, &loads, processes));
        wait = wait.min(self.check_pids(&tasks, &loads, processes, now));
        wait = wait.min(check_descriptors(&loads, processes));
        if let Some((limit, allowed)) = tmp_is_full(&processes.limits.config) {
            let reached = LimitReached { limit, allowed, seen: None, hard: true, ended: false };
            processes.all_running().for_each(|process| process.account.reach(reached));
        }
        self.disk.held =
            self.known.values().map(|known| known.held.disk).fold(0, u64::saturating_add);
        self.disk.stale |= busy;
        if has_disk_limit(processes) {
            // Who wakes up and writes is seen before he can have written what is left.
            wait = wait.min(self.disk.fills);
        }
        if has_disk_limit(processes) && self.disk.stale && self.disk.next.is_none() {
            self.disk.next = Some(now);
        }
        let cost = worked_since(before) * SHARE;
        self.last_wait = wait.max(SHORTEST).max(cost);
        self.next_look = Some(Instant::now() + self.last_wait);
        Ok(())
    }

    /// Finds out what each process belongs to. Answers whether anything used processor time.
    fn recognise(&mut self, tasks: &[Task], processes: &Processes) -> bool {
        let mut busy = tasks.len() != self.known.len();
        let config = &processes.limits.config;
        let looks_inside = config.open_files.is_some()
            || has_disk_limit(processes)
            || (config.memory_bytes.is_some() && !config.memory_is_hard);
        let by_pid: BTreeMap<i32, (i32, u64)> =
            tasks.iter().map(|task| (task.pid, task.identity())).collect();
        let mut known = BTreeMap::new();
        for task in tasks {
            let before = self.known.get(&task.identity()).copied();
            let worked = before.is_none_or(|before| before.cpu_us != task.cpu_us);
            busy |= worked;
            // One that was seen the moment it was forked may not have had its mark yet.
            let owner = before
                .and_then(|before| before.owner)
                .or_else(|| self.owner(task, &by_pid, processes));
            let held = match before {
                _ if looks_inside && (worked || tasks.len() <= FEW) => {
                    sample::held(task.pid, &self.devices)
                }
                Some(before) => before.held,
                None => Held::default(),
            };
            known.insert(task.identity(), Known { owner, cpu_us: task.cpu_us, held });
        }
        self.known = known;
        busy
    }

    fn owner(
        &self,
        task: &Task,
        by_pid: &BTreeMap<i32, (i32, u64)>,
        processes: &Processes,
    ) -> Option<u64> {
        let marked = tree::read_mark(task.pid).and_then(|mark| processes.owner_of(mark));
        let related = || {
            [task.parent, task.session, task.group]
                .into_iter()
                .filter_map(|pid| self.known.get(by_pid.get(&pid)?)?.owner)
                .next()
        };
        marked.or_else(related)
    }

    fn loads(&self, tasks: &[Task]) -> BTreeMap<Option<u64>, Load> {
        let mut loads: BTreeMap<Option<u64>, Load> = BTreeMap::new();
        for task in tasks {
            let Some(known) = self.known.get(&task.identity()) else { continue };
            let load = loads.entry(known.owner).or_default();
            load.cpu_us = load.cpu_us.saturating_add(task.cpu_us);
            load.memory =
                load.memory.saturating_add(task.private).saturating_add(known.held.memory);
            load.tasks = load.tasks.saturating_add(task.threads);
            load.descriptors = load.descriptors.max(known.held.count);
        }
        loads
    }

    fn check_cpu(
        &self,
        loads: &BTreeMap<Option<u64>, Load>,
        processes: &mut Processes,
    ) -> Duration {
        let Some(allowed) = processes.limits.config.cpu_time_ms else { return QUIET };
        let mut left = QUIET;
        for process in processes.all_running() {
            let load = loads.get(&Some(process.number())).map_or(0, |load| load.cpu_us);
            let used = load.saturating_add(process.account.orphans_cpu_us()) / 1000;
            if used >= allowed {
                let limit = LimitName::CpuTime;
                process.account.condemn(soft(limit, allowed, used));
            } else {
                left = left.min(Duration::from_millis((allowed - used) / self.cores));
            }
        }
        left
    }

    fn check_memory(
        &mut self,
        tasks: &[Task],
        loads: &BTreeMap<Option<u64>, Load>,
        processes: &mut Processes,
    ) -> Duration {
        let files = files_in_memory();
        let most = loads.values().map(|load| load.memory).fold(files, u64::saturating_add);
        let config = processes.limits.config;
        let Some(allowed) = config.memory_bytes.filter(|_| !config.memory_is_hard) else {
            self.peak = self.peak.max(most);
            return QUIET;
        };
        // What is shared between forks was counted for each of them; now exactly.
        let seen = if most < allowed { most } else { self.shared_out(tasks, files) };
        self.peak = self.peak.max(seen);
        if seen >= allowed {
            // Where one is dying already its memory is about to be free.
            if !processes.all_running().any(|process| process.is_dying()) {
                let heaviest = loads.iter().max_by_key(|(_, load)| load.memory);
                let owner = heaviest.and_then(|(owner, _)| *owner);
                self.end(owner, soft(LimitName::Memory, allowed, seen), tasks, processes);
            }
            return SHORTEST * 4;
        }
        time_to_fill(allowed - seen, FILL_RATE.saturating_mul(self.cores))
    }

    /// Bytes of memory, each counted once.
    fn shared_out(&self, tasks: &[Task], files: u64) -> u64 {
        let held =
            self.known.values().map(|known| known.held.memory).fold(files, u64::saturating_add);
        let shares = tasks.iter().map(|task| task.share().unwrap_or((task.private, 0)));
        let (private, shared) = shares.fold((0_u64, 0_u64), |sum, share| {
            (sum.0.saturating_add(share.0), sum.1.saturating_add(share.1))
        });
        private.saturating_add(shared.max(held))
    }

    fn check_pids(
        &mut self,
        tasks: &[Task],
        loads: &BTreeMap<Option<u64>, Load>,
        processes: &mut Processes,
        now: Instant,
    ) -> Duration {
        let Some(allowed) = processes.limits.config.pids else { return QUIET };
        let count = loads.values().map(|load| load.tasks).fold(0, u64::saturating_add);
        let is_hard = processes.limits.pids_are_hard();
        if count < allowed {
            if count < allowed / 4 * 3 {
                self.crowded_since = None;
            }
            let near = count >= allowed / 2;
            let left = time_to_fill(allowed - count, FORK_RATE);
            return if !is_hard || near { left.max(SHORTEST * 2) } else { QUIET };
        }
        let since = *self.crowded_since.get_or_insert(now);
        let most = loads.iter().max_by_key(|(_, load)| load.tasks);
        let owner = most.and_then(|(owner, _)| *owner);
        let reached = LimitReached {
            limit: LimitName::Pids,
            allowed,
            seen: Some(count),
            hard: is_hard,
            ended: false,
        };
        if !is_hard || now.saturating_duration_since(since) >= CROWDED {
            self.end(owner, reached, tasks, processes);
        } else if let Some(process) = owner.and_then(|id| processes.running(id)) {
            process.account.reach(reached);
        }
        SHORTEST * 10
    }

    /// Ends what belongs to a command, or what belongs to none.
    fn end(
        &self,
        owner: Option<u64>,
        reached: LimitReached,
        tasks: &[Task],
        processes: &mut Processes,
    ) {
        match owner {
            Some(id) => end_owner(id, reached, processes),
            None => {
                let unowned = tasks.iter().filter(|task| {
                    self.known.get(&task.identity()).is_none_or(|known| known.owner.is_none())
                });
                unowned.for_each(|task| tree::kill_one(task.pid, task.started));
            }
        }
    }

    /// What all commands used since the guest began.
    pub(crate) fn metered(&self, limits: &Limits) -> Metered {
        let mut all = sys::usage_of_ended();
        for task in sample::tasks(self.first_process).unwrap_or_default() {
            all.cpu_us = all.cpu_us.saturating_add(task.cpu_us);
            all.read = all.read.saturating_add(task.read_bytes());
            all.written = all.written.saturating_add(task.written());
        }
        let peak = limits.peak().unwrap_or_else(|| self.peak.max(all.peak_memory));
        Metered {
            cpu_ms: all.cpu_us / 1000,
            peak_memory_bytes: peak,
            read_bytes: all.read,
            written_bytes: all.written,
            wall_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn end_owner(id: u64, reached: LimitReached, processes: &mut Processes) {
    match processes.running(id) {
        Some(process) => process.account.condemn(reached),
        // It has ended, and left something behind.
        None => tree::kill_tree(None, mark_of(id), processes.is_first()),
    }
}

fn check_descriptors(loads: &BTreeMap<Option<u64>, Load>, processes: &mut Processes) -> Duration {
    let Some(allowed) = processes.limits.config.open_files else { return QUIET };
    for process in processes.all_running() {
        let most = loads.get(&Some(process.number())).map_or(0, |load| load.descriptors);
        if most >= allowed {
            process.account.reach(LimitReached {
                limit: LimitName::OpenFiles,
                allowed,
                seen: Some(most),
                hard: true,
                ended: false,
            });
        }
    }
    SHORTEST * 10
}

fn soft(limit: LimitName, allowed: u64, seen: u64) -> LimitReached {
    LimitReached { limit, allowed, seen: Some(seen), hard: false, ended: true }
}

/// Processor time of the guest. What looking costs is counted by it and not by the clock, so that
/// limits hold as well on a machine that is busy.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

fn worked_since(before: Duration) -> Duration {
    worked().saturating_sub(before)
}

/// How long it takes at least to use up what is left.
fn time_to_fill(left: u64, rate: u64) -> Duration {
    Duration::from_micros(left.saturating_mul(1000) / (rate / 1000).max(1))
}
