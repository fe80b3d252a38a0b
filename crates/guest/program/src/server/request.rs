//! Doing what the harness asks for.

use std::os::fd::OwnedFd;
use std::time::Instant;

use moat_guest::{Failure, GuestMessage, MAX_KEY, Reply, Request, Start};

use super::{FAREWELL, Server};
use crate::connection::{Listener, MAX_LISTENERS};
use crate::files::{Remove, Scan};
use crate::freeze::{Freeze, PAUSE};
use crate::job::Job;
use crate::mapped;
use crate::network::{self, Connect};

/// What a request comes to at once.
enum Answer {
    Now(Reply),
    Bytes(Reply, Vec<u8>),
    Later(Job),
    Sockets(Vec<OwnedFd>),
}

impl Server {
    pub(super) fn request(
        &mut self,
        connection: u64,
        id: u64,
        request: Request,
        payload: &[u8],
        now: Instant,
    ) {
        let answer = self.answer(connection, id, request, payload, now);
        let Some(connection) = self.connections.get_mut(&connection) else { return };
        match answer {
            Ok(Answer::Now(body)) => connection.send(&GuestMessage::Reply { id, body }, &[]),
            Ok(Answer::Bytes(body, bytes)) => {
                connection.send(&GuestMessage::Reply { id, body }, &bytes);
            }
            Ok(Answer::Sockets(sockets)) => connection.send_sockets(id, sockets),
            Ok(Answer::Later(job)) => connection.jobs.push_back((id, job)),
            Err(failure) => connection.send(&GuestMessage::Failed { id, failure }, &[]),
        }
    }

    fn answer(
        &mut self,
        connection: u64,
        id: u64,
        request: Request,
        payload: &[u8],
        now: Instant,
    ) -> Result<Answer, Failure> {
        let done = |()| Answer::Now(Reply::Done);
        match request {
            Request::StartAs { start, user } => self.start_command(start, Some(&user), now),
            Request::Start(start) => self.start_command(start, None, now),
            Request::Attach { key, offset, credit } => {
                self.attach(connection, id, &key, offset, credit).map(done)
            }
            Request::Acknowledge { key, offset } => {
                let process = self.processes.by_key(&key)?;
                process.acknowledged = process.acknowledged.max(offset);
                Ok(Answer::Now(Reply::Done))
            }
            Request::Release { key } => {
                let commit = self.commits.release(&key);
                match self.processes.release(&key, &self.poll) {
                    Err(Failure::UnknownKey) if commit => Ok(Answer::Now(Reply::Done)),
                    result => result.map(done),
                }
            }
            Request::WriteStdin { process, call } => {
                check_key(&call)?;
                self.processes.write_stdin(&self.poll, &process, &call, payload).map(done)
            }
            Request::Signal { process, signal } => {
                self.processes.signal(&process, signal).map(done)
            }
            Request::Resize { process, rows, columns } => {
                self.processes.resize(&process, rows, columns).map(done)
            }
            Request::Processes => Ok(Answer::Now(Reply::Processes(self.processes.all()))),
            Request::Pause => {
                if !self.freezer.is_paused() {
                    self.paused = Some(now);
                }
                let freeze = Freeze::begin(&mut self.freezer, PAUSE);
                Ok(Answer::Later(Job::Freeze(freeze)))
            }
            Request::Resume => {
                let was_paused = self.freezer.is_paused();
                self.freezer.thaw(PAUSE);
                if let Some(since) = self.paused.take().filter(|_| was_paused) {
                    self.processes.were_paused(now.saturating_duration_since(since));
                    self.watch.wake(now);
                }
                Ok(Answer::Now(Reply::Done))
            }
            Request::Meter => {
                Ok(Answer::Now(Reply::Metered(self.watch.metered(&self.processes.limits))))
            }
            Request::Freeze => {
                let freeze = Freeze::begin(&mut self.freezer, connection);
                Ok(Answer::Later(Job::Freeze(freeze)))
            }
            Request::Thaw => {
                self.freezer.thaw(connection);
                Ok(Answer::Now(Reply::Done))
            }
            Request::Network => Ok(Answer::Sockets(network::duplicates(&self.network)?)),
            Request::Connect { port } => Ok(Answer::Later(Job::Connect(Connect::new(port)))),
            Request::Shutdown => {
                self.end = Some(now + FAREWELL);
                self.is_ending = true;
                Ok(Answer::Now(Reply::Done))
            }
            Request::Stage { key, offset } => {
                check_key(&key)?;
                self.commits.stage(&key, offset, payload).map(done)
            }
            Request::Commit { key, changes } => {
                check_key(&key)?;
                let outcome = self.commits.commit(&self.files, &key, &changes, payload)?;
                Ok(Answer::Now(Reply::Committed(Some(outcome))))
            }
            Request::Committed { key } => {
                Ok(Answer::Now(Reply::Committed(self.commits.outcome(&key))))
            }
            files => self.answer_files(files, payload),
        }
    }

