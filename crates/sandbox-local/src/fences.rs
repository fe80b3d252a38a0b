//! The fences around a sandbox: what each is for, whether this host has it, and what to do if not.

mod host;
mod probe;
mod remedy;

use std::fmt;
use std::str::FromStr;

pub(crate) use probe::{Probe, probe_all};

/// One fence. Names are stable: they are what `--allow-missing` takes and journals carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fence {
    /// A user namespace: nobody inside is anybody outside.
    User,
    /// A mount namespace and a root of its own.
    Mount,
    /// A pid namespace: no process outside can be seen or signalled, and all die together.
    Pid,
    /// A network namespace with nothing but loopback.
    Net,
    /// A namespace for System V and POSIX message passing.
    Ipc,
    /// A host name of its own.
    Uts,
    /// A cgroup namespace.
    Cgroup,
    /// A `/proc` that shows only the sandbox's processes.
    Proc,
    /// No exec gains privileges.
    NoNewPrivileges,
    /// The filter on system calls.
    Seccomp,
    /// Landlock, the second fence on files.
    Landlock,
    /// Process descriptors: a signal never reaches a process that took over a number.
    Pidfd,
}

impl Fence {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 12] = [
        Self::User,
        Self::Mount,
        Self::Pid,
        Self::Net,
        Self::Ipc,
        Self::Uts,
        Self::Cgroup,
        Self::Proc,
        Self::NoNewPrivileges,
        Self::Seccomp,
        Self::Landlock,
        Self::Pidfd,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user-namespace",
            Self::Mount => "mount-namespace",
            Self::Pid => "pid-namespace",
            Self::Net => "network-namespace",
            Self::Ipc => "ipc-namespace",
            Self::Uts => "uts-namespace",
            Self::Cgroup => "cgroup-namespace",
            Self::Proc => "private-proc",
            Self::NoNewPrivileges => "no-new-privileges",
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
            Self::Pidfd => "pidfd",
        }
    }

    /// The `CLONE_NEW…` flag of a namespace.
    pub(crate) fn namespace(self) -> u64 {
        let flag = match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Net => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            _ => 0,
        };
        u64::from(flag as u32)
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no fence's.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not the name of a fence")]
pub struct UnknownFence(String);

impl FromStr for Fence {
    type Err = UnknownFence;
    fn from_str(text: &str) -> Result<Self, UnknownFence> {
        Self::ALL
            .into_iter()
            .find(|fence| fence.name() == text)
            .ok_or_else(|| UnknownFence(text.chars().take(80).collect()))
    }
}

/// How well a fence stands on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceState {
    /// The kernel enforces it.
    Hard,
    /// Not as well as it could, which the detail explains; sandboxes are made without asking.
    Soft,
    /// Not at all; sandboxes are refused unless it is allowed to be missing, by name.
    Missing,
}

/// One row of what `doctor` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceStatus {
    /// Which fence.
    pub fence: Fence,
    /// Its stable name.
    pub name: &'static str,
    /// What it is for.
    pub what: &'static str,
    /// How well it stands.
    pub state: FenceState,
    /// What was tried and what the host said; empty for a hard fence.
    pub detail: String,
    /// What to do about it; empty for a hard fence.
    pub remedy: String,
}

impl Fence {
    /// What it is for.
    pub fn what(self) -> &'static str {
        match self {
            Self::User => "nobody inside is anybody on the host; root inside is nobody outside",
            Self::Mount => "the host's files are absent, or read-only",
            Self::Pid => "the host's processes can neither be seen nor signalled; all die together",
            Self::Net => "no network but its own loopback",
            Self::Ipc => "shared memory and message queues of its own",
            Self::Uts => "a host name of its own",
            Self::Cgroup => "the host's control groups cannot be seen",
            Self::Proc => "/proc shows the sandbox's processes only",
            Self::NoNewPrivileges => "set-user-id programs gain nothing",
            Self::Seccomp => "system calls that are not needed are refused",
            Self::Landlock => "a second fence on files, which holds whatever happens to mounts",
            Self::Pidfd => "a signal never reaches a process that took over a number",
        }
    }

    /// Whether a sandbox can be made without it at all.
    pub(crate) fn can_be_missing(self) -> bool {
        !matches!(self, Self::User | Self::Mount | Self::Pid | Self::NoNewPrivileges)
    }

    /// Whether its absence is only reported.
    pub(crate) fn is_second(self) -> bool {
        matches!(self, Self::Landlock | Self::Pidfd)
    }
}
