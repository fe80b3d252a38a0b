//! The commands that are kept, running or ended, until they are released.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use moat_guest::{
    Failure, GuestConfig, LimitName, LimitReached, OutputStream, ProcessExit, ProcessStatus,
    RawBytes, Start,
};
use rustix::event::epoll::EventFlags;
use rustix::process::{Pid, Signal};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::files::{Files, os_failure};
use crate::limits::{Account, Limits};
use crate::poll::{Poll, Source};
use crate::spawn::{self, Plan};
use crate::users::Users;
use crate::{sys, tree};

mod limited;
mod spool;
mod stdin;
mod tap;

pub(crate) use spool::Spool;
use stdin::Stdin;
use tap::Tap;

/// How long a pipe that descendants keep open is heard after the command itself has ended.
const LEFTOVER_WAIT: Duration = Duration::from_millis(50);

/// Ended and released commands whose pipes descendants still hold; what they write is discarded.
/// Past this many the oldest are closed.
const MAX_LEFTOVERS: usize = 256;

/// Marks are counted from here, above any value that a limit has in practice.
const FIRST_MARK: u64 = 1 << 40;

/// One command.
pub(crate) struct Process {
    key: String,
    number: u64,
    pid: Pid,
    mark: u64,
    pub(crate) account: Account,
    pub(crate) spool: Spool,
    /// Bytes of output that the harness has.
    pub(crate) acknowledged: u64,
    stdout: Option<Tap>,
    stderr: Option<Tap>,
    /// Present with a terminal.
    stdin: Option<Stdin>,
    ended: Option<Ended>,
    /// Set once all output was read, after which nothing changes.
    exit: Option<ProcessExit>,
}

struct Ended {
    code: i32,
    wall_ms: u64,
    deadline: Instant,
}

impl Process {
    pub(crate) fn exit(&self) -> Option<&ProcessExit> {
        self.exit.as_ref()
    }

    fn status(&self) -> ProcessStatus {
        ProcessStatus { key: self.key.clone(), output: self.spool.end(), exit: self.exit.clone() }
    }

    /// Its id while it is certainly its own.
    fn live_pid(&self) -> Option<i32> {
        self.ended.is_none().then(|| self.pid.as_raw_nonzero().get())
    }

    /// By which the guest counts it.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// It was killed for a limit and is not gone yet.
    pub(crate) fn is_dying(&self) -> bool {
        self.ended.is_none() && self.account.reached().is_some_and(|reached| reached.ended)
    }

    fn taps(&mut self) -> impl Iterator<Item = &mut Tap> {
        self.stdout.iter_mut().chain(self.stderr.iter_mut())
    }

    /// Reads what is there, and goes on waiting for more where there is room for it.
    fn read(&mut self, stream: OutputStream, poll: &Poll, scratch: &mut [u8], now: Instant) {
        let tap = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        let Some(open) = tap else { return };
        let overdue = self.ended.as_ref().is_some_and(|ended| now >= ended.deadline);
        let spool = self.exit.is_none().then_some(&mut self.spool);
        if open.read(stream, spool, overdue, scratch).is_closed() {
            *tap = None;
        }
        self.check_output();
        self.update_interest(poll);
    }

    fn update_interest(&mut self, poll: &Poll) {
        let room = self.exit.is_some() || self.spool.space() > 0;
        let typing = self.stdin.as_ref().is_some_and(|stdin| !stdin.is_empty());
        if let Some(tap) = &mut self.stdout {
            tap.watch(poll, room, typing);
        }
        if let Some(tap) = &mut self.stderr {
            tap.watch(poll, room, false);
        }
    }

    /// Gives it its exit once the command has ended and its output was read.
    fn settle(&mut self, poll: &Poll, now: Instant) {
        let Some(ended) = self.ended.as_ref().filter(|_| self.exit.is_none()) else { return };
        let overdue = now >= ended.deadline;
        let exit = ProcessExit {
            code: ended.code,
            limit: self.account.reached(),
            metered: Some(self.account.metered(ended.wall_ms)),
            wall_ms: ended.wall_ms,
        };
        if self.taps().all(|tap| overdue && tap.owes_nothing()) {
            self.exit = Some(exit);
            if self.stdin.take().is_some() {
                // With the terminal's last descriptor its leftovers are told to end.
                self.stdout = None;
            }
            self.update_interest(poll);
        }
    }
}

/// All commands.
pub(crate) struct Processes {
    kept: BTreeMap<u64, Process>,
    ids: HashMap<String, u64>,
    /// Pipes of released commands, kept open and discarded so that a server that was left behind
    /// does not die of its own log.
    leftovers: BTreeMap<u64, Process>,
    next: u64,
    limit: usize,
    spool: usize,
    environment: BTreeMap<String, String>,
    users: Users,
    tied: bool,
    scratch: Vec<u8>,
    pub(crate) limits: Limits,
}

