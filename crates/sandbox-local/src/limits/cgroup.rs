//! Control groups: one per sandbox, named after it, beneath the caller's own.
//!
//! With the first version there is a hierarchy per controller, and whoever is root makes a group in
//! each, beneath his own. With the second there is one hierarchy, whose groups hold either processes
//! or other groups: so the nearest ancestor of the caller's group is taken that the caller may
//! write and that has, or can be given, the controllers. A group is recorded in the sandbox's folder
//! before it is made, so that whoever removes the folder removes the group as well.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moat_core::SandboxLimits;

use super::mounts::{Hierarchy, Kind, hierarchies};
use super::{Counters, StepFailed};

/// The file of a sandbox's folder that names its groups.
const RECORD: &str = "cgroups.json";
/// What names of groups begin with.
const PREFIX: &str = "moat-";
/// Microseconds within which a share of the processor is held.
const PERIOD_US: u64 = 100_000;
/// Longer than anybody takes between making a group and moving a process into it.
const TIME_TO_ENTER: Duration = Duration::from_secs(60);
/// How long processes that were killed may take to leave their group.
const LEAVING: Duration = Duration::from_secs(2);

/// Where groups for sandboxes can be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cgroups {
    memory: Option<Parent>,
    pids: Option<Parent>,
    cpu: Option<Parent>,
    lacking: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parent {
    path: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    First,
    Second,
}

/// The groups of one sandbox.
#[derive(Debug, Default)]
pub(crate) struct Group {
    folders: Vec<PathBuf>,
    holds_memory: bool,
    holds_pids: bool,
    counters: Counters,
}

impl Cgroups {
    /// Looks for the places, by making and removing a group in each.
    pub(crate) fn find() -> Self {
        Self::among(&mounted())
    }

    /// None at all, for this reason.
    pub(crate) fn none(reason: &str) -> Self {
        Self { lacking: reason.to_owned(), ..Self::default() }
    }

