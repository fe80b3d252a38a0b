//! Datagrams at a socket that is shared.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A socket for datagrams that somebody hostile holds as well.
#[derive(Debug)]
pub struct SharedDatagrams(AsyncFd<UdpSocket>);

impl SharedDatagrams {
    /// Takes a socket, within a runtime.
    ///
    /// # Errors
    ///
    /// It cannot be waited for.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "a `UdpSocket` keeps its descriptor; the other way is unsafe"
        )]
        AsyncFd::with_interest(socket, Interest::READABLE).map(Self)
    }

    /// The next datagram: its length, and who sent it. What does not fit is cut off.
    ///
    /// # Errors
    ///
    /// Those of the system. The next call may have none.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let receive = |socket: &UdpSocket| {
            let (length, _, from) = recvfrom(socket, &mut *buffer, RecvFlags::DONTWAIT)?;
            let from = from.and_then(|from| SocketAddr::try_from(from).ok());
            Ok((length, from.ok_or(io::ErrorKind::AddrNotAvailable)?))
        };
        self.0.async_io(Interest::READABLE, receive).await
    }

    /// Sends a datagram, unless that would have to be waited for.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        sendto(self.0.get_ref(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL, &to)?;
        Ok(())
    }
}
