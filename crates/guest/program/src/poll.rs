//! Which descriptors are waited for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::{Errno, Result};

/// Events that are taken at once.
const BATCH: usize = 64;

/// What a descriptor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// New connections.
    Listener,
    /// Ended children.
    Children,
    /// A connection by its number.
    Connection(u64),
    /// Standard output or the terminal of a process by its number.
    Stdout(u64),
    /// Standard error of a process by its number.
    Stderr(u64),
}

impl Source {
    fn token(self) -> EventData {
        EventData::new_u64(match self {
            Self::Listener => 0,
            Self::Children => 1,
            Self::Connection(id) => id << 3 | 2,
            Self::Stdout(id) => id << 3 | 3,
            Self::Stderr(id) => id << 3 | 4,
        })
    }

    fn from_token(token: u64) -> Option<Self> {
        let id = token >> 3;
        match token & 7 {
            0 => Some(Self::Listener),
            1 => Some(Self::Children),
            2 => Some(Self::Connection(id)),
            3 => Some(Self::Stdout(id)),
            4 => Some(Self::Stderr(id)),
            _ => None,
        }
    }
}

/// The kernel's list of descriptors to wait for.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    pub(crate) fn new() -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(BATCH) })
    }

    /// Waits until something is ready or the time is over (`None`: for ever).
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Result<Vec<(Source, EventFlags)>> {
        let timeout = timeout.map(|time| rustix::event::Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let ready = self.events.drain(..);
        Ok(ready
            .filter_map(|event| {
                let (data, flags) = (event.data, event.flags);
                Source::from_token(data.u64()).map(|source| (source, flags))
            })
            .collect())
    }
}

/// A descriptor and what it is waited for.
///
/// Without interest it is taken off the list altogether, because the kernel reports a hang-up of
/// everything that is on it, again and again.
pub(crate) struct Watched {
    fd: OwnedFd,
    source: Source,
    interest: EventFlags,
}

impl Watched {
    pub(crate) fn new(fd: OwnedFd, source: Source) -> Self {
        Self { fd, source, interest: EventFlags::empty() }
    }

    /// Sets what it is waited for. Does nothing where nothing changes.
    pub(crate) fn watch(&mut self, poll: &Poll, interest: EventFlags) -> Result<()> {
        if interest == self.interest {
            return Ok(());
        }
        if interest.is_empty() {
            epoll::delete(&poll.epoll, &self.fd)?;
        } else if self.interest.is_empty() {
            epoll::add(&poll.epoll, &self.fd, self.source.token(), interest)?;
        } else {
            epoll::modify(&poll.epoll, &self.fd, self.source.token(), interest)?;
        }
        self.interest = interest;
        Ok(())
    }

    pub(crate) fn interest(&self) -> EventFlags {
        self.interest
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