    fn among(hierarchies: &[Hierarchy]) -> Self {
        let mut refusals = Vec::new();
        let mut find = |controller: &str, file: &dyn Fn(Version) -> &'static str| {
            hierarchies.iter().find_map(|hierarchy| {
                place(hierarchy, controller, file)
                    .map_err(|error| refusals.extend(error.map(|error| error.to_string())))
                    .ok()
            })
        };
        let memory = find("memory", &|version| match version {
            Version::First => "memory.limit_in_bytes",
            Version::Second => "memory.max",
        });
        let pids = find("pids", &|_| "pids.max");
        let cpu = find("cpu", &|version| match version {
            Version::First => "cpu.cfs_quota_us",
            Version::Second => "cpu.max",
        });
        refusals.dedup();
        let lacking = match refusals.as_slice() {
            [] if memory.is_some() => String::new(),
            [] => "no hierarchy of control groups has the controllers".to_owned(),
            refusals => refusals.join("; "),
        };
        Self { memory, pids, cpu, lacking }
    }

    pub(crate) fn holds_memory(&self) -> bool {
        self.memory.is_some()
    }

    pub(crate) fn holds_pids(&self) -> bool {
        self.pids.is_some()
    }

    pub(crate) fn holds_cpu(&self) -> bool {
        self.cpu.is_some()
    }

    /// What was tried, where something is lacking.
    pub(crate) fn lacking(&self) -> &str {
        &self.lacking
    }

    /// Whether there is a group with this sandbox's name, which its end left behind.
    pub(crate) fn has_leftovers(&self, id: &str) -> bool {
        let name = format!("{PREFIX}{id}");
        let parents = [&self.memory, &self.pids, &self.cpu].into_iter().flatten();
        parents.map(|parent| parent.path.join(&name)).any(|path| path.exists())
    }

    /// Makes the groups of a sandbox and sets their limits.
    pub(crate) fn make(
        &self,
        id: &str,
        limits: &SandboxLimits,
        folder: &Path,
    ) -> Result<Group, StepFailed> {
        let name = format!("{PREFIX}{id}");
        let cpu = self.cpu.as_ref().filter(|_| limits.cpu_millis.is_some());
        let mut folders: Vec<PathBuf> = Vec::new();
        for parent in [self.memory.as_ref(), self.pids.as_ref(), cpu].into_iter().flatten() {
            let path = parent.path.join(&name);
            if !folders.contains(&path) {
                folders.push(path);
            }
        }
        if folders.is_empty() {
            return Ok(Group::default());
        }
        let failed = |step: &str| {
            let step = step.to_owned();
            move |error: io::Error| StepFailed::new(step, error)
        };
        let record = serde_json::to_vec(&folders).map_err(io::Error::other);
        record
            .and_then(|record| fs::write(folder.join(RECORD), record))
            .map_err(failed("record the control groups"))?;
        for folder in &folders {
            fs::create_dir(folder).map_err(failed("make a control group"))?;
        }
        let mut group = Group { folders, ..Group::default() };
        let set = failed("set the limits of a control group");
        self.set(&mut group, &name, limits).map_err(set)?;
        Ok(group)
    }

    fn set(&self, group: &mut Group, name: &str, limits: &SandboxLimits) -> io::Result<()> {
        if let (Some(parent), Some(bytes)) = (&self.memory, limits.memory_bytes) {
            let folder = parent.path.join(name);
            set_memory(&folder, parent.version, bytes, limits.swap_bytes.unwrap_or(0))?;
            group.holds_memory = true;
            let (events, peak) = match parent.version {
                Version::First => ("memory.oom_control", "memory.max_usage_in_bytes"),
                Version::Second => ("memory.events", "memory.peak"),
            };
            group.counters.memory_events = Some(folder.join(events));
            // The second version has it from Linux 5.19 on.
            group.counters.memory_peak = Some(folder.join(peak)).filter(|path| path.exists());
        }
        if let (Some(parent), Some(pids)) = (&self.pids, limits.pids) {
            let folder = parent.path.join(name);
            // The guest is one more.
            write(&folder.join("pids.max"), pids.saturating_add(1))?;
            group.holds_pids = true;
            group.counters.pids_events =
                Some(folder.join("pids.events")).filter(|path| path.exists());
        }
        if let (Some(parent), Some(millis)) = (&self.cpu, limits.cpu_millis) {
            let folder = parent.path.join(name);
            let quota = millis.saturating_mul(PERIOD_US / 1000);
            match parent.version {
                Version::First => {
                    write(&folder.join("cpu.cfs_period_us"), PERIOD_US)?;
                    write(&folder.join("cpu.cfs_quota_us"), quota)?;
                }
                Version::Second => write(&folder.join("cpu.max"), format!("{quota} {PERIOD_US}"))?,
            }
        }
        Ok(())
    }
}

fn set_memory(folder: &Path, version: Version, bytes: u64, swap: u64) -> io::Result<()> {
    let (memory, all, swap) = match version {
        Version::First => {
            ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes.saturating_add(swap))
        }
        Version::Second => ("memory.max", "memory.swap.max", swap),
    };
    write(&folder.join(memory), bytes)?;
    match write(&folder.join(all), swap) {
        // A kernel that does not count swap.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn write(path: &Path, value: impl ToString) -> io::Result<()> {
    // Not made if it is not there: these files are the kernel's.
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    io::Write::write_all(&mut file, value.to_string().as_bytes())
}

