//! Streams whose first bytes were already read.

use std::io;
use std::pin::Pin;
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