    fn start_command(
        &mut self,
        start: Start,
        user: Option<&str>,
        now: Instant,
    ) -> Result<Answer, Failure> {
        check_key(&start.key)?;
        if self.freezer.is_frozen() {
            let what = match self.freezer.is_paused() {
                true => "start a command while it is paused",
                false => "start a command while all are stopped for a checkpoint",
            };
            let what = what.to_owned();
            return Err(Failure::Unsupported { what });
        }
        let status = self.processes.start(&self.poll, &self.files, start, user)?;
        self.watch.wake(now);
        Ok(Answer::Now(Reply::Process(status)))
    }

    fn answer_files(&mut self, request: Request, payload: &[u8]) -> Result<Answer, Failure> {
        let files = &self.files;
        let done = |()| Answer::Now(Reply::Done);
        match request {
            Request::Stat { root, path } => {
                let mut records = Vec::new();
                if let Some(record) = files.stat(root, &path)? {
                    record.encode(&mut records);
                }
                Ok(Answer::Bytes(Reply::Entries { last: true }, records))
            }
            Request::ReadAt { root, path, offset, length } => {
                let bytes = files.read_at(root, &path, offset, length)?;
                Ok(Answer::Bytes(Reply::Bytes, bytes))
            }
            Request::ReadData { root, path, offset, until, length } => {
                let (hole, bytes) = files.read_data(root, &path, offset..until, length)?;
                Ok(Answer::Bytes(Reply::Data { hole }, bytes))
            }
            Request::Mapped => {
                let (inodes, others) = mapped::files(files.identity());
                Ok(Answer::Now(Reply::Mapped { inodes, others }))
            }
            Request::List { root, path } => {
                Ok(Answer::Later(Job::Scan(Scan::folder(files, root, &path)?)))
            }
            Request::Scan { root, skip } => {
                Ok(Answer::Later(Job::Scan(Scan::tree(files, root, &skip)?)))
            }
            Request::Write { root, path, mode } => {
                files.write(root, &path, payload, mode).map(done)
            }
            Request::WriteAt { root, path, offset } => {
                files.write_at(root, &path, offset, payload).map(done)
            }
            Request::MakeDir { root, path } => files.make_dir(root, &path).map(done),
            Request::Remove { root, path } => {
                Ok(Answer::Later(Job::Remove(Remove::begin(files, root, &path)?)))
            }
            Request::Rename { root, from, to } => files.rename(root, &from, &to).map(done),
            Request::Apply { root } => files.apply(root, payload).map(done),
            Request::Finish { root } => files.finish(root, payload).map(done),
            // All others were answered before.
            _ => Err(Failure::Unsupported { what: "do that".to_owned() }),
        }
    }

    fn attach(
        &mut self,
        connection: u64,
        id: u64,
        key: &str,
        offset: u64,
        credit: u32,
    ) -> Result<(), Failure> {
        let process_id = self.processes.id(key)?;
        let process = self.processes.by_key(key)?;
        let kept = process.spool.start()..=process.spool.end();
        if !kept.contains(&offset) {
            let (start, end) = kept.into_inner();
            let what = format!("send output from byte {offset}: bytes {start} to {end} are kept");
            return Err(Failure::Unsupported { what });
        }
        let Some(connection) = self.connections.get_mut(&connection) else { return Ok(()) };
        if connection.listeners.len() >= MAX_LISTENERS {
            let what = format!("have more than {MAX_LISTENERS} listeners");
            return Err(Failure::Unsupported { what });
        }
        let listener = Listener { process: process_id, position: offset, credit };
        connection.listeners.insert(id, listener);
        Ok(())
    }
}

/// Keys are remembered, so they are short.
fn check_key(key: &str) -> Result<(), Failure> {
    if (1..=MAX_KEY).contains(&key.len()) {
        return Ok(());
    }
    Err(Failure::Unsupported { what: format!("use a key that is empty or over {MAX_KEY} bytes") })
}
