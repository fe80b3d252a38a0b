//! Starting one command.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::files::Identity;
use crate::left_out::stands;
use crate::limits::Limits;
use crate::{oom, sys};

/// Where a program is looked for when its environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Bytes that a pipe holds: fewer wake-ups for large outputs.
const PIPE_SIZE: usize = 256 << 10;

/// What is started.
pub(crate) struct Plan<'a> {
    pub(crate) argv: &'a [String],
    pub(crate) cwd: PathBuf,
    pub(crate) environment: &'a BTreeMap<String, String>,
    pub(crate) tty: Option<(u16, u16)>,
    /// Who it runs as.
    pub(crate) identity: &'a Identity,
    /// What its descendants are recognised by.
    pub(crate) mark: u64,
    /// It ends with the guest even where that is not the first process.
    pub(crate) tied: bool,
    /// What it is held to.
    pub(crate) limits: &'a Limits,
}

/// A started command, seen from the guest. Descriptors do not block.
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    /// Standard output, or the terminal.
    pub(crate) stdout: OwnedFd,
    /// Standard error; absent with a terminal.
    pub(crate) stderr: Option<OwnedFd>,
}

/// Starts a command. An error is one of the guest; a program that cannot be run is a child that
/// ends with 126 or 127 and says why on its standard error, as from a shell.
pub(crate) fn spawn(plan: &Plan<'_>) -> io::Result<Spawned> {
    let child = Child::prepare(plan)?;
    match plan.tty {
        Some(size) => spawn_on_terminal(plan, size, &child),
        None => spawn_on_pipes(plan, &child),
    }
}

fn spawn_on_pipes(plan: &Plan<'_>, child: &Child<'_>) -> io::Result<Spawned> {
    let input = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let (stdout, stdout_inside) = output_pipe()?;
    let (stderr, stderr_inside) = output_pipe()?;
    let stdio = [input.as_fd(), stdout_inside.as_fd(), stderr_inside.as_fd()];
    let pid = oom::with_score_of_commands(|| sys::fork(stdio, || child.run(plan)))?;
    Ok(Spawned { pid, stdout, stderr: Some(stderr) })
}

fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    // Only the guest's end: the flag belongs to that end's open file, not to the pipe.
    rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    // Past the user's limit of pipe memory this is refused, and a small pipe does as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&ours, PIPE_SIZE);
    Ok((ours, theirs))
}

fn spawn_on_terminal(
    plan: &Plan<'_>,
    (rows, columns): (u16, u16),
    child: &Child<'_>,
) -> io::Result<Spawned> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let (master, slave) = {
        // A terminal belongs to whoever opens it; commands have to be able to open it by name.
        let _commands = plan.identity.assume()?;
        let master = openpt(flags)?;
        unlockpt(&master)?;
        // Not by name: that would need the terminal's own file system at a known place.
        let slave = ioctl_tiocgptpeer(&master, flags).map_err(|error| match error {
            // A kernel without this call, like gVisor's, has terminals that cannot be opened by
            // their name either, and that interrupt nobody.
            Errno::NOTTY | Errno::INVAL | Errno::NOSYS => io::ErrorKind::Unsupported.into(),
            other => io::Error::from(other),
        })?;
        (master, slave)
    };
    tcsetwinsize(&slave, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;
    let stdio = [slave.as_fd(), slave.as_fd(), slave.as_fd()];
    let pid = oom::with_score_of_commands(|| sys::fork(stdio, || child.run(plan)))?;
    Ok(Spawned { pid, stdout: master, stderr: None })
}

/// What the child needs, made before the fork.
struct Child<'a> {
    argv: Vec<CString>,
    environment: Vec<CString>,
    candidates: Vec<CString>,
    name: &'a str,
}

impl<'a> Child<'a> {
    fn prepare(plan: &Plan<'a>) -> io::Result<Self> {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::INVAL.into());
        let name = plan.argv.first().ok_or(Errno::INVAL)?;
        let argv = plan.argv.iter().map(|arg| text(arg.as_bytes())).collect::<io::Result<_>>()?;
        let environment = plan
            .environment
            .iter()
            .map(|(name, value)| text(format!("{name}={value}").as_bytes()))
            .collect::<io::Result<_>>()?;
        let candidates = if name.contains('/') {
            vec![text(name.as_bytes())?]
        } else {
            let path = plan.environment.get("PATH").map_or(DEFAULT_PATH, String::as_str);
            path.split(':')
                .map(|folder| if folder.is_empty() { "." } else { folder })
                .map(|folder| text(format!("{folder}/{name}").as_bytes()))
                .collect::<io::Result<_>>()?
        };
        Ok(Self { argv, environment, candidates, name })
    }

    /// Runs in the child: becomes the command, or says why not.
    fn run(&self, plan: &Plan<'_>) -> ! {
        let (code, reason) = match enter(plan) {
            Ok(()) => self.exec(),
            Err((step, error)) => (126, format!("cannot {step}: {error}")),
        };
        let message = format!("moat: {}: {reason}\n", self.name);
        let _ = rustix::io::write(rustix::stdio::stderr(), message.as_bytes());
        sys::exit(code)
    }

    fn exec(&self) -> (i32, String) {
        let mut refused = None;
        for candidate in &self.candidates {
            let error = sys::exec(candidate, &self.argv, &self.environment);
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                _ => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(error) => (126, format!("cannot be run: {error}")),
            None => (127, "not found".to_owned()),
        }
    }
}

/// Gives up everything that the guest has and a command must not have.
fn enter(plan: &Plan<'_>) -> Result<(), (String, io::Error)> {
    let step = |name: &'static str| move |error: Errno| (name.to_owned(), error.into());
    if stands("session") {
        rustix::process::setsid().map_err(step("begin a session"))?;
    }
    if plan.tty.is_some() {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
            .map_err(step("take the terminal"))?;
    }
    sys::set_mark(plan.mark);
    plan.limits.restrict();
    plan.identity.become_for_good().map_err(|error| ("change the user".to_owned(), error))?;
    if stands("capabilities") {
        plan.identity.drop_capabilities().map_err(step("drop capabilities"))?;
    }
    if stands("no-new-privileges") {
        rustix::thread::set_no_new_privs(true).map_err(step("set no_new_privs"))?;
    }
    if plan.tied {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .map_err(step("set the death signal"))?;
    }
    rustix::process::chdir(&plan.cwd)
        .map_err(|error| (format!("enter `{}`", plan.cwd.display()), error.into()))
}

/// Paths of commands are bytes, whatever their encoding.
pub(crate) fn path_from_bytes(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}
