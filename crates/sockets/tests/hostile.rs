//! Against somebody who holds the same sockets, or sends descriptors of his own: each runs in a
//! runtime of one thread, which nobody may hold up.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it says")]

use std::fs;
use std::io::{IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moat_sockets::{Doors, GuardedStream, SharedConnection, SharedDatagrams};
use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How long what lingers would hold up whoever closes it.
const LINGER: Duration = Duration::from_secs(3);
/// How long this side may be held up.
const SOON: Duration = Duration::from_secs(1);

/// One test at a time: they count this process's threads.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs something in a runtime of one thread.
fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// A socket whose closing waits, and what has to be kept for that.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    set_socket_recv_buffer_size(&far, 2048).unwrap();
    set_socket_linger(&near, Some(LINGER)).unwrap();
    fill(&near);
    (near, far)
}

/// Sends until the other side would have to read.
fn fill(mut stream: &TcpStream) {
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[0; 65536]).is_ok() {}
}

fn send(stream: &UnixStream, fd: OwnedFd) {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut room);
    let fds = [fd.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(stream, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
}

/// How many threads of this process have that name.
fn threads(name: &str) -> usize {
    let named = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    fs::read_dir("/proc/self/task").unwrap().flatten().filter(named).count()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A connection takes after the socket that listened, options of which are everybody's.
#[test]
fn a_connection_that_was_made_to_linger_does_not() {
    let _alone = alone();
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        set_socket_linger(&listener, Some(LINGER)).unwrap();
        let (doors, mut arrivals) = Doors::open(vec![listener], None).unwrap();
        let inside = TcpStream::connect(address).unwrap();
        set_socket_recv_buffer_size(&inside, 2048).unwrap();
        let stream = arrivals.tcp.recv().await.unwrap().into_std().unwrap();
        fill(&stream);
        let start = Instant::now();
        drop(stream);
        assert!(start.elapsed() < SOON, "closing takes {:?}", start.elapsed());
        doors.close(SOON).await;
        assert!(TcpStream::connect(address).is_err(), "it still listens");
    });
}

#[test]
fn a_shared_connection_neither_waits_nor_lingers() {
    let _alone = alone();
    block_on(async {
        let (near, mut far) = lingering();
        let theirs = near.try_clone().unwrap();
        let mut stream = SharedConnection::new(near).unwrap();
        theirs.set_nonblocking(false).unwrap();
        let read = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
        assert!(read.is_err(), "{read:?}");
        let write = tokio::time::timeout(Duration::from_millis(50), stream.write(&[0; 9])).await;
        assert!(write.is_err(), "{write:?}");
        far.write_all(b"x").unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        // From now on this side's is the last.
        drop(theirs);
        let start = Instant::now();
        drop(stream);
        assert!(start.elapsed() < SOON, "closing takes {:?}", start.elapsed());
    });
}

#[test]
fn a_datagram_that_somebody_else_takes_is_not_waited_for() {
    let _alone = alone();
    block_on(async {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let theirs = socket.try_clone().unwrap();
        socket.set_nonblocking(true).unwrap();
        let shared = SharedDatagrams::new(socket).unwrap();
        theirs.set_nonblocking(false).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut buffer = [0; 9];
        client.send_to(b"taken", address).unwrap();
        // This side is told of it, and it is gone before it is received.
        tokio::time::sleep(Duration::from_millis(20)).await;
        theirs.recv(&mut buffer).unwrap();
        let read = tokio::time::timeout(Duration::from_millis(50), shared.receive(&mut buffer));
        assert!(read.await.is_err());
        client.send_to(b"left", address).unwrap();
        let (length, from) = shared.receive(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], from), (&b"left"[..], client.local_addr().unwrap()));
        shared.send(b"answer", from).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 6);
    });
}

/// Whoever reads past a descriptor, or closes before he read it, closes what it is of.
#[test]
fn descriptors_that_nobody_asked_for_hold_nobody_up() {
    let _alone = alone();
    block_on(async {
        let ((read, _one), (unread, _two)) = (lingering(), lingering());
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut stream = GuardedStream::new(tokio::net::UnixStream::from_std(ours).unwrap());
        (&theirs).write_all(b"hello").unwrap();
        let mut said = [0; 5];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
        let start = Instant::now();
        send(&theirs, read.into());
        let error = stream.read_u8().await.unwrap_err();
        assert!(error.to_string().contains("descriptors"), "{error}");
        send(&theirs, unread.into());
        assert!(stream.read_u8().await.is_err(), "it goes on after a refusal");
        drop(stream);
        assert!(start.elapsed() < SOON, "it takes {:?}", start.elapsed());
        wait_until("they are not closed", || threads("moat-close") == 0);
    });
}

#[test]
fn descriptors_over_an_accepted_connection_do_not_arrive_and_hold_nobody_up() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    block_on(async {
        let (doors, mut arrivals) = Doors::open(Vec::new(), Some(listener)).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let mut stream = arrivals.local.recv().await.unwrap();
        (&client).write_all(b"ask").unwrap();
        let mut said = [0; 3];
        stream.read_exact(&mut said).await.unwrap();
        stream.write_all(b"told").await.unwrap();
        let mut heard = [0; 4];
        std::io::Read::read_exact(&mut (&client), &mut heard).unwrap();
        assert_eq!((&said, &heard), (b"ask", b"told"));
        let (fd, _kept) = lingering();
        let start = Instant::now();
        // Whose copy is closed last is chance, and it is not to be this thread's.
        let sender = client.try_clone().unwrap();
        std::thread::spawn(move || send(&sender, fd.into()));
        let read = tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await;
        assert!(!matches!(read, Ok(Err(_))), "{read:?}");
        // As many as there may be at once, the one that is held up among them.
        let more: Vec<_> = (0..16).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let mut taken = Vec::new();
        for _ in 0..15 {
            let next = tokio::time::timeout(SOON, arrivals.local.recv()).await.unwrap();
            taken.push(next.unwrap());
        }
        assert!(
            tokio::time::timeout(Duration::from_millis(100), arrivals.local.recv()).await.is_err()
        );
        drop((stream, more, taken));
        doors.close(SOON).await;
        assert!(start.elapsed() < 2 * SOON, "it takes {:?}", start.elapsed());
        wait_until("a ferry is left", || threads("moat-ferry") == 0);
    });
}
