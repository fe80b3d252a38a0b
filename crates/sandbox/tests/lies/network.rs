//! Sockets that a guest hands over.

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};

use moat_core::BootNonce;
use moat_guest::{ClientMessage, FrameDecoder, GuestMessage, Refusal, Reply, encode};
use moat_sandbox::{Check, GuestError, network_sockets};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use crate::liar::{EPOCH, ensure, refused, welcome};
use crate::{Case, case};

/// What comes of asking for the network of a guest that sends these.
async fn network(message: GuestMessage, fds: Vec<OwnedFd>) -> Result<(), GuestError> {
    network_of('0', message, fds).await
}

/// The same of a guest whose nonce is so many of this digit; the one that is known has zeros.
async fn network_of(
    digit: char,
    message: GuestMessage,
    fds: Vec<OwnedFd>,
) -> Result<(), GuestError> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let guest = async {
        let (mut decoder, mut heard) = (FrameDecoder::default(), 0);
        while heard < 2 {
            match decoder.next_frame().unwrap() {
                Some(frame) => {
                    serde_json::from_slice::<ClientMessage>(frame.header).unwrap();
                    heard += 1;
                }
                None => assert_ne!(theirs.read_buf(decoder.input()).await.unwrap(), 0),
            }
        }
        let mut bytes = Vec::new();
        encode(&mut bytes, &welcome(2, &digit.to_string().repeat(32)), &[]).unwrap();
        encode(&mut bytes, &message, &[]).unwrap();
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(250))];
        let mut ancillary = SendAncillaryBuffer::new(&mut room);
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(&theirs, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
        theirs
    };
    let boot = boot();
    tokio::join!(network_sockets(ours, &boot, EPOCH), guest).0.map(drop)
}

fn boot() -> BootNonce {
    BootNonce("0".repeat(32))
}

fn sockets(count: u32) -> GuestMessage {
    GuestMessage::Reply { id: 0, body: Reply::Sockets(count) }
}

fn everywhere() -> OwnedFd {
    TcpListener::bind("0.0.0.0:0").unwrap().into()
}

async fn strange(fd: impl Into<OwnedFd>) -> Result<(), String> {
    refused(network(sockets(2), vec![everywhere(), fd.into()]).await)
}

pub(crate) const CASES: &[Case] = &[
    case!("a file instead of a socket", Some(Check::Sockets) => async {
        strange(File::open("/dev/null").unwrap()).await
    }),
    case!("a connection instead of a socket", Some(Check::Sockets) => async {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        strange(TcpStream::connect(peer.local_addr().unwrap()).unwrap()).await
    }),
    case!("a socket that listens elsewhere", Some(Check::Sockets) => async {
        strange(TcpListener::bind("127.0.0.1:0").unwrap()).await
    }),
    case!("a socket for datagrams from everywhere", Some(Check::Sockets) => async {
        strange(UdpSocket::bind("0.0.0.0:0").unwrap()).await
    }),
    case!("fewer descriptors than announced", Some(Check::SocketCount) => async {
        refused(network(sockets(2), vec![everywhere()]).await)
    }),
    case!("more descriptors than announced", Some(Check::SocketCount) => async {
        refused(network(sockets(1), vec![everywhere(), everywhere()]).await)
    }),
    case!("250 descriptors", None => async {
        let all = (0..250).map(|_| File::open("/dev/null").unwrap().into()).collect();
        ensure(network(sockets(250), all).await.is_err(), "they are taken")
    }),
    case!("sockets of another boot", Some(Check::Boot) => async {
        let sent = network_of('1', sockets(1), vec![everywhere()]).await;
        ensure(matches!(sent, Err(GuestError::Disconnected(_))), "they are taken")
    }),
    case!("an answer without sockets", None => async {
        let done = GuestMessage::Reply { id: 0, body: Reply::Done };
        refused(network(done, Vec::new()).await)
    }),
    case!("an old epoch instead of sockets", Some(Check::Epoch) => async {
        refused(network(GuestMessage::Refused(Refusal::Superseded { epoch: 4 }), Vec::new()).await)
    }),
    case!("silence instead of sockets", Some(Check::Time), paused => async {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let waited = network_sockets(ours, &boot(), EPOCH).await;
        ensure(matches!(waited, Err(GuestError::Disconnected(_))), "it is no lost connection")
    }),
];
