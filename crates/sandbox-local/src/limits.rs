//! What a sandbox may use, and who holds it to that.
//!
//! Where the caller may make control groups the kernel holds memory, processes and the processor's
//! share ([`cgroup`]); limits of single processes are the kernel's everywhere; files in memory have
//! the size of their file system. The rest, and memory without a control group, is watched by the
//! guest, which is told here what to watch ([`guest`](Held::guest)). [`status`] says which is which.

mod cgroup;
mod defaults;
mod mounts;
mod status;

use std::path::{Path, PathBuf};

use moat_core::SandboxLimits;
use moat_guest::GuestLimits;
use moat_sandbox::{GuestError, SandboxError, check_limits};

use crate::identity::{Identity, Kind};
use crate::launcher::StepFailed;
use crate::plan::{Plan, Slot, Step};
use crate::root::OUTPUTS_FD;

pub(crate) use cgroup::{Cgroups, Group, remove_recorded, sweep};
pub(crate) use defaults::defaults;
pub(crate) use status::status;
pub use status::{LimitState, LimitStatus};

/// Where the guest finds the kernel's counters, those of them that there are.
const MEMORY_EVENTS_FD: i32 = OUTPUTS_FD + 1;
const MEMORY_PEAK_FD: i32 = OUTPUTS_FD + 2;
const PIDS_EVENTS_FD: i32 = OUTPUTS_FD + 3;
/// The first descriptor after those of the counters.
pub(crate) const AFTER_COUNTERS_FD: i32 = OUTPUTS_FD + 4;

/// Files of the kernel that the guest reads its counters from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) memory_events: Option<PathBuf>,
    pub(crate) memory_peak: Option<PathBuf>,
    pub(crate) pids_events: Option<PathBuf>,
}

impl Counters {
    fn each(&self) -> [(Option<&Path>, i32); 3] {
        [
            (self.memory_events.as_deref(), MEMORY_EVENTS_FD),
            (self.memory_peak.as_deref(), MEMORY_PEAK_FD),
            (self.pids_events.as_deref(), PIDS_EVENTS_FD),
        ]
    }

    /// Opens them for reading, while the host's files are still there.
    pub(crate) fn open(&self, plan: &mut Plan) -> Vec<(Slot, i32)> {
        let files = self.each().into_iter().filter_map(|(path, number)| Some((path?, number)));
        files
            .map(|(path, number)| {
                let slot = plan.slot();
                let flags = libc::O_RDONLY as u32;
                let step = Step::Open { slot, flags, optional: false, path };
                plan.push("open a counter of the control group", &step);
                (slot, number)
            })
            .collect()
    }

    /// Hands them to the guest.
    pub(crate) fn pass(slots: &[(Slot, i32)], plan: &mut Plan) {
        for (slot, number) in slots {
            let step = Step::PassDescriptor { slot: *slot, number: *number };
            plan.push("pass a counter of the control group on", &step);
        }
    }
}

/// Limits that make sense together, none of them left to chance.
///
/// # Errors
/// One that is too small for any sandbox, or that this host cannot hold anybody to.
pub(crate) fn resolve(
    wanted: SandboxLimits,
    options: SandboxLimits,
    state: &Path,
    cgroups: &Cgroups,
) -> Result<SandboxLimits, SandboxError> {
    let limits = wanted.or(options);
    let limits = limits.or(defaults(&limits, state));
    check_limits(&limits)?;
    if limits.cpu_millis.is_some() && !cgroups.holds_cpu() {
        let what = format!("hold a share of the processor on this host: {}", cgroups.lacking());
        return Err(GuestError::Unsupported(what).into());
    }
    Ok(limits)
}

/// What the guest is to hold commands to, beside what the kernel does.
pub(crate) fn for_guest(limits: &SandboxLimits, group: &Group, identity: &Identity) -> GuestLimits {
    let counters = group.counters();
    let number = |path: &Option<PathBuf>, number| path.as_ref().map(|_| number);
    GuestLimits {
        memory_bytes: limits.memory_bytes,
        memory_is_hard: group.holds_memory(),
        memory_events_fd: number(&counters.memory_events, MEMORY_EVENTS_FD),
        memory_peak_fd: number(&counters.memory_peak, MEMORY_PEAK_FD),
        pids: limits.pids,
        // Where both hold, only the control group's counts what it refuses.
        pids_rlimit: limits
            .pids
            .filter(|_| !group.holds_pids())
            .and_then(|pids| pids_rlimit(pids, identity)),
        pids_events_fd: number(&counters.pids_events, PIDS_EVENTS_FD),
        cpu_time_ms: limits.cpu_time_ms,
        wall_ms: limits.wall_ms,
        output_bytes: limits.output_bytes,
        open_files: limits.open_files,
        file_bytes: limits.file_bytes,
        disk_bytes: limits.disk_bytes,
        disk_inodes: limits.disk_inodes,
        tmp_bytes: limits.tmp_bytes,
        tmp_inodes: limits.tmp_inodes,
    }
}

/// The processes of one user that the kernel lets there be, where it counts those of the sandbox
/// alone: because the user is the sandbox's own, or since Linux 5.14, which counts per user
/// namespace. It never counts the host's root.
fn pids_rlimit(pids: u64, identity: &Identity) -> Option<u64> {
    match identity.kind {
        Kind::Private { .. } => Some(pids),
        Kind::Caller { uid: 0, .. } => None,
        Kind::Lent(_) => counts_per_namespace().then_some(pids),
        // The guest is the same user.
        Kind::Caller { .. } => counts_per_namespace().then(|| pids.saturating_add(1)),
    }
}

/// Whether the kernel counts processes per user namespace.
fn counts_per_namespace() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    is_at_least(&release, (5, 14))
}

fn is_at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert!(is_at_least("5.14.0-427.el9", (5, 14)) && is_at_least("6.1", (5, 14)));
        assert!(!is_at_least("5.4.0-150-generic", (5, 14)) && !is_at_least("", (5, 14)));
    }

    #[test]
    fn a_limit_under_which_nothing_works_is_refused() {
        let top = tempfile::tempdir().unwrap();
        let none = SandboxLimits::default();
        let cgroups = Cgroups::none("switched off");
        let too_little = SandboxLimits { memory_bytes: Some(1 << 20), ..none };
        let refused = resolve(too_little, none, top.path(), &cgroups).unwrap_err();
        assert!(refused.to_string().contains("16777216"), "{refused}");
        let share = SandboxLimits { cpu_millis: Some(500), ..none };
        let refused = resolve(share, none, top.path(), &cgroups).unwrap_err();
        assert!(matches!(refused, SandboxError::Guest(GuestError::Unsupported(_))), "{refused}");
    }

    #[test]
    fn what_is_asked_for_comes_before_the_options_and_those_before_the_defaults() {
        let top = tempfile::tempdir().unwrap();
        let none = SandboxLimits::default();
        let wanted = SandboxLimits { pids: Some(7), ..none };
        let options = SandboxLimits { pids: Some(9), wall_ms: Some(11), ..none };
        let limits = resolve(wanted, options, top.path(), &Cgroups::none("")).unwrap();
        assert_eq!((limits.pids, limits.wall_ms), (Some(7), Some(11)));
        assert!(limits.memory_bytes.is_some() && limits.disk_bytes.is_some());
    }
}
