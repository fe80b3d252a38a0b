//! Sockets that a guest hands over, each on a connection of its own.
//!
//! A guest may send any descriptors, or none, or never answer. What arrives is bounded in number and
//! time, looked at before anybody uses it, and closed when it is not what was asked for.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use moat_core::{BootNonce, Epoch};
use moat_guest::{ClientMessage, FrameError, GuestMessage, MAX_SOCKETS, Reply, Request, encode};
use moat_sockets::{Descriptors, GuardedStream, SharedConnection};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_protocol, socket_type};
use rustix::net::{AddressFamily, SocketType, getpeername, getsockname, ipproto};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::check::{Check, is_on};
use super::{HANDSHAKE_LIMIT, convert, decoder, parse, patience};
use crate::{ByteStream, GuestError, NetworkSockets, is_synthetic};

/// How long a guest may take to connect to a port of its sandbox, of which it takes up to five.
const CONNECT_LIMIT: Duration = Duration::from_secs(8);

/// Asks a guest for the sockets of its sandbox's network. The stream is a fresh connection to it,
/// and `boot` what it said on the one that there is.
///
/// # Errors
/// [`GuestError::Disconnected`] if another boot answers;
/// [`GuestError::Unsupported`] if the sandbox has no network; [`GuestError::Protocol`] if what the
/// guest sent is anything else than such sockets.
pub async fn network_sockets(
    stream: UnixStream,
    boot: &BootNonce,
    epoch: Epoch,
) -> Result<NetworkSockets, GuestError> {
    let mut sent = ask(stream, (boot, epoch), Request::Network, HANDSHAKE_LIMIT).await?;
    let mut sockets = NetworkSockets::default();
    while let Some(fd) = sent.pop() {
        if let Err((fd, error)) = take(&mut sockets, fd) {
            moat_sockets::close_elsewhere((fd, sockets));
            return Err(error);
        }
    }
    Ok(sockets)
}

/// Asks a guest for a connection to a TCP port that something inside listens on. The stream is a
/// fresh connection to the guest, and `boot` what it said on the one that there is.
///
/// # Errors
/// [`GuestError::Disconnected`] if another boot answers;
/// [`GuestError::Os`] if nobody listens there; [`GuestError::Protocol`] if what the guest sent is
/// anything else than a connection.
pub async fn connect_inside(
    stream: UnixStream,
    boot: &BootNonce,
    epoch: Epoch,
    port: u16,
) -> Result<Box<dyn ByteStream>, GuestError> {
    let mut sent = ask(stream, (boot, epoch), Request::Connect { port }, CONNECT_LIMIT).await?;
    let (Some(fd), true) = (sent.pop(), sent.is_empty()) else {
        return Err(convert::broken("it did not send one connection"));
    };
    if !is_connection(&fd) {
        moat_sockets::close_elsewhere(fd);
        return Err(convert::broken("it sent something that is no connection"));
    }
    Ok(Box::new(SharedConnection::new(TcpStream::from(fd)).map_err(lost)?))
}

fn is_connection(fd: &OwnedFd) -> bool {
    matches!(socket_domain(fd), Ok(AddressFamily::INET | AddressFamily::INET6))
        && is(fd, SocketType::STREAM, Some(ipproto::TCP))
        && !listens(fd)
        && getpeername(fd).is_ok()
}

/// Puts a socket where it belongs, or gives it back: whoever closes it may have to wait.
fn take(sockets: &mut NetworkSockets, fd: OwnedFd) -> Result<(), (OwnedFd, GuestError)> {
    match kind(sockets, &fd) {
        Ok(Kind::Listener) => sockets.tcp.push(fd.into()),
        Ok(Kind::Resolver) => sockets.dns = Some(fd.into()),
        Ok(Kind::Agent) => sockets.ssh_agent = Some(fd.into()),
        Err(error) => return Err((fd, error)),
    }
    Ok(())
}

enum Kind {
    Listener,
    Resolver,
    Agent,
}

