//! Who holds each limit on this host, as `doctor` prints it.

use crate::identity::Identity;

use super::{Cgroups, pids_rlimit};

/// Who holds a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitState {
    /// The kernel: it is never passed.
    Hard,
    /// A watcher: it may be passed by the overshoot that the detail states.
    Soft,
    /// Nobody: a sandbox with such a limit is refused.
    Missing,
}

/// One row of what `doctor` prints about limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// The limit, by the name of its option and field.
    pub name: &'static str,
    /// What it limits.
    pub what: &'static str,
    /// Who holds it.
    pub state: LimitState,
    /// The overshoot of a soft limit; empty for a hard one.
    pub detail: String,
    /// What would make it hard, if anything would.
    pub remedy: String,
}

const CONTROL_GROUPS: &str = "Run Moat where it may make control groups: as root; or as \
    `systemd-run --user --scope -p Delegate=yes moat …`; or in a service with `Delegate=yes` and \
    `DelegateSubgroup=moat`; a container needs a writable /sys/fs/cgroup.";

/// All limits of sandboxes of this identity.
pub(crate) fn status(cgroups: &Cgroups, identity: &Identity) -> Vec<LimitStatus> {
    let hard = |name, what| LimitStatus {
        name,
        what,
        state: LimitState::Hard,
        detail: String::new(),
        remedy: String::new(),
    };
    let lesser = |name, what, state, detail: &str, remedy: &str| LimitStatus {
        name,
        what,
        state,
        detail: detail.to_owned(),
        remedy: remedy.to_owned(),
    };
    let soft = |name, what, detail: &str| lesser(name, what, LimitState::Soft, detail, "");
    let grouped = |held: bool, name, what, state, detail: &str| {
        if held {
            return hard(name, what);
        }
        let lacking = cgroups.lacking();
        lesser(name, what, state, &format!("{detail} ({lacking})"), CONTROL_GROUPS)
    };
    let pids = cgroups.holds_pids() || pids_rlimit(1, identity).is_some();
    vec![
        grouped(
            cgroups.holds_memory(),
            "memory",
            "bytes of memory of all processes",
            LimitState::Soft,
            "a watcher looks every 5 ms near the limit; what is filled between two looks, up to \
             64 MiB and as much per core, may exceed it; memory of the kernel for its sockets and \
             pipes is not seen",
        ),
        grouped(
            pids,
            "pids",
            "processes and threads",
            LimitState::Soft,
            "a watcher looks every 5 ms near the limit; some hundred processes may exceed it",
        ),
        grouped(
            cgroups.holds_cpu(),
            "cpu",
            "share of the processor",
            LimitState::Missing,
            "a sandbox for which it is asked is refused",
        ),
        hard("open-files", "descriptors of one process"),
        hard("file-size", "bytes of one file"),
        hard("tmp", "bytes and files of /tmp and /dev/shm"),
        hard("output", "bytes that a command prints"),
        soft(
            "disk",
            "bytes and files of workspace and home",
            "a watcher counts them, every 10 ms near the limit where there are few files; what is \
             written while it counts may exceed it",
        ),
        soft(
            "cpu-time",
            "processor time of a command",
            "a watcher looks every 5 ms near the limit; each process is held to it by the kernel, \
             up to two seconds later",
        ),
        soft("wall-time", "time that a command runs", "a timer of the guest ends it, within ms"),
    ]
}
