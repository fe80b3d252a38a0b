//! The event loop.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use moat_guest::{
    ClientMessage, GuestConfig, GuestMessage, OutputStream, Refusal, VERSIONS, Welcome,
};
use rustix::event::epoll::EventFlags;
use rustix::net::{SocketFlags, accept_with};

use crate::connection::{Connection, Phase};
use crate::files::{Commits, Files};
use crate::freeze::Freezer;
use crate::job::Step;
use crate::limits::Watch;
use crate::poll::{Poll, Source, Watched};
use crate::process::Processes;
use crate::tree;

mod events;
mod request;
mod setup;

/// Connections at once.
const MAX_CONNECTIONS: usize = 64;

/// How long a shutdown waits for its answer to be read.
const FAREWELL: Duration = Duration::from_millis(200);

/// The guest.
pub(crate) struct Server {
    poll: Poll,
    listener: Watched,
    children: Watched,
    nonce: String,
    /// The highest epoch that was seen.
    epoch: u64,
    orphan_grace: Duration,
    first_process: bool,
    /// Every other process there is belongs to a command.
    alone: bool,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    processes: Processes,
    watch: Watch,
    /// When everything was last stopped until somebody lets it go on.
    paused: Option<Instant>,
    files: Files,
    commits: Commits,
    freezer: Freezer,
    /// Sockets of the sandbox's network, which outlive every connection.
    network: Vec<OwnedFd>,
    /// When all ends, unless somebody comes.
    end: Option<Instant>,
    /// A shutdown was asked for, and nobody who comes changes that.
    is_ending: bool,
    /// When the first waiting job is to be looked at again.
    next_step: Option<Instant>,
}

impl Server {
    /// Serves until the sandbox is to end.
    pub(crate) fn run(mut self) -> ExitCode {
        loop {
            let timeout = self.timeout(Instant::now());
            let Ok(events) = self.poll.wait(timeout) else { break };
            let now = Instant::now();
            for (source, flags) in events {
                self.ready(source, flags, now);
            }
            self.turn(now);
            if self.end.is_some_and(|end| now >= end) {
                break;
            }
        }
        if !self.first_process {
            tree::kill_commands();
        }
        ExitCode::SUCCESS
    }

