//! Accepting at listening sockets that are shared.

mod ferry;

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown, sockopt};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::close::SMALL_STACK;
use crate::close_elsewhere;

/// Connections that wait to be taken by this side.
const QUEUE: usize = 64;
/// Local connections at once, those that are being closed among them.
const LOCAL: usize = 16;
/// How long to wait after a connection could not be taken, which is when descriptors run out.
const PAUSE: Duration = Duration::from_millis(50);
/// How often it is tried to end an accept that was made to wait, at first and at last.
const END: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));

/// Listening sockets that somebody hostile holds as well, with the one thread that accepts at them.
///
/// He can make that thread wait, and with it nobody but those who connect to these very sockets.
/// Dropping this ends the thread and closes the sockets; for somebody else who holds them they go on
/// to listen, unless he made the thread wait.
#[derive(Debug)]
pub struct Doors {
    state: Arc<State>,
    listeners: Weak<Listeners>,
    over: oneshot::Receiver<()>,
}

/// What arrives at [`Doors`]. Both end when the doors are closed.
#[derive(Debug)]
pub struct Arrivals {
    /// TCP connections. Nobody else holds them.
    pub tcp: mpsc::Receiver<TcpStream>,
    /// Local connections, at most 16 at once. Descriptors that are sent over them do not get here.
    pub local: mpsc::Receiver<UnixStream>,
}

#[derive(Debug)]
struct Listeners {
    tcp: Vec<TcpListener>,
    local: Option<UnixListener>,
}

#[derive(Debug)]
struct State {
    wake: OwnedFd,
    stopped: AtomicBool,
    /// The thread is, or is about to be, in a call that it can be made to wait in.
    entered: AtomicBool,
}

impl Doors {
    /// Begins to accept, for the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// There can be no more threads or descriptors.
    pub fn open(
        tcp: Vec<TcpListener>,
        local: Option<UnixListener>,
    ) -> io::Result<(Self, Arrivals)> {
        let listeners = Arc::new(Listeners { tcp, local });
        let opened = Self::begin(&listeners).and_then(|(doors, porter, arrivals)| {
            let thread = std::thread::Builder::new().name("moat-doors".to_owned());
            thread.stack_size(SMALL_STACK).spawn(move || porter.serve())?;
            Ok((doors, arrivals))
        });
        if opened.is_err() {
            close_elsewhere(listeners);
        }
        opened
    }

    fn begin(listeners: &Arc<Listeners>) -> io::Result<(Self, Porter, Arrivals)> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let state = State { wake, stopped: false.into(), entered: false.into() };
        let (tcp_sender, tcp) = mpsc::channel(QUEUE);
        let (local_sender, local) = mpsc::channel(LOCAL);
        let (over_sender, over) = oneshot::channel();
        let state = Arc::new(state);
        let porter = Porter {
            state: Arc::clone(&state),
            listeners: Arc::clone(listeners),
            runtime: Handle::current(),
            tcp: tcp_sender,
            local: local_sender,
            slots: Arc::new(Semaphore::new(LOCAL)),
            _over: over_sender,
        };
        let doors = Self { state, listeners: Arc::downgrade(listeners), over };
        Ok((doors, porter, Arrivals { tcp, local }))
    }

    /// Closes the sockets, and returns when they are closed or `wait` is over.
    pub async fn close(mut self, wait: Duration) {
        self.state.stop();
        // Nothing is ever sent: the other half goes after the sockets.
        let _ = tokio::time::timeout(wait, &mut self.over).await;
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.state.stop();
        // Nearly always false: an accept that nobody made wait comes back at once.
        if self.state.entered.load(Ordering::SeqCst) {
            let (state, listeners) = (Arc::clone(&self.state), self.listeners.clone());
            let thread = std::thread::Builder::new().name("moat-doors-end".to_owned());
            drop(thread.stack_size(SMALL_STACK).spawn(move || end(&state, &listeners)));
        }
    }
}

/// Ends an accept that was made to wait. Whoever did that can let the socket listen again, but not
/// for longer than he lives.
fn end(state: &State, listeners: &Weak<Listeners>) {
    let mut pause = END.0;
    loop {
        std::thread::sleep(pause);
        if !state.entered.load(Ordering::SeqCst) {
            return;
        }
        let Some(listeners) = listeners.upgrade() else { return };
        for listener in listeners.all() {
            let _ = shutdown(listener, Shutdown::Both);
        }
        pause = (pause * 2).min(END.1);
    }
}

