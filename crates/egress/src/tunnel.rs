//! Bytes passed on as they are, both ways, counted and bounded.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{Instant, timeout};

use crate::limits::{Direction, EgressLimit, EgressLimits, Meter};
use crate::stream::Duplex;

/// Bytes taken at once, each way.
const CHUNK: usize = 16 << 10;

/// What passed through a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Bytes that left.
    pub(crate) sent: u64,
    /// Bytes that came.
    pub(crate) received: u64,
    /// The limit that ended it.
    pub(crate) limit: Option<EgressLimit>,
}

/// Passes bytes on until both sides have ended, one fails, a limit is reached, or nothing passes
/// for too long.
pub(crate) async fn pass(
    inside: impl Duplex,
    outside: impl Duplex,
    limits: &EgressLimits,
    meter: &Meter,
) -> Passed {
    let (inside_read, inside_write) = split(inside);
    let (outside_read, outside_write) = split(outside);
    let clock = Clock { start: Instant::now(), last: AtomicU64::new(0) };
    let out = Way { direction: Direction::Out, limits, meter, clock: &clock };
    let back = Way { direction: Direction::In, ..out };
    let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
    let both = async {
        tokio::try_join!(
            out.copy(inside_read, outside_write, &sent),
            back.copy(outside_read, inside_write, &received),
        )
    };
    let limit = both.await.err().flatten();
    Passed { sent: sent.into_inner(), received: received.into_inner(), limit }
}

struct Clock {
    start: Instant,
    last: AtomicU64,
}

impl Clock {
    fn touch(&self) {
        let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }

    fn idle(&self) -> std::time::Duration {
        let last = std::time::Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }
}

#[derive(Clone, Copy)]
struct Way<'a> {
    direction: Direction,
    limits: &'a EgressLimits,
    meter: &'a Meter,
    clock: &'a Clock,
}

impl Way<'_> {
    /// An error ends both ways: the limit that was reached, if it was one.
    async fn copy(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        count: &AtomicU64,
    ) -> Result<(), Option<EgressLimit>> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let left = self.limits.idle.saturating_sub(self.clock.idle());
            let read = match timeout(left, from.read(&mut buffer)).await {
                Ok(Ok(0)) => break,
                Ok(Ok(read)) => read,
                Ok(Err(_)) => return Err(None),
                Err(_) if self.clock.idle() >= self.limits.idle => return Err(None),
                Err(_) => continue,
            };
            self.meter.bytes(self.limits, self.direction, read).map_err(Some)?;
            let upload = count.load(Ordering::Relaxed).saturating_add(read as u64);
            let allowed = self.limits.upload_bytes.unwrap_or(u64::MAX);
            if self.direction == Direction::Out && upload > allowed {
                return Err(Some(EgressLimit::Upload));
            }
            let chunk = buffer.get(..read).unwrap_or_default();
            match timeout(self.limits.idle, to.write_all(chunk)).await {
                Ok(Ok(())) => {}
                _ => return Err(None),
            }
            self.clock.touch();
            count.fetch_add(read as u64, Ordering::Relaxed);
        }
        // The other way goes on: a side that has said all may still listen.
        to.shutdown().await.map_err(|_| None)
    }
}
