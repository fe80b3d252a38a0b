//! The fences around a sandbox: what each is for, whether this host has it, and what to do if not.

use std::fmt;
use std::str::FromStr;

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
