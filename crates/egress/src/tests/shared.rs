//! The sandbox holds the sockets as well, and may have been taken over by somebody who uses them.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::world::{Setup, World};
use crate::egress::EgressSockets;
use crate::names::AddressRange;

/// How long what else this side does may stand still.
const STILL: Duration = Duration::from_secs(2);
/// How long the sockets are fought for.
const FIGHT: Duration = Duration::from_millis(600);

/// Whoever holds the sockets has calls on them wait, and takes what this side was told of.
struct Thief {
    tcp: TcpListener,
    dns: UdpSocket,
    agent: UnixListener,
}

impl Thief {
    fn steal(&self) {
        let start = Instant::now();
        let fights = || start.elapsed() < FIGHT;
        std::thread::scope(|scope| {
            let block = || {
                self.tcp.set_nonblocking(false).unwrap();
                self.dns.set_nonblocking(false).unwrap();
                self.agent.set_nonblocking(false).unwrap();
            };
            block();
            let takers = [
                scope.spawn(|| while fights() && self.tcp.accept().is_ok() {}),
                scope.spawn(|| while fights() && self.agent.accept().is_ok() {}),
                scope.spawn(|| while fights() && self.dns.recv(&mut [0; 64]).is_ok() {}),
            ];
            let (tcp, dns) = (self.tcp.local_addr().unwrap(), self.dns.local_addr().unwrap());
            let agent = self.agent.local_addr().unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            // A taker that waits for one more ends when it gets it: whoever is called may be the other.
            while takers.iter().any(|taker| !taker.is_finished()) {
                if fights() {
                    block();
                }
                let _ = TcpStream::connect(tcp);
                let _ = UnixStream::connect(agent.as_pathname().unwrap());
                let _ = client.send_to(b"query", dns);
            }
        });
    }
}

#[test]
fn whoever_shares_the_sockets_holds_up_nobody_else() {
    let (sender, done) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(fight());
        let _ = sender.send(());
    });
    let done = done.recv_timeout(Duration::from_secs(30));
    assert!(done.is_ok(), "the runtime stands still, or its thread has ended");
}

async fn fight() {
    let folder = tempfile::tempdir().unwrap();
    let agent = UnixListener::bind(folder.path().join("agent")).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let thief = Thief {
        tcp: tcp.try_clone().unwrap(),
        dns: dns.try_clone().unwrap(),
        agent: agent.try_clone().unwrap(),
    };
    let sockets = EgressSockets { tcp: vec![tcp], dns: Some(dns), ssh_agent: Some(agent) };
    let setup = Setup { ssh_agent: Some(folder.path().join("outer")), ..Setup::default() };
    let world = World::with_sockets(&setup, sockets, AddressRange::SYNTHETIC).await;
    let stealing = std::thread::spawn(move || thief.steal());
    let mut last = Instant::now();
    while !stealing.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(last.elapsed() < STILL, "it stood still for {:?}", last.elapsed());
        last = Instant::now();
    }
    stealing.join().unwrap();
    let start = Instant::now();
    drop(world);
    assert!(start.elapsed() < STILL, "ending takes {:?}", start.elapsed());
}
