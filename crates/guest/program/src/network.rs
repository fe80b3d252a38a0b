//! Sockets of the sandbox's network namespace on their way to the harness.

mod make;

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use moat_guest::{Failure, MAX_SOCKETS, RawBytes};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    connect, sendmsg, socket_with, sockopt,
};

pub(crate) use make::make;

/// How long a connection within the sandbox may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Copies of the sockets that the guest keeps, to be sent.
pub(crate) fn duplicates(kept: &[OwnedFd]) -> Result<Vec<OwnedFd>, Failure> {
    if kept.is_empty() {
        return Err(Failure::Unsupported { what: "give access to a network: it has none".into() });
    }
    let copies: Result<Vec<_>, _> =
        kept.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3)).collect();
    copies.map_err(|error| failure("copy the network's sockets", "", error))
}

/// Sends bytes, with descriptors at the first of them.
pub(crate) fn send_with(
    to: BorrowedFd<'_>,
    bytes: &[u8],
    sockets: &[OwnedFd],
) -> rustix::io::Result<usize> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut room);
    let fds: Vec<_> = sockets.iter().map(|fd| fd.as_fd()).collect();
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::TOOMANYREFS);
    }
    sendmsg(to, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
}

/// A connection to a port of the loopback that is being made: over IPv4, and if nobody listens
/// there, over IPv6.
pub(crate) struct Connect {
    port: u16,
    /// The one under way, and whether it is the first.
    socket: Option<(OwnedFd, bool)>,
    deadline: Option<Instant>,
}

impl Connect {
    /// How long to wait before looking again whether it was made.
    pub(crate) const INTERVAL: Duration = Duration::from_micros(500);

    pub(crate) fn new(port: u16) -> Self {
        Self { port, socket: None, deadline: None }
    }

    /// `Some` once it is made.
    pub(crate) fn step(&mut self, now: Instant) -> Result<Option<OwnedFd>, Failure> {
        let deadline = *self.deadline.get_or_insert(now + LIMIT);
        let (socket, first) = match self.socket.take() {
            Some(under_way) => under_way,
            None => (begin(self.address(true)).map_err(|error| self.failed(error))?, true),
        };
        match settled(&socket) {
            Ok(true) => Ok(Some(socket)),
            Ok(false) if now >= deadline => Err(self.failed(Errno::TIMEDOUT)),
            Ok(false) => {
                self.socket = Some((socket, first));
                Ok(None)
            }
            // What went wrong first is what is told.
            Err(error) if first => match begin(self.address(false)) {
                Ok(second) => {
                    self.socket = Some((second, false));
                    Ok(None)
                }
                Err(_) => Err(self.failed(error)),
            },
            Err(error) => Err(self.failed(error)),
        }
    }

    fn address(&self, first: bool) -> SocketAddr {
        if first {
            (Ipv4Addr::LOCALHOST, self.port).into()
        } else {
            (Ipv6Addr::LOCALHOST, self.port).into()
        }
    }

    fn failed(&self, error: Errno) -> Failure {
        failure("connect to", &format!("127.0.0.1:{}", self.port), error)
    }
}

fn begin(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Whether it is connected; an error if it never will be.
fn settled(socket: &OwnedFd) -> rustix::io::Result<bool> {
    let mut fds = [PollFd::new(socket, PollFlags::OUT)];
    if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
        return Ok(false);
    }
    sockopt::socket_error(socket)?.map(|()| true)
}

fn failure(operation: &str, what: &str, error: Errno) -> Failure {
    Failure::Os {
        operation: operation.to_owned(),
        path: RawBytes(what.as_bytes().to_vec()),
        errno: error.raw_os_error(),
    }
}