impl Processes {
    pub(crate) fn new(config: &GuestConfig, limits: Limits, first_process: bool) -> Self {
        Self {
            kept: BTreeMap::new(),
            ids: HashMap::new(),
            leftovers: BTreeMap::new(),
            next: 0,
            limit: config.max_processes as usize,
            spool: config.output_spool as usize,
            environment: config.environment.clone(),
            users: Users::new(config),
            tied: !first_process,
            scratch: vec![0; 64 << 10],
            limits,
        }
    }

    pub(crate) fn by_id(&mut self, id: u64) -> Option<&mut Process> {
        self.kept.get_mut(&id)
    }

    pub(crate) fn id(&self, key: &str) -> Result<u64, Failure> {
        self.ids.get(key).copied().ok_or(Failure::UnknownKey)
    }

    pub(crate) fn by_key(&mut self, key: &str) -> Result<&mut Process, Failure> {
        let id = self.id(key)?;
        self.kept.get_mut(&id).ok_or(Failure::UnknownKey)
    }

    pub(crate) fn all(&self) -> Vec<ProcessStatus> {
        self.kept.values().map(Process::status).collect()
    }

    pub(crate) fn start(
        &mut self,
        poll: &Poll,
        files: &Files,
        start: Start,
        user: Option<&str>,
    ) -> Result<ProcessStatus, Failure> {
        if let Ok(process) = self.by_key(&start.key) {
            return Ok(process.status());
        }
        let name = start.argv.first().cloned().unwrap_or_default();
        let failed = |error: std::io::Error| os_failure("start", name.as_bytes(), &error);
        if self.kept.len() >= self.limit {
            let what = format!("keep more than {} processes: release some", self.limit);
            return Err(Failure::Unsupported { what });
        }
        let user = user.map(|name| self.users.find(name)).transpose()?;
        let mut environment = self.environment.clone();
        environment.extend(user.iter().flat_map(|user| user.environment.clone()));
        environment.extend(start.environment);
        let id = self.next;
        let mark = mark_of(id);
        let plan = Plan {
            argv: &start.argv,
            cwd: files.place(&start.cwd)?,
            environment: &environment,
            tty: start.tty,
            identity: user.map_or(files.identity(), |user| &user.identity),
            mark,
            tied: self.tied,
            limits: &self.limits,
        };
        let before = self.limits.counted();
        let spawned = spawn::spawn(&plan).map_err(|error| match error.kind() {
            std::io::ErrorKind::Unsupported if start.tty.is_some() => Failure::Unsupported {
                what: "give a command a terminal: its kernel's terminals pass no signals on".into(),
            },
            _ => failed(error),
        })?;
        self.next += 1;
        let mut process = Process {
            key: start.key.clone(),
            number: id,
            pid: spawned.pid,
            mark,
            account: Account::new(before, Instant::now()),
            spool: Spool::new(self.spool).with_cap(self.limits.config.output_bytes),
            acknowledged: 0,
            stdout: Some(Tap::new(spawned.stdout, Source::Stdout(id))),
            stderr: spawned.stderr.map(|fd| Tap::new(fd, Source::Stderr(id))),
            stdin: start.tty.map(|_| Stdin::default()),
            ended: None,
            exit: None,
        };
        process.update_interest(poll);
        let status = process.status();
        self.ids.insert(start.key, id);
        self.kept.insert(id, process);
        Ok(status)
    }

    /// Forgets a command. What it left running goes on.
    pub(crate) fn release(&mut self, key: &str, poll: &Poll) -> Result<(), Failure> {
        let id = self.id(key)?;
        self.ids.remove(key);
        let Some(mut process) = self.kept.remove(&id) else { return Ok(()) };
        if process.exit.is_none() {
            // Nobody can ask for it any more, so nobody could ever end it.
            tree::signal_tree(process.live_pid(), process.mark, Signal::KILL);
            return Ok(());
        }
        process.spool = Spool::new(0);
        process.update_interest(poll);
        if process.taps().next().is_some() {
            self.leftovers.insert(id, process);
            if self.leftovers.len() > MAX_LEFTOVERS {
                self.leftovers.pop_first();
            }
        }
        Ok(())
    }

    /// A descriptor of a command is ready.
    pub(crate) fn ready(
        &mut self,
        id: u64,
        stream: OutputStream,
        flags: EventFlags,
        poll: &Poll,
        now: Instant,
    ) {
        if let Some(process) = self.kept.get_mut(&id) {
            if flags.contains(EventFlags::OUT) {
                process.type_pending();
            }
            process.read(stream, poll, &mut self.scratch, now);
        } else if let Some(process) = self.leftovers.get_mut(&id) {
            process.read(stream, poll, &mut self.scratch, now);
            if process.taps().next().is_none() {
                self.leftovers.remove(&id);
            }
        }
    }