/// What a descriptor is, if it is a socket of a network and there is room for it.
fn kind(sockets: &NetworkSockets, fd: &OwnedFd) -> Result<Kind, GuestError> {
    let address = || getsockname(fd).ok().and_then(|address| SocketAddr::try_from(address).ok());
    let is_at = |all| address().is_some_and(|address| is_address(address, all));
    let kind = match socket_domain(fd) {
        Ok(AddressFamily::INET) if is(fd, SocketType::STREAM, Some(ipproto::TCP)) => {
            (listens(fd) && is_at(true)).then_some(Kind::Listener)
        }
        Ok(AddressFamily::INET) if is(fd, SocketType::DGRAM, Some(ipproto::UDP)) => {
            (sockets.dns.is_none() && is_at(false)).then_some(Kind::Resolver)
        }
        Ok(AddressFamily::UNIX) if is(fd, SocketType::STREAM, None) && listens(fd) => {
            sockets.ssh_agent.is_none().then_some(Kind::Agent)
        }
        _ => None,
    };
    let kind = kind.or_else(|| (!is_on(Check::Sockets)).then_some(Kind::Listener));
    let kind = kind.ok_or_else(|| convert::broken("it sent a socket that is not of a network"))?;
    rustix::io::ioctl_fionbio(fd, true).map_err(|error| convert::broken(error.to_string()))?;
    Ok(kind)
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
    stream: UnixStream,
    (boot, epoch): (&BootNonce, Epoch),
    body: Request,
    limit: Duration,
) -> Result<Descriptors, GuestError> {
    let mut stream = GuardedStream::new(stream);
    let exchange = async {
        let mut bytes = Vec::new();
        let versions = moat_guest::VERSIONS;
        let hello = ClientMessage::Hello { versions, epoch: epoch.0 };
        let request = ClientMessage::Request { id: 0, body };
        let encoded: Result<(), FrameError> =
            encode(&mut bytes, &hello, &[]).and_then(|()| encode(&mut bytes, &request, &[]));
        encoded.map_err(convert::broken)?;
        stream.write_all(&bytes).await.map_err(lost)?;
        answer(&stream, boot, epoch).await
    };
    tokio::time::timeout(patience(limit), exchange).await.unwrap_or_else(|_| {
        let waited = limit.as_secs();
        Err(GuestError::Disconnected(format!("no answer within {waited} s")))
    })
}

/// Reads until the answer has come, and with it its descriptors.
async fn answer(
    stream: &GuardedStream,
    boot: &BootNonce,
    epoch: Epoch,
) -> Result<Descriptors, GuestError> {
    let mut decoder = decoder();
    let mut sent = Descriptors::default();
    let mut welcome = false;
    loop {
        while let Some(frame) = decoder.next_frame().map_err(convert::broken)? {
            match parse(&frame)? {
                GuestMessage::Welcome(first) if !welcome => {
                    let (nonce, _) = convert::nonce(first)?;
                    if is_on(Check::Boot) && nonce != *boot {
                        let reason = "another sandbox answers at its socket".to_owned();
                        return Err(GuestError::Disconnected(reason));
                    }
                    welcome = true;
                }
                GuestMessage::Refused(refusal) => return Err(convert::refusal(refusal, epoch)),
                GuestMessage::Failed { id: 0, failure } if welcome => {
                    return Err(convert::failure(failure));
                }
                GuestMessage::Reply { id: 0, body: Reply::Sockets(count) }
                    if welcome && (sent.len() == count as usize || !is_on(Check::SocketCount)) =>
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
        let bytes = stream.receive(&mut sent).await.map_err(lost)?;
        if bytes.is_empty() {
            return Err(GuestError::Disconnected("it closed the connection".to_owned()));
        }
        if sent.len() > MAX_SOCKETS {
            return Err(convert::broken("it sent more descriptors than allowed"));
        }
        decoder.input().extend_from_slice(&bytes);
    }
}

fn lost(error: std::io::Error) -> GuestError {
    GuestError::Disconnected(error.to_string())
}
