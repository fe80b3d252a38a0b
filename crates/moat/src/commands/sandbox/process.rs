//! One command whose output and exit code are passed through.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use moat_core::{CallKey, RunId, Seq};
use moat_sandbox::{Command, Guest, OutputStream, ProcessEvent, ProcessExit};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::say;
use crate::escape::{Escaping, escape};
use crate::exit::Exit;

/// Exit code of a command that was ended by a limit of its sandbox.
const LIMIT_EXIT: u8 = 137;
const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;

/// How long a command may take to end after it was interrupted.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A command, under a key that was never used.
pub(super) fn command(
    argv: Vec<String>,
    cwd: PathBuf,
    environment: Vec<(String, String)>,
    user: Option<String>,
) -> Command {
    let key = CallKey { run: RunId::generate(), seq: Seq(0), index: 0, attempt: 1 };
    Command { key, argv, cwd, environment: environment.into_iter().collect(), tty: None, user }
}

/// Runs a command to its end, and then, while it can still be spoken of, does `at_end`. With `json`,
/// how it ended goes to standard error as well.
pub(super) async fn run(
    guest: &dyn Guest,
    command: &Command,
    json: bool,
    at_end: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Exit> {
    let mut interrupts = Interrupts::new()?;
    guest.start(command).await?;
    let passed = pass_through(guest, command.key, &mut interrupts).await;
    at_end().await?;
    let exit = passed?;
    // What is not released goes with the sandbox.
    let _ = guest.release(command.key).await;
    if json {
        say(&described(&exit).to_string());
    } else if let Some(limit) = &exit.limit {
        say(&format!("limit reached: {}", escape(&limit.to_string())));
    }
    Ok(Exit::Passed(code(&exit)))
}

/// The exit code that stands for how a process ended. A signal's number shows as 128 and more, as
/// in a shell.
pub(super) fn code(exit: &ProcessExit) -> u8 {
    if exit.limit.as_ref().is_some_and(|limit| limit.ended) {
        return LIMIT_EXIT;
    }
    let code = exit.code;
    let code = if code < 0 { 128_i32.saturating_add(code.saturating_neg()) } else { code };
    u8::try_from(code & 0xff).unwrap_or(u8::MAX)
}

/// How a process ended; shape version 1, documented in `docs/json.md`.
fn described(exit: &ProcessExit) -> Value {
    json!({
        "v": 1,
        "type": "exit",
        "exit_code": code(exit),
        "signal": (exit.code < 0).then(|| exit.code.saturating_neg()),
        "limit": exit.limit,
        "metered": exit.metered,
        "wall_ms": exit.wall_ms,
    })
}

/// What asks this process to end, and means the command.
struct Interrupts {
    interrupt: Signal,
    others: [Signal; 2],
    /// It was asked politely already.
    asked: bool,
}

impl Interrupts {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let others = [listen(SignalKind::terminate())?, listen(SignalKind::hangup())?];
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, others, asked: false })
    }

    /// The signal that the command is to get: first one that it may handle.
    async fn next(&mut self) -> i32 {
        let [terminate, hangup] = &mut self.others;
        tokio::select! {
            _ = self.interrupt.recv() => {
                let again = std::mem::replace(&mut self.asked, true);
                if again { SIGKILL } else { SIGINT }
            }
            _ = terminate.recv() => SIGKILL,
            _ = hangup.recv() => SIGKILL,
            () = tokio::time::sleep(LAST_WORDS), if self.asked => SIGKILL,
        }
    }
}

async fn pass_through(
    guest: &dyn Guest,
    key: CallKey,
    interrupts: &mut Interrupts,
) -> anyhow::Result<ProcessExit> {
    let mut events = guest.attach(key, 0).await?;
    let mut outlets = Outlets::new();
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            signal = interrupts.next() => {
                guest.signal(key, signal).await?;
                continue;
            }
        };
        match event {
            Some(ProcessEvent::Output { offset, stream, bytes }) => {
                if let Err(error) = outlets.write(stream, &bytes) {
                    // The reader went away: so does the command.
                    guest.signal(key, SIGKILL).await?;
                    if error.kind() != std::io::ErrorKind::BrokenPipe {
                        return Err(error).context("cannot pass the output on");
                    }
                }
                guest.acknowledge(key, offset.saturating_add(bytes.len() as u64)).await?;
            }
            Some(ProcessEvent::Exited(exit)) => {
                outlets.finish();
                return Ok(exit);
            }
            Some(ProcessEvent::Disconnected) | None => {
                anyhow::bail!("the sandbox ended before the command did")
            }
        }
    }
}

/// Where output goes on to: as it is into files and pipes, escaped to a terminal.
struct Outlets {
    stdout: Option<Escaping>,
    stderr: Option<Escaping>,
}

impl Outlets {
    fn new() -> Self {
        Self {
            stdout: std::io::stdout().is_terminal().then(Escaping::default),
            stderr: std::io::stderr().is_terminal().then(Escaping::default),
        }
    }

    /// What came goes on at once, whether or not a line has ended.
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> std::io::Result<()> {
        let escaping = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        match escaping {
            Some(escaping) => send(stream, escaping.push(bytes).as_bytes()),
            None => send(stream, bytes),
        }
    }

    /// Whoever reads may be gone by now.
    fn finish(&mut self) {
        let all =
            [(OutputStream::Stdout, &mut self.stdout), (OutputStream::Stderr, &mut self.stderr)];
        for (stream, escaping) in all {
            let rest = escaping.as_mut().map(Escaping::finish).unwrap_or_default();
            let _ = send(stream, rest.as_bytes());
        }
    }
}

fn send(stream: OutputStream, bytes: &[u8]) -> std::io::Result<()> {
    match stream {
        OutputStream::Stdout => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        }
        OutputStream::Stderr => std::io::stderr().lock().write_all(bytes),
    }
}
