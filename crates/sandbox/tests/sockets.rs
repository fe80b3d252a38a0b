//! Guests that hand over something else than sockets of their network, too much, or nothing.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it says")]

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream as StdUnixStream};

use moat_core::{BootNonce, Epoch};
use moat_guest::{
    ClientMessage, Failure, FrameDecoder, GuestMessage, RawBytes, Refusal, Reply, Welcome, encode,
};
use moat_sandbox::{GuestError, connect_inside, network_sockets};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// Of the guest that answers.
fn boot() -> BootNonce {
    BootNonce("0".repeat(32))
}

/// Reads both messages of a question and answers `message` together with the descriptors.
async fn answer(mut stream: UnixStream, message: GuestMessage, fds: Vec<OwnedFd>) -> UnixStream {
    let mut decoder = FrameDecoder::default();
    let mut heard = Vec::new();
    while heard.len() < 2 {
        while let Some(frame) = decoder.next_frame().unwrap() {
            heard.push(serde_json::from_slice::<ClientMessage>(frame.header).unwrap());
        }
        if heard.len() < 2 {
            assert_ne!(stream.read_buf(decoder.input()).await.unwrap(), 0);
        }
    }
    assert!(matches!(heard.first(), Some(ClientMessage::Hello { epoch: 4, .. })), "{heard:?}");
    let mut bytes = Vec::new();
    let welcome = Welcome { version: 1, nonce: "0".repeat(32) };
    encode(&mut bytes, &GuestMessage::Welcome(welcome), &[]).unwrap();
    encode(&mut bytes, &message, &[]).unwrap();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut ancillary = SendAncillaryBuffer::new(&mut room);
    let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(&stream, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
    stream
}

fn sockets(count: u32) -> GuestMessage {
    GuestMessage::Reply { id: 0, body: Reply::Sockets(count) }
}

/// What comes of asking for the network when a guest sends these.
async fn network_of(message: GuestMessage, fds: Vec<OwnedFd>) -> Result<usize, GuestError> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let guest = tokio::spawn(answer(theirs, message, fds));
    let sockets = network_sockets(ours, &boot(), Epoch(4)).await;
    drop(guest.await.unwrap());
    Ok(sockets?.tcp.len())
}

fn strange_things() -> Vec<(&'static str, OwnedFd)> {
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = listener();
    let (one, _other) = StdUnixStream::pair().unwrap();
    vec![
        ("a file", File::open("/dev/null").unwrap().into()),
        ("a pipe", rustix::pipe::pipe().unwrap().0),
        ("a local connection", one.into()),
        ("a connection", TcpStream::connect(peer.local_addr().unwrap()).unwrap().into()),
        ("a listener elsewhere", listener().into()),
        ("a listener over IPv6", TcpListener::bind("[::1]:0").unwrap().into()),
        ("datagrams elsewhere", UdpSocket::bind("127.0.0.1:0").unwrap().into()),
        ("datagrams from everywhere", UdpSocket::bind("0.0.0.0:0").unwrap().into()),
    ]
}