impl State {
    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Waits in a call that somebody else may prolong. `None`: it is over.
    fn enter<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        // Whoever stops sets his mark before he looks at this one, so one of both is seen.
        self.entered.store(true, Ordering::SeqCst);
        let result = (!self.is_stopped()).then(call);
        self.entered.store(false, Ordering::SeqCst);
        result
    }
}

impl Listeners {
    fn all(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.tcp.iter().map(AsFd::as_fd).chain(self.local.iter().map(AsFd::as_fd))
    }
}

/// Who accepts. The fields are dropped in this order: the sockets before those who hear of it.
struct Porter {
    state: Arc<State>,
    listeners: Arc<Listeners>,
    runtime: Handle,
    tcp: mpsc::Sender<TcpStream>,
    local: mpsc::Sender<UnixStream>,
    slots: Arc<Semaphore>,
    _over: oneshot::Sender<()>,
}

/// What came of one look at a listening socket.
enum Looked {
    Done,
    /// Not at once again.
    Pause,
    /// There is nobody for whom to accept.
    Over,
}

impl Porter {
    fn serve(self) {
        // As long as nobody undoes it, an accept comes back at once.
        for listener in self.listeners.all() {
            let _ = rustix::io::ioctl_fionbio(listener, true);
        }
        while !self.state.is_stopped() {
            let mut looked = Looked::Done;
            for index in self.wait() {
                match self.look(index) {
                    Looked::Done => {}
                    Looked::Pause => looked = Looked::Pause,
                    Looked::Over => return,
                }
            }
            if matches!(looked, Looked::Pause) {
                let mut wake = [PollFd::new(&self.state.wake, PollFlags::IN)];
                let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(PAUSE.subsec_nanos()) };
                let _ = poll(&mut wake, Some(&pause));
            }
        }
    }

    /// Waits until something is to be looked at, and says which listening sockets.
    fn wait(&self) -> Vec<usize> {
        let wake = PollFd::new(&self.state.wake, PollFlags::IN);
        let doors = self.listeners.all().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let mut all: Vec<_> = std::iter::once(wake).chain(doors).collect();
        if poll(&mut all, None).is_err() {
            return Vec::new();
        }
        let doors = all.iter().skip(1).enumerate();
        doors.filter(|(_, door)| !door.revents().is_empty()).map(|(index, _)| index).collect()
    }

    fn look(&self, index: usize) -> Looked {
        let Some(listener) = self.listeners.all().nth(index) else { return Looked::Done };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match self.state.enter(|| accept_with(listener, flags)) {
            None => Looked::Over,
            Some(Ok(socket)) if index < self.listeners.tcp.len() => self.hand_over(socket),
            Some(Ok(socket)) => self.ferry(socket),
            // Somebody else has taken it, or it has gone.
            Some(Err(Errno::WOULDBLOCK | Errno::CONNABORTED | Errno::INTR)) => Looked::Done,
            Some(Err(_)) => Looked::Pause,
        }
    }

    fn hand_over(&self, socket: OwnedFd) -> Looked {
        // The listening socket may have said that closing is to wait. This socket is nobody else's.
        if sockopt::set_socket_linger(&socket, None).is_err() {
            return Looked::Pause;
        }
        let _runtime = self.runtime.enter();
        let Ok(stream) = TcpStream::from_std(socket.into()) else { return Looked::Pause };
        match self.tcp.blocking_send(stream) {
            Ok(()) => Looked::Done,
            Err(_) => Looked::Over,
        }
    }

    fn ferry(&self, socket: OwnedFd) -> Looked {
        // One too many is closed here, so that closings that wait are as bounded as connections.
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { return Looked::Pause };
        let _runtime = self.runtime.enter();
        let Ok(stream) = ferry::begin(socket, slot) else { return Looked::Pause };
        match self.local.blocking_send(stream) {
            Ok(()) => Looked::Done,
            Err(_) => Looked::Over,
        }
    }
}

#[cfg(test)]
mod tests;
