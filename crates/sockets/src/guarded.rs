//! A local connection to somebody who may send descriptors over it.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

use crate::{Descriptors, close_elsewhere};

/// Bytes that are taken at once.
const CHUNK: usize = 64 << 10;
/// Descriptors that the kernel lets one message carry. With room for all of them none is closed
/// while reading.
const MOST: usize = 253;

/// A connection that was made to somebody hostile by a socket of one's own.
///
/// As a stream it refuses descriptors: one that comes is an error, and nothing can be read after.
#[derive(Debug)]
pub struct GuardedStream {
    stream: Option<UnixStream>,
    refused: bool,
}

impl GuardedStream {
    /// Guards a connection.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream: Some(stream), refused: false }
    }

    /// Reads some bytes, and takes the descriptors that stand at their first. No bytes: the end.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub async fn receive(&self, descriptors: &mut Descriptors) -> io::Result<Vec<u8>> {
        let stream = self.stream()?;
        let mut bytes = vec![0; 4096];
        let count = stream
            .async_io(Interest::READABLE, || receive(stream, &mut bytes, descriptors))
            .await?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn stream(&self) -> io::Result<&UnixStream> {
        self.stream.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn writer(self: Pin<&mut Self>) -> io::Result<Pin<&mut UnixStream>> {
        let stream = self.get_mut().stream.as_mut();
        stream.map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

fn receive(
    stream: &UnixStream,
    bytes: &mut [u8],
    descriptors: &mut Descriptors,
) -> io::Result<usize> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut room);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(stream, &mut [IoSliceMut::new(bytes)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            descriptors.extend(sent);
        }
    }
    // This process has no descriptors left for those that were sent.
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("it sent more descriptors than can be taken"));
    }
    Ok(received.bytes)
}

impl Drop for GuardedStream {
    fn drop(&mut self) {
        // Descriptors that were not read yet are closed with it.
        if let Some(stream) = self.stream.take() {
            close_elsewhere(stream);
        }
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let refusal = || io::Error::other("it sent descriptors that it was not asked for");
        if self.refused {
            return Poll::Ready(Err(refusal()));
        }
        let mut sent = Descriptors::default();
        let room = buffer.remaining().min(CHUNK);
        let received = loop {
            let stream = self.stream()?;
            ready!(stream.poll_read_ready(context))?;
            let into = buffer.initialize_unfilled_to(room);
            let read = stream.try_io(Interest::READABLE, || receive(stream, into, &mut sent));
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => break read,
            }
        };
        if !sent.is_empty() {
            self.refused = true;
            return Poll::Ready(Err(refusal()));
        }
        buffer.advance(received?);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writer()?.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer()?.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer()?.poll_shutdown(context)
    }
}