#[tokio::test]
async fn only_sockets_of_a_network_are_taken() {
    let everywhere = || OwnedFd::from(TcpListener::bind("0.0.0.0:0").unwrap());
    assert_eq!(network_of(sockets(2), vec![everywhere(), everywhere()]).await.unwrap(), 2);
    for (name, fd) in strange_things() {
        let taken = network_of(sockets(2), vec![everywhere(), fd]).await;
        assert!(matches!(taken, Err(GuestError::Protocol(_))), "{name}: {taken:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let agent = |name| OwnedFd::from(UnixListener::bind(folder.path().join(name)).unwrap());
    assert_eq!(network_of(sockets(1), vec![agent("a")]).await.unwrap(), 0);
    let two = network_of(sockets(2), vec![agent("b"), agent("c")]).await;
    assert!(matches!(two, Err(GuestError::Protocol(_))), "{two:?}");
}

#[tokio::test]
async fn descriptors_are_as_many_as_said_and_not_too_many() {
    let many = |count: usize| -> Vec<OwnedFd> {
        (0..count).map(|_| TcpListener::bind("0.0.0.0:0").unwrap().into()).collect()
    };
    assert_eq!(network_of(sockets(64), many(64)).await.unwrap(), 64);
    for (said, sent) in [(2, 1), (0, 1), (u32::MAX, 1), (1, 0), (65, 65), (200, 200)] {
        let taken = network_of(sockets(said), many(sent)).await;
        assert!(
            matches!(taken, Err(GuestError::Protocol(_) | GuestError::Disconnected(_))),
            "{said} said, {sent} sent: {taken:?}"
        );
    }
}

#[tokio::test]
async fn other_answers_are_errors() {
    let refused = network_of(GuestMessage::Refused(Refusal::Superseded { epoch: 9 }), vec![]).await;
    assert!(matches!(refused, Err(GuestError::Superseded)), "{refused:?}");
    let done = GuestMessage::Reply { id: 0, body: Reply::Done };
    assert!(matches!(network_of(done, vec![]).await, Err(GuestError::Protocol(_))));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let guest = tokio::spawn(answer(theirs, sockets(0), vec![]));
    let other = network_sockets(ours, &BootNonce("1".repeat(32)), Epoch(4)).await;
    drop(guest.await.unwrap());
    assert!(matches!(other, Err(GuestError::Disconnected(_))), "another boot: {other:?}");
    let failure = Failure::Unsupported { what: "fly".to_owned() };
    let failed = network_of(GuestMessage::Failed { id: 0, failure }, vec![]).await;
    assert!(matches!(failed, Err(GuestError::Unsupported(_))), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_never_answers_is_not_waited_for() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let silent = network_sockets(ours, &boot(), Epoch(4)).await;
    assert!(matches!(silent, Err(GuestError::Disconnected(_))), "{silent:?}");
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let silent = connect_inside(ours, &boot(), Epoch(4), 80).await.err();
    assert!(matches!(silent, Some(GuestError::Disconnected(_))), "{silent:?}");
}

#[tokio::test]
async fn a_connection_is_one() {
    let dial = async |message: GuestMessage, fds: Vec<OwnedFd>| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let guest = tokio::spawn(answer(theirs, message, fds));
        let stream = connect_inside(ours, &boot(), Epoch(4), 80).await;
        drop(guest.await.unwrap());
        stream.err()
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = || OwnedFd::from(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    assert!(dial(sockets(1), vec![connection()]).await.is_none());
    let two = dial(sockets(2), vec![connection(), connection()]).await;
    assert!(matches!(two, Some(GuestError::Protocol(_))), "{two:?}");
    for (name, fd) in strange_things().into_iter().filter(|(name, _)| *name != "a connection") {
        let refused = dial(sockets(1), vec![fd]).await;
        assert!(matches!(refused, Some(GuestError::Protocol(_))), "{name}: {refused:?}");
    }
    let operation = "connect to".to_owned();
    let path = RawBytes(b"127.0.0.1:80".to_vec());
    let failure = Failure::Os { operation, path, errno: 111 };
    let refused = dial(GuestMessage::Failed { id: 0, failure }, vec![]).await.unwrap();
    assert_eq!(
        refused.to_string(),
        "cannot connect to `127.0.0.1:80`: Connection refused (os error 111)"
    );
}

/// The other holder of a connection can make it block, and only its own reads and writes wait.
#[tokio::test]
async fn a_connection_that_the_guest_makes_block_does_not_block_this_side() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut inside, _) = listener.accept().unwrap();
    let kept = connection.try_clone().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let guest = tokio::spawn(answer(theirs, sockets(1), vec![connection.into()]));
    let mut stream = connect_inside(ours, &boot(), Epoch(4), 80).await.unwrap();
    drop(guest.await.unwrap());
    kept.set_nonblocking(false).unwrap();
    // Readable, and then no more, before this side reads: what was there is taken by the guest.
    std::io::Write::write_all(&mut inside, b"x").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let mut byte = [0; 1];
    std::io::Read::read_exact(&mut (&kept), &mut byte).unwrap();
    let read = tokio::time::timeout(std::time::Duration::from_millis(50), stream.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
}