    fn ready(&mut self, source: Source, flags: EventFlags, now: Instant) {
        match source {
            Source::Listener => self.accept(),
            Source::Children => {
                let mut ignored = [0; 1024];
                let _ = rustix::io::read(&self.children, &mut ignored[..]);
                self.processes.reap(&self.poll, now);
            }
            Source::Connection(id) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.fill(flags);
                }
            }
            Source::Stdout(id) => {
                self.processes.ready(id, OutputStream::Stdout, flags, &self.poll, now);
            }
            Source::Stderr(id) => {
                self.processes.ready(id, OutputStream::Stderr, flags, &self.poll, now);
            }
        }
    }

    /// Everything that follows from what was read.
    fn turn(&mut self, now: Instant) {
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in &ids {
            self.serve_frames(*id, now);
        }
        self.step_jobs(now);
        if !self.freezer.is_paused() && self.watch.tick(&mut self.processes, now).is_err() {
            // Better no sandbox than one without limits.
            self.end = Some(now);
            self.is_ending = true;
        }
        self.processes.settle(&self.poll, now);
        self.send_events(now);
        for connection in self.connections.values_mut() {
            connection.flush(&self.poll);
        }
        self.drop_connections(&ids, now);
        // A bridge has what was said only then, and ends with this process.
        if self.is_ending && self.alone && self.connections.values().all(Connection::is_flushed) {
            self.end = Some(now);
        }
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        let busy = self.connections.values().any(|connection| {
            connection.behind && connection.accepts()
                || connection.has_room() && self.next_step.is_none() && !connection.jobs.is_empty()
        });
        if busy {
            return Some(Duration::ZERO);
        }
        let watch = self.watch.deadline(&self.processes).filter(|_| !self.freezer.is_paused());
        let deadlines = [self.end, self.next_step, self.processes.deadline(now), watch];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    fn accept(&mut self) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let Ok(fd) = accept_with(&self.listener, flags) else { return };
        let id = self.next_connection;
        self.next_connection += 1;
        let mut connection = Connection::new(fd, id);
        if self.connections.len() >= MAX_CONNECTIONS {
            let silent = self.connections.iter().find(|(_, other)| other.phase != Phase::Open);
            match silent.map(|(id, _)| *id) {
                Some(id) => drop(self.connections.remove(&id)),
                None => connection.refuse(Refusal::Full),
            }
        }
        // Sets its interest as well.
        connection.flush(&self.poll);
        if !connection.is_over() {
            self.connections.insert(id, connection);
        }
    }

    fn drop_connections(&mut self, ids: &[u64], now: Instant) {
        for id in ids {
            let Some(connection) = self.connections.get(id).filter(|c| c.is_over()) else {
                continue;
            };
            let was_open = connection.phase == Phase::Open;
            self.connections.remove(id);
            self.freezer.thaw(*id);
            if was_open && !self.has_owner() {
                self.end = self.end.or(Some(now + self.orphan_grace));
            }
        }
    }

    fn has_owner(&self) -> bool {
        self.connections.values().any(|connection| connection.phase == Phase::Open)
    }

    fn serve_frames(&mut self, id: u64, now: Instant) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            if !connection.behind || !connection.accepts() {
                return;
            }
            // Out of the connection while a frame in it is looked at.
            let mut decoder = std::mem::take(&mut connection.decoder);
            match decoder.next_frame() {
                Ok(Some(frame)) => self.frame(id, frame.header, frame.payload, now),
                Ok(None) => connection.behind = false,
                Err(error) => connection.refuse_frame(error),
            }
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.decoder = decoder;
            }
        }
    }

    fn frame(&mut self, id: u64, header: &[u8], payload: &[u8], now: Instant) {
        let message = serde_json::from_slice::<ClientMessage>(header);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let phase = connection.phase;
        match (message, phase) {
            (Ok(ClientMessage::Hello { versions, epoch }), Phase::Greeting) => {
                self.greet(id, versions.common(VERSIONS), epoch);
            }
            (Ok(ClientMessage::Request { id: request, body }), Phase::Open) => {
                self.request(id, request, body, payload, now);
            }
            (Ok(ClientMessage::Credit { listener, frames }), Phase::Open) => {
                if let Some(listener) = connection.listeners.get_mut(&listener) {
                    listener.credit = listener.credit.saturating_add(frames);
                }
            }
            (Ok(ClientMessage::Detach { listener }), Phase::Open) => {
                connection.listeners.remove(&listener);
            }
            (Ok(_), _) => connection
                .refuse(Refusal::Protocol { reason: "a message that is out of place".to_owned() }),
            (Err(error), _) => {
                let reason = format!("a message that cannot be read: {error}");
                connection.refuse(Refusal::Protocol { reason });
            }
        }
    }

    /// Opens a connection, unless a later owner was here. Cuts earlier owners off.
    fn greet(&mut self, id: u64, version: Option<u32>, epoch: u64) {
        let current = self.epoch;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(version) = version else {
            connection.refuse(Refusal::Version { versions: VERSIONS });
            return;
        };
        if epoch < current {
            connection.refuse(Refusal::Superseded { epoch: current });
            return;
        }
        connection.phase = Phase::Open;
        let welcome = Welcome { version, nonce: self.nonce.clone() };
        connection.send(&GuestMessage::Welcome(welcome), &[]);
        if !self.is_ending {
            self.end = None;
        }
        self.epoch = epoch;
        if epoch > current {
            for (other, connection) in &mut self.connections {
                if *other != id && connection.phase == Phase::Open {
                    connection.refuse(Refusal::Superseded { epoch });
                    self.freezer.thaw(*other);
                }
            }
        }
    }

    /// One step of the first job of each connection that has room for an answer.
    fn step_jobs(&mut self, now: Instant) {
        self.next_step = None;
        for connection in self.connections.values_mut() {
            if !connection.has_room() {
                continue;
            }
            let Some((id, job)) = connection.jobs.front_mut() else { continue };
            let id = *id;
            let (message, payload, done) = match job.step(&self.files, &mut self.freezer, now) {
                Ok(Step::Again) => continue,
                Ok(Step::Later(at)) => {
                    self.next_step = Some(self.next_step.map_or(at, |other| other.min(at)));
                    continue;
                }
                Ok(Step::Part(body, payload)) => (GuestMessage::Reply { id, body }, payload, false),
                Ok(Step::Done(body, payload)) => (GuestMessage::Reply { id, body }, payload, true),
                Ok(Step::Socket(socket)) => {
                    connection.send_sockets(id, vec![socket]);
                    connection.jobs.pop_front();
                    continue;
                }
                Err(failure) => (GuestMessage::Failed { id, failure }, Vec::new(), true),
            };
            connection.send(&message, &payload);
            if done {
                connection.jobs.pop_front();
            }
        }
    }
}