    /// Takes note of children that have ended, also of those that were left to the guest.
    pub(crate) fn reap(&mut self, poll: &Poll, now: Instant) {
        while let Some(pid) = sys::ended_child() {
            let is_it = |process: &&mut Process| process.pid == pid && process.ended.is_none();
            let alone = self.kept.values().filter(|process| process.ended.is_none()).count() == 1;
            let Some(process) = self.kept.values_mut().find(is_it) else {
                self.reap_orphan(pid);
                continue;
            };
            let Some((code, usage)) = sys::reap(pid) else { break };
            process.account.end(usage);
            let ran = process.account.ran(now).as_millis();
            if let Some(reached) = self.limits.judge(code, process.account.before, alone) {
                process.account.reach(reached);
            }
            process.ended = Some(Ended {
                code,
                wall_ms: u64::try_from(ran).unwrap_or(u64::MAX),
                deadline: now + LEFTOVER_WAIT,
            });
            process.taps().for_each(Tap::note_end);
            process.read(OutputStream::Stdout, poll, &mut self.scratch, now);
            process.read(OutputStream::Stderr, poll, &mut self.scratch, now);
        }
    }

    /// A descendant whose parent has ended before it: what it used was still its command's.
    fn reap_orphan(&mut self, pid: Pid) {
        let mark = tree::read_mark(pid.as_raw_nonzero().get());
        let Some((_, usage)) = sys::reap(pid) else { return };
        let owner = mark.and_then(|mark| self.owner_of(mark));
        if let Some(process) = owner.and_then(|owner| self.kept.get_mut(&owner)) {
            process.account.add_orphan(&usage);
        }
    }

    /// Gives exits to those whose output was read. To be called once per turn of the loop.
    pub(crate) fn settle(&mut self, poll: &Poll, now: Instant) {
        self.kept.values_mut().for_each(|process| process.settle(poll, now));
    }

    /// Drops output before `floor`, and goes on reading where a full spool had stopped that.
    pub(crate) fn trim(&mut self, poll: &Poll, id: u64, floor: u64, now: Instant) {
        if let Some(process) = self.kept.get_mut(&id) {
            process.spool.drop_before(floor.min(process.acknowledged));
            if process.ended.is_some() && process.exit.is_none() {
                // Whether anything is left in the pipe shows only by reading it.
                process.read(OutputStream::Stdout, poll, &mut self.scratch, now);
                process.read(OutputStream::Stderr, poll, &mut self.scratch, now);
            }
            process.update_interest(poll);
        }
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.kept.keys().copied().collect()
    }

    /// When `settle` next has something to do although nothing happened.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let waiting = self.kept.values().filter(|process| process.exit.is_none());
        waiting
            .filter_map(|process| process.ended.as_ref())
            .map(|ended| ended.deadline)
            // What is overdue waits for room in the spool, not for the clock.
            .filter(|deadline| *deadline > now)
            .min()
    }

    pub(crate) fn write_stdin(
        &mut self,
        poll: &Poll,
        key: &str,
        call: &str,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let process = self.by_key(key)?;
        let stdin = process.stdin.as_mut().ok_or(Failure::StdinClosed)?;
        if process.ended.is_some() && !stdin.has_seen(call) {
            return Err(Failure::StdinClosed);
        }
        stdin.push(call, bytes)?;
        process.type_pending();
        process.update_interest(poll);
        Ok(())
    }

    pub(crate) fn signal(&mut self, key: &str, number: i32) -> Result<(), Failure> {
        let signal = sys::signal(number)
            .ok_or_else(|| Failure::Unsupported { what: format!("send signal {number}") })?;
        let process = self.by_key(key)?;
        tree::signal_tree(process.live_pid(), process.mark, signal);
        Ok(())
    }

    pub(crate) fn resize(&mut self, key: &str, rows: u16, columns: u16) -> Result<(), Failure> {
        let process = self.by_key(key)?;
        let (Some(_), Some(terminal)) = (&process.stdin, &process.stdout) else {
            return Err(Failure::StdinClosed);
        };
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(terminal, size).map_err(|error| Failure::Os {
            operation: "resize the terminal of".to_owned(),
            path: RawBytes::from(key),
            errno: error.raw_os_error(),
        })
    }
}

impl Process {
    /// Types what is waiting, as far as the terminal takes it.
    fn type_pending(&mut self) {
        if let (Some(stdin), Some(terminal)) = (&mut self.stdin, &self.stdout) {
            stdin.flush(terminal);
        }
    }
}

/// What descendants of a command are recognised by.
pub(crate) fn mark_of(number: u64) -> u64 {
    FIRST_MARK + number
}