impl Group {
    /// The files through which the launcher enters the groups, and all that it starts with it.
    ///
    /// A process that enters by itself, and as a single thread, is moved at once. Whoever moves
    /// another process, or a whole one, waits until every processor has passed a quiet moment,
    /// which takes longer than everything else about a sandbox. The first version of control groups
    /// has a file for single threads.
    pub(crate) fn doors(&self) -> Result<Vec<OwnedFd>, StepFailed> {
        let open = |path: PathBuf| fs::OpenOptions::new().write(true).open(path);
        let door = |folder: &PathBuf| match open(folder.join("tasks")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                open(folder.join("cgroup.procs"))
            }
            opened => opened,
        };
        let opened: io::Result<Vec<_>> =
            self.folders.iter().map(|folder| door(folder).map(OwnedFd::from)).collect();
        opened.map_err(|error| StepFailed::new("open a control group", error))
    }

    pub(crate) fn holds_memory(&self) -> bool {
        self.holds_memory
    }

    pub(crate) fn holds_pids(&self) -> bool {
        self.holds_pids
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// Removes groups that nobody is in and whose folder went away without them, wherever groups can
/// have been made. One that a sandbox is being made in is younger; one that somebody is in the
/// kernel keeps.
pub(crate) fn sweep() {
    let of = |hierarchy: &Hierarchy| match hierarchy.kind {
        Kind::First(_) => vec![hierarchy.own.clone()],
        Kind::Second => hierarchy.own_and_above().map(Path::to_owned).collect(),
    };
    let parents: BTreeSet<PathBuf> = mounted().iter().flat_map(of).collect();
    for entry in parents.iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_ours && age().is_some_and(|age| age > TIME_TO_ENTER) {
            // Somebody else may have been quicker.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The hierarchies of this host, and the caller's place in each.
fn mounted() -> Vec<Hierarchy> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    hierarchies(&text("/proc/self/mountinfo"), &text("/proc/self/cgroup"))
}

/// Removes the groups of the sandbox whose folder this is. All its processes have ended.
pub(crate) fn remove_recorded(folder: &Path) -> io::Result<()> {
    let record = match fs::read(folder.join(RECORD)) {
        Ok(record) => record,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // One that was not written whole was not acted on.
    let groups: Vec<PathBuf> = serde_json::from_slice(&record).unwrap_or_default();
    let id = folder.file_name().unwrap_or_default().to_string_lossy();
    let name = format!("{PREFIX}{id}");
    let deadline = Instant::now() + LEAVING;
    for group in groups.iter().filter(|group| group.file_name().is_some_and(|n| *n == *name)) {
        remove(group, deadline)?;
    }
    Ok(())
}

fn remove(group: &Path, deadline: Instant) -> io::Result<()> {
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error),
        }
    }
}

/// The group in which those of sandboxes can be made, with a controller whose limit is `file`.
/// `None` as an error: the hierarchy is not the controller's.
fn place(
    hierarchy: &Hierarchy,
    controller: &str,
    file: &dyn Fn(Version) -> &'static str,
) -> Result<Parent, Option<StepMessage>> {
    match &hierarchy.kind {
        Kind::First(controllers) if controllers.iter().any(|name| name == controller) => {
            let path = hierarchy.own.clone();
            try_out(&path, file(Version::First))
                .map(|()| Parent { path: path.clone(), version: Version::First })
                .map_err(|error| Some(StepMessage(path, error)))
        }
        Kind::First(_) => Err(None),
        Kind::Second => {
            let has = |path: &Path, list: &str| {
                fs::read_to_string(path.join(list))
                    .is_ok_and(|text| text.split_whitespace().any(|name| name == controller))
            };
            if !has(&hierarchy.top, "cgroup.controllers") {
                return Err(None);
            }
            let mut refused = None;
            for path in hierarchy.own_and_above() {
                let enable = || {
                    if has(path, "cgroup.subtree_control") {
                        return Ok(());
                    }
                    write(&path.join("cgroup.subtree_control"), format!("+{controller}"))
                };
                match enable().and_then(|()| try_out(path, file(Version::Second))) {
                    Ok(()) => {
                        let path = path.to_owned();
                        return Ok(Parent { path, version: Version::Second });
                    }
                    Err(error) => {
                        refused = refused.or(Some(StepMessage(path.to_owned(), error)));
                    }
                }
            }
            Err(refused)
        }
    }
}

/// A place that does not serve, and why.
#[derive(Debug)]
struct StepMessage(PathBuf, io::Error);

impl std::fmt::Display for StepMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no control group can be made in `{}`: {}", self.0.display(), self.1)
    }
}

/// Makes a group, looks whether its limit can be set and processes can be moved into it, and
/// removes it.
fn try_out(parent: &Path, file: &str) -> io::Result<()> {
    static TRIED: AtomicU64 = AtomicU64::new(0);
    let number = TRIED.fetch_add(1, Ordering::Relaxed);
    let group = parent.join(format!("{PREFIX}try-{}-{number}", std::process::id()));
    match fs::create_dir(&group) {
        // Left by an earlier process of the same number.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let open = |path: &Path| fs::OpenOptions::new().write(true).open(path).map(drop);
    let tried = open(&group.join(file))
        .and_then(|()| open(&group.join("cgroup.procs")))
        .and_then(|()| open(&parent.join("cgroup.procs")));
    fs::remove_dir(&group)?;
    tried
}

#[cfg(test)]
mod tests;
