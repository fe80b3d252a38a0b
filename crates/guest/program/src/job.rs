//! Requests that take long, done in steps so that nothing else has to wait.

use std::os::fd::OwnedFd;
use std::time::Instant;

use moat_guest::{Failure, Reply};

use crate::files::{Files, Remove, Scan};
use crate::freeze::{Freeze, Freezer};
use crate::network::Connect;

/// A request under way.
pub(crate) enum Job {
    Scan(Scan),
    Remove(Remove),
    Freeze(Freeze),
    Connect(Connect),
}

/// What a step came to.
pub(crate) enum Step {
    /// More is to be done.
    Again,
    /// More is to be done, later.
    Later(Instant),
    /// A part of the answer; more is to be done.
    Part(Reply, Vec<u8>),
    /// The end of the answer.
    Done(Reply, Vec<u8>),
    /// The end of the answer, which this descriptor comes with.
    Socket(OwnedFd),
}

impl Job {
    pub(crate) fn step(
        &mut self,
        files: &Files,
        freezer: &mut Freezer,
        now: Instant,
    ) -> Result<Step, Failure> {
        match self {
            Self::Scan(scan) => {
                let (records, last) = scan.step(files)?;
                let reply = Reply::Entries { last };
                Ok(if last { Step::Done(reply, records) } else { Step::Part(reply, records) })
            }
            Self::Remove(remove) => {
                let done = remove.step(files)?;
                Ok(if done { Step::Done(Reply::Done, Vec::new()) } else { Step::Again })
            }
            Self::Freeze(freeze) => match freeze.step(freezer, now)? {
                Some(any) => Ok(Step::Done(Reply::Frozen(any), Vec::new())),
                None => Ok(Step::Later(now + Freeze::INTERVAL)),
            },
            Self::Connect(connect) => match connect.step(now)? {
                Some(socket) => Ok(Step::Socket(socket)),
                None => Ok(Step::Later(now + Connect::INTERVAL)),
            },
        }
    }
}
