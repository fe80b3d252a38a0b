//! Exit codes, and what a run's end means for them.

use std::process::ExitCode;

use moat_core::{PauseReason, RunOutcome};
use moat_harness::machine::{State, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What the process says at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Success,
    TaskFailed,
    Usage,
    Waiting,
    Limit,
    HostCannot,
    Paused,
    Interrupted,
    /// Whoever read the output closed it, as `head` does.
    Unread,
    /// Of the command that was run for the caller.
    Passed(u8),
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::TaskFailed => 1,
            Self::Usage => 2,
            Self::Waiting => 3,
            Self::Limit => 4,
            Self::HostCannot => 5,
            Self::Paused => 6,
            Self::Interrupted => 130,
            Self::Unread => 141,
            Self::Passed(code) => code,
        }
    }

    pub(crate) fn of(state: &State) -> Self {
        match state.status() {
            Status::Finished(RunOutcome::Final { .. }) => Self::Success,
            Status::Finished(_) | Status::Moved | Status::Erased => Self::TaskFailed,
            Status::Limited { .. } => Self::Limit,
            Status::Paused(PauseReason::Approval, _) => Self::Waiting,
            Status::Paused(PauseReason::User, _) => Self::Interrupted,
            Status::Paused(PauseReason::Host, _) => Self::HostCannot,
            Status::Paused(PauseReason::Provider, _) | Status::New | Status::Running => {
                Self::Paused
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Whether the error is that nobody reads standard output any more. Other pipes break too: so it is
/// asked whether this one did.
pub(crate) fn is_unread(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    if !causes.any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe) {
        return false;
    }
    let out = std::io::stdout();
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok()
        && polled.iter().any(|fd| fd.revents().contains(PollFlags::ERR))
}

/// An error that says which exit code goes with it. Others are [`Exit::HostCannot`].
#[derive(Debug)]
pub(crate) struct WithExit(pub(crate) Exit, pub(crate) anyhow::Error);

impl std::fmt::Display for WithExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&text(&self.1))
    }
}

impl std::error::Error for WithExit {}

/// An error with its causes, each said once: many errors of libraries end with what caused them.
pub(crate) fn text(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The caller asked for something that cannot be meant.
pub(crate) fn usage(message: impl std::fmt::Display) -> anyhow::Error {
    WithExit(Exit::Usage, anyhow::anyhow!("{message}")).into()
}
