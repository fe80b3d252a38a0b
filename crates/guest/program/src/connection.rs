//! A harness that is connected, or wants to be.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd as _, OwnedFd};

use moat_guest::{FrameDecoder, FrameError, GuestMessage, Refusal, Reply, encode};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::job::Job;
use crate::network;
use crate::poll::{Poll, Source, Watched};

/// Bytes that may wait to be sent before the connection is not listened to and its listeners get
/// nothing more. A frame that is begun below it is finished, so a little more may wait.
const MAX_WAITING: usize = 512 << 10;

/// Requests that may be under way in steps.
const MAX_JOBS: usize = 64;

/// Listeners of one connection.
pub(crate) const MAX_LISTENERS: usize = 1024;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has not said who it is.
    Greeting,
    /// It belongs to the owner with the current epoch.
    Open,
    /// It is only told why it ends.
    Closing,
}

/// Somebody who hears a process.
pub(crate) struct Listener {
    /// The process by its number.
    pub(crate) process: u64,
    /// Bytes of its output that were sent.
    pub(crate) position: u64,
    /// Messages that may be sent.
    pub(crate) credit: u32,
}

/// One connection.
pub(crate) struct Connection {
    watched: Watched,
    pub(crate) decoder: FrameDecoder,
    out: Vec<u8>,
    sent: usize,
    /// Descriptors that go out with the byte at this place of `out`.
    rights: VecDeque<(usize, Vec<OwnedFd>)>,
    pub(crate) phase: Phase,
    pub(crate) listeners: BTreeMap<u64, Listener>,
    pub(crate) jobs: VecDeque<(u64, Job)>,
    /// Whole frames may lie in the decoder, because there was no room for answers.
    pub(crate) behind: bool,
    broken: bool,
}

impl Connection {
    pub(crate) fn new(fd: OwnedFd, id: u64) -> Self {
        Self {
            watched: Watched::new(fd, Source::Connection(id)),
            decoder: FrameDecoder::default(),
            out: Vec::new(),
            sent: 0,
            rights: VecDeque::new(),
            phase: Phase::Greeting,
            listeners: BTreeMap::new(),
            jobs: VecDeque::new(),
            behind: false,
            broken: false,
        }
    }

    /// Whether another request may be taken.
    pub(crate) fn accepts(&self) -> bool {
        self.phase != Phase::Closing && self.has_room() && self.jobs.len() < MAX_JOBS
    }

    /// Whether more may be put into the queue of what is to be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting() < MAX_WAITING
    }

    fn waiting(&self) -> usize {
        self.out.len().saturating_sub(self.sent)
    }

    /// All that was said has left.
    pub(crate) fn is_flushed(&self) -> bool {
        self.waiting() == 0
    }

    /// Nothing can come of it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.broken || (self.phase == Phase::Closing && self.waiting() == 0)
    }

    /// Queues a message.
    pub(crate) fn send(&mut self, message: &GuestMessage, payload: &[u8]) {
        if encode(&mut self.out, message, payload).is_err() {
            // Everything that is sent was made to fit; a connection with a hole is worth nothing.
            self.broken = true;
        }
    }

    /// Queues an answer that descriptors come with.
    pub(crate) fn send_sockets(&mut self, id: u64, sockets: Vec<OwnedFd>) {
        let count = u32::try_from(sockets.len()).unwrap_or(u32::MAX);
        self.rights.push_back((self.out.len(), sockets));
        self.send(&GuestMessage::Reply { id, body: Reply::Sockets(count) }, &[]);
    }

    /// Says why, and no more.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.send(&GuestMessage::Refused(refusal), &[]);
        self.phase = Phase::Closing;
        self.listeners.clear();
        self.jobs.clear();
    }

    /// The stream makes no sense.
    pub(crate) fn refuse_frame(&mut self, error: FrameError) {
        self.refuse(Refusal::Protocol { reason: error.to_string() });
    }

    /// Reads what has arrived.
    pub(crate) fn fill(&mut self, flags: EventFlags) {
        if !self.watched.interest().contains(EventFlags::IN) {
            // Nothing is wanted from it; if it is gone, nothing can be sent to it either.
            self.broken |= flags.intersects(EventFlags::HUP | EventFlags::ERR);
            return;
        }
        match rustix::io::read(self.watched.as_fd(), spare_capacity(self.decoder.input())) {
            Ok(0) => self.broken = true,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.broken = true,
        }
        self.behind = true;
    }

    /// Sends what is queued, and waits for what is of use now.
    pub(crate) fn flush(&mut self, poll: &Poll) {
        while self.waiting() > 0 {
            match self.send_some() {
                Ok(count) => self.sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
        }
        if self.waiting() == 0 {
            self.out.clear();
            self.out.shrink_to(MAX_WAITING);
            self.sent = 0;
        } else if self.sent > MAX_WAITING {
            self.out.drain(..self.sent);
            self.rights.iter_mut().for_each(|(place, _)| *place -= self.sent);
            self.sent = 0;
        }
        let mut interest = EventFlags::empty();
        interest.set(EventFlags::IN, self.accepts());
        interest.set(EventFlags::OUT, self.waiting() > 0);
        if self.watched.watch(poll, interest).is_err() {
            self.broken = true;
        }
    }

    /// Sends up to where the next descriptors belong, or from there on with them.
    fn send_some(&mut self) -> rustix::io::Result<usize> {
        let end = match self.rights.front() {
            Some((place, _)) if *place > self.sent => *place,
            Some((_, sockets)) => {
                let waiting = self.out.get(self.sent..).unwrap_or_default();
                let count = network::send_with(self.watched.as_fd(), waiting, sockets)?;
                self.rights.pop_front();
                return Ok(count);
            }
            None => self.out.len(),
        };
        let waiting = self.out.get(self.sent..end).unwrap_or_default();
        send(self.watched.as_fd(), waiting, SendFlags::NOSIGNAL)
    }
}
