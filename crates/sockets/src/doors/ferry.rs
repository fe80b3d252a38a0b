//! Bytes of an accepted local connection, without the descriptors that may come with them.
//!
//! Such a connection takes after the socket that listened: whether it is told credentials and
//! processes of who sends is not its own. So it is read without room for any of that, by a thread
//! that closes what is dropped on the way, and that nobody waits for.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::net::UnixStream;

use crate::close::SMALL_STACK;

/// Bytes that are carried at once.
const CHUNK: usize = 8 << 10;
/// How long the program inside may leave unread what it was sent.
const UNREAD: Duration = Duration::from_secs(30);

/// Carries bytes both ways until either side ends; then `kept` is dropped.
pub(super) fn begin(socket: OwnedFd, kept: impl Send + 'static) -> io::Result<UnixStream> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let ours = UnixStream::from_std(ours)?;
    let inside = StdUnixStream::from(socket);
    let thread = std::thread::Builder::new().name("moat-ferry".to_owned());
    thread.stack_size(SMALL_STACK).spawn(move || {
        // It ended, whichever way.
        let _ = carry(&inside, &theirs);
        drop(theirs);
        drop(inside);
        drop(kept);
    })?;
    Ok(ours)
}

fn carry(inside: &StdUnixStream, outside: &StdUnixStream) -> io::Result<()> {
    inside.set_nonblocking(false)?;
    inside.set_write_timeout(Some(UNREAD))?;
    let mut buffer = [0; CHUNK];
    loop {
        let mut ends = [PollFd::new(inside, PollFlags::IN), PollFd::new(outside, PollFlags::IN)];
        poll(&mut ends, None)?;
        let [from_inside, from_outside] = ends.map(|end| !end.revents().is_empty());
        for (ready, mut from, mut to) in
            [(from_inside, inside, outside), (from_outside, outside, inside)]
        {
            if ready {
                let count = from.read(&mut buffer)?;
                let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
                    return Ok(());
                };
                to.write_all(bytes)?;
            }
        }
    }
}
