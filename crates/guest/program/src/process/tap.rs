//! The guest's end of a pipe or terminal that a command writes to.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use moat_guest::OutputStream;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::Spool;
use crate::poll::{Poll, Source, Watched};

/// Bytes that are read in one go, so that one loud command does not hold up everything else.
const TURN: usize = 256 << 10;

/// Bytes that a terminal may hold when its command ends; it does not tell.
const TERMINAL_REST: usize = 64 << 10;

/// What is left of a tap after reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TapState {
    Open,
    Closed,
}

impl TapState {
    pub(super) fn is_closed(self) -> bool {
        self == Self::Closed
    }
}

pub(super) struct Tap {
    watched: Watched,
    /// Bytes that were there when the command ended and have to be read, however long it takes.
    owed: usize,
}

impl Tap {
    pub(super) fn new(fd: OwnedFd, source: Source) -> Self {
        Self { watched: Watched::new(fd, source), owed: 0 }
    }

    pub(super) fn watch(&mut self, poll: &Poll, room: bool, typing: bool) {
        let mut interest = EventFlags::empty();
        interest.set(EventFlags::IN, room);
        interest.set(EventFlags::OUT, typing);
        // Refused only where the kernel's memory is used up; the next change tries again.
        let _ = self.watched.watch(poll, interest);
    }

    /// The command has ended: what is there now is its output, what comes later may be others'.
    pub(super) fn note_end(&mut self) {
        self.owed = rustix::io::ioctl_fionread(&self.watched)
            .ok()
            .and_then(|bytes| usize::try_from(bytes).ok())
            .map_or(TERMINAL_REST, |bytes| bytes.max(1));
    }

    pub(super) fn owes_nothing(&self) -> bool {
        self.owed == 0
    }

    /// Reads into the spool, or away if there is none. Once `overdue`, only what is owed.
    pub(super) fn read(
        &mut self,
        stream: OutputStream,
        mut spool: Option<&mut Spool>,
        overdue: bool,
        scratch: &mut [u8],
    ) -> TapState {
        let mut turn = TURN;
        while turn > 0 {
            let mut limit = turn;
            if let Some(spool) = &spool {
                limit = limit.min(spool.space());
                if overdue {
                    limit = limit.min(self.owed);
                }
            }
            let end = limit.min(scratch.len());
            let Some(buffer) = scratch.get_mut(..end).filter(|buffer| !buffer.is_empty()) else {
                return TapState::Open;
            };
            match rustix::io::read(&self.watched, &mut *buffer) {
                Ok(0) => return TapState::Closed,
                Ok(count) => {
                    if let Some(spool) = &mut spool {
                        spool.push(stream, buffer.get(..count).unwrap_or_default());
                    }
                    self.owed = self.owed.saturating_sub(count);
                    turn -= count.min(turn);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.owed = 0;
                    return TapState::Open;
                }
                // A terminal answers EIO once nobody has it open inside.
                Err(_) => return TapState::Closed,
            }
        }
        TapState::Open
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.as_fd()
    }
}
