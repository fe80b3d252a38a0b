//! Sockets that a guest hands over, each on a connection of its own.
//!
//! A guest may send any descriptors, or none, or never answer. What arrives is bounded in number and
//! time, looked at before anybody uses it, and closed when it is not what was asked for.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use moat_core::Epoch;
use moat_guest::{
    ClientMessage, FrameDecoder, FrameError, GuestMessage, MAX_SOCKETS, Reply, Request, encode,
};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_protocol, socket_type};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketType,
    ipproto, recvmsg,
};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use super::socket_stream::SocketStream;
use super::{HANDSHAKE_LIMIT, convert, parse};
use crate::{ByteStream, GuestError, NetworkSockets, is_synthetic};

/// How long a guest may take to connect to a port of its sandbox, of which it takes up to five.
const CONNECT_LIMIT: Duration = Duration::from_secs(8);

/// Asks a guest for the sockets of its sandbox's network. The stream is a fresh connection to it.
///
/// # Errors
/// [`GuestError::Unsupported`] if the sandbox has no network; [`GuestError::Protocol`] if what the
/// guest sent is anything else than such sockets.
pub async fn network_sockets(
    stream: UnixStream,
    epoch: Epoch,
) -> Result<NetworkSockets, GuestError> {
    let sent = ask(stream, epoch, Request::Network, HANDSHAKE_LIMIT).await?;
    let mut sockets = NetworkSockets::default();
    for fd in sent {
        take(&mut sockets, fd)?;
    }
    Ok(sockets)
}

/// Asks a guest for a connection to a TCP port that something inside listens on. The stream is a
/// fresh connection to the guest.
///
/// # Errors
/// [`GuestError::Os`] if nobody listens there; [`GuestError::Protocol`] if what the guest sent is
/// anything else than a connection.
pub async fn connect_inside(
    stream: UnixStream,
    epoch: Epoch,
    port: u16,
) -> Result<Box<dyn ByteStream>, GuestError> {
    let mut sent = ask(stream, epoch, Request::Connect { port }, CONNECT_LIMIT).await?;
    let (Some(fd), true) = (sent.pop(), sent.is_empty()) else {
        return Err(convert::broken("it did not send one connection"));
    };
    let internet = matches!(socket_domain(&fd), Ok(AddressFamily::INET | AddressFamily::INET6));
    if !internet || !is(&fd, SocketType::STREAM, Some(ipproto::TCP)) || listens(&fd) {
        return Err(convert::broken("it sent something that is no connection"));
    }
    let socket = TcpStream::from(fd);
    socket.peer_addr().map_err(|_| convert::broken("it sent a socket without a connection"))?;
    let lost = |error: std::io::Error| GuestError::Disconnected(error.to_string());
    Ok(Box::new(SocketStream::new(socket).map_err(lost)?))
}

/// Puts a socket where it belongs.
fn take(sockets: &mut NetworkSockets, fd: OwnedFd) -> Result<(), GuestError> {
    let strange = || convert::broken("it sent a socket that is not of a network");
    let set = |done: std::io::Result<()>| done.map_err(convert::broken);
    match socket_domain(&fd) {
        Ok(AddressFamily::INET) if is(&fd, SocketType::STREAM, Some(ipproto::TCP)) => {
            if !listens(&fd) {
                return Err(strange());
            }
            let listener = TcpListener::from(fd);
            set(listener.set_nonblocking(true))?;
            let address = listener.local_addr().map_err(convert::broken)?;
            if !is_address(address, true) {
                return Err(strange());
            }
            sockets.tcp.push(listener);
        }
        Ok(AddressFamily::INET) if is(&fd, SocketType::DGRAM, Some(ipproto::UDP)) => {
            let socket = UdpSocket::from(fd);
            set(socket.set_nonblocking(true))?;
            let address = socket.local_addr().map_err(convert::broken)?;
            if sockets.dns.is_some() || !is_address(address, false) {
                return Err(strange());
            }
            sockets.dns = Some(socket);
        }
        Ok(AddressFamily::UNIX) if is(&fd, SocketType::STREAM, None) && listens(&fd) => {
            let listener = UnixListener::from(fd);
            set(listener.set_nonblocking(true))?;
            if sockets.ssh_agent.replace(listener).is_some() {
                return Err(strange());
            }
        }
        _ => return Err(strange()),
    }
    Ok(())
}

