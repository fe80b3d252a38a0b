//! A connection whose descriptor a guest may still have.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Never blocks, whatever the guest does: whether a descriptor blocks is a property that all who
/// have it share, so each call here says for itself that it must not.
pub(super) struct SocketStream(TcpStream);

impl SocketStream {
    pub(super) fn new(socket: std::net::TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        TcpStream::from_std(socket).map(Self)
    }

    /// Tries until it is done or has to be waited for.
    fn attempt<T>(
        &self,
        interest: Interest,
        mut ready: impl FnMut() -> Poll<io::Result<()>>,
        mut call: impl FnMut() -> rustix::io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(ready())?;
            match self.0.try_io(interest, || Ok(call()?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncRead for SocketStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let receive = || {
            let (_, count) = recv(&self.0, buffer.initialize_unfilled(), RecvFlags::DONTWAIT)?;
            buffer.advance(count);
            Ok(())
        };
        self.attempt(Interest::READABLE, || self.0.poll_read_ready(context), receive)
    }
}

impl AsyncWrite for SocketStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let send = || send(&self.0, bytes, flags);
        self.attempt(Interest::WRITABLE, || self.0.poll_write_ready(context), send)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(&self.0, Shutdown::Write)?))
    }
}
