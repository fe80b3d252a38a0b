//! Streams whose first bytes were already read, and streams that are watched.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use crate::sniff::{First, first_bytes};

/// Bytes in both directions.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A stream that first gives the bytes that were read ahead.
pub(crate) struct Prefixed<S> {
    prefix: Bytes,
    inner: S,
}

impl<S> Prefixed<S> {
    pub(crate) fn new(prefix: Bytes, inner: S) -> Self {
        Self { prefix, inner }
    }

    /// What was read ahead.
    pub(crate) fn read_ahead(&self) -> &[u8] {
        &self.prefix
    }
}

impl<S: AsyncRead + Unpin> Prefixed<S> {
    /// Reads until it is known what the stream begins with, and keeps what was read. After `wait`,
    /// and at the end of the stream, [`First::More`] is what is known.
    pub(crate) async fn first(&mut self, wait: Duration) -> First {
        let mut buffer = BytesMut::from(self.prefix.as_ref());
        let mut first = first_bytes(&buffer);
        let read = async {
            while first == First::More {
                match self.inner.read_buf(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => first = first_bytes(&buffer),
                }
            }
        };
        let _ = timeout(wait, read).await;
        self.prefix = buffer.freeze();
        first
    }

    /// Whether nothing was read so far.
    pub(crate) fn is_silent(&self) -> bool {
        self.prefix.is_empty()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, out);
        }
        let count = this.prefix.len().min(out.remaining());
        out.put_slice(this.prefix.get(..count).unwrap_or_default());
        this.prefix.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// Counts what happens on a stream, so that one on which nothing does can be ended: a program that
/// does not read what it asked for holds a connection to a host.
pub(crate) struct Watched<S> {
    inner: S,
    moved: Arc<AtomicU64>,
}

/// See [`Watched`].
pub(crate) struct Watch(Arc<AtomicU64>);

impl<S> Watched<S> {
    pub(crate) fn new(inner: S) -> (Self, Watch) {
        let moved = Arc::new(AtomicU64::new(0));
        (Self { inner, moved: Arc::clone(&moved) }, Watch(moved))
    }

    fn count(&self, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(poll, Poll::Ready(Ok(1..))) {
            self.moved.fetch_add(1, Ordering::Relaxed);
        }
        poll
    }
}

impl Watch {
    /// Returns when nothing happened for `wait`, or for up to twice as long.
    pub(crate) async fn stalled(&self, wait: Duration) {
        let mut before = u64::MAX;
        loop {
            let now = self.0.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
            tokio::time::sleep(wait).await;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        let poll = Pin::new(&mut this.inner).poll_read(cx, out);
        let count = out.filled().len().saturating_sub(before);
        this.count(poll.map_ok(|()| count)).map_ok(|_| ())
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.count(poll)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
