//! A connection whose descriptor somebody hostile may still have.

use std::io;
use std::net::TcpStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are taken at once.
const CHUNK: usize = 64 << 10;

/// A TCP connection that somebody hostile holds as well.
#[derive(Debug)]
pub struct SharedConnection(Option<AsyncFd<TcpStream>>);

impl SharedConnection {
    /// Takes a connection, within a runtime.
    ///
    /// # Errors
    ///
    /// It cannot be waited for.
    pub fn new(socket: TcpStream) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "a `TcpStream` keeps its descriptor; the other way is unsafe"
        )]
        match AsyncFd::try_new(socket) {
            Ok(socket) => Ok(Self(Some(socket))),
            Err(failed) => {
                let (socket, error) = failed.into_parts();
                crate::close_elsewhere(socket);
                Err(error)
            }
        }
    }

    fn socket(&self) -> io::Result<&AsyncFd<TcpStream>> {
        self.0.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for SharedConnection {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            crate::close_elsewhere(socket.into_inner());
        }
    }
}

impl AsyncRead for SharedConnection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = self.socket()?;
        let room = buffer.remaining().min(CHUNK);
        loop {
            let mut ready = ready!(socket.poll_read_ready(context))?;
            let into = buffer.initialize_unfilled_to(room);
            let received = ready
                .try_io(|socket| Ok(recv(socket.get_ref(), &mut *into, RecvFlags::DONTWAIT)?.1));
            if let Ok(count) = received {
                buffer.advance(count?);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for SharedConnection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = self.socket()?;
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            let mut ready = ready!(socket.poll_write_ready(context))?;
            if let Ok(count) = ready.try_io(|socket| Ok(send(socket.get_ref(), bytes, flags)?)) {
                return Poll::Ready(count);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(self.socket()?.get_ref(), Shutdown::Write)?))
    }
}