/// Whether a socket of a network may have this address: a synthetic one, or (for listeners) all.
fn is_address(address: SocketAddr, all: bool) -> bool {
    match address {
        SocketAddr::V4(v4) => is_synthetic(*v4.ip()) || all && *v4.ip() == Ipv4Addr::UNSPECIFIED,
        SocketAddr::V6(_) => false,
    }
}

fn is(fd: &OwnedFd, kind: SocketType, protocol: Option<rustix::net::Protocol>) -> bool {
    socket_type(fd) == Ok(kind)
        && (protocol.is_none() || socket_protocol(fd).is_ok_and(|found| found == protocol))
}

fn listens(fd: &OwnedFd) -> bool {
    socket_acceptconn(fd) == Ok(true)
}

/// Asks one question and takes the descriptors that come with the answer.
async fn ask(
    mut stream: UnixStream,
    epoch: Epoch,
    body: Request,
    limit: Duration,
) -> Result<Vec<OwnedFd>, GuestError> {
    let exchange = async {
        let mut bytes = Vec::new();
        let versions = moat_guest::VERSIONS;
        let hello = ClientMessage::Hello { versions, epoch: epoch.0 };
        let request = ClientMessage::Request { id: 0, body };
        let encoded: Result<(), FrameError> =
            encode(&mut bytes, &hello, &[]).and_then(|()| encode(&mut bytes, &request, &[]));
        encoded.map_err(convert::broken)?;
        stream.write_all(&bytes).await.map_err(lost)?;
        answer(&stream).await
    };
    tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| {
        let waited = limit.as_secs();
        Err(GuestError::Disconnected(format!("no answer within {waited} s")))
    })
}

/// Reads until the answer has come, and with it its descriptors.
async fn answer(stream: &UnixStream) -> Result<Vec<OwnedFd>, GuestError> {
    let mut decoder = FrameDecoder::default();
    let mut sent = Vec::new();
    let mut welcome = false;
    loop {
        while let Some(frame) = decoder.next_frame().map_err(convert::broken)? {
            match parse(&frame)? {
                GuestMessage::Welcome(first) if !welcome => {
                    convert::nonce(first)?;
                    welcome = true;
                }
                GuestMessage::Refused(refusal) => return Err(convert::refusal(refusal)),
                GuestMessage::Failed { id: 0, failure } if welcome => {
                    return Err(convert::failure(failure));
                }
                GuestMessage::Reply { id: 0, body: Reply::Sockets(count) }
                    if welcome && sent.len() == count as usize =>
                {
                    return Ok(sent);
                }
                _ => {
                    return Err(convert::broken(
                        "it did not send the sockets that it was asked for",
                    ));
                }
            }
        }
        let received = stream.async_io(Interest::READABLE, || receive(stream, &mut sent)).await;
        let bytes = received.map_err(lost)?;
        if bytes.is_empty() {
            return Err(GuestError::Disconnected("it closed the connection".to_owned()));
        }
        if sent.len() > MAX_SOCKETS {
            return Err(convert::broken("it sent more descriptors than allowed"));
        }
        decoder.input().extend_from_slice(&bytes);
    }
}

/// Reads some bytes, and the descriptors that stand at their first.
fn receive(stream: &UnixStream, sent: &mut Vec<OwnedFd>) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut room);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(stream, &mut parts, &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sent.extend(descriptors);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(std::io::Error::other("it sent more descriptors than allowed"));
    }
    bytes.truncate(received.bytes);
    Ok(bytes)
}

fn lost(error: std::io::Error) -> GuestError {
    GuestError::Disconnected(error.to_string())
}
