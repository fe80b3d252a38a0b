//! `exec_command` and `write_stdin`.

use std::path::Path;
use std::time::{Duration, Instant};

use moat_core::{CallKey, CallReport, Hash, OutputReport, SandboxLimitReached, SessionReport};
use moat_sandbox::{Command, GuestError, Root};

use super::{CallEnd, SandboxCall, path};
use crate::compute::{CallContext, ComputeError, Process, Progress, keep};
use crate::exec_reply::{self, ExecArguments, Reply, StdinArguments};
use crate::truncate::{OutputWindow, Stream, Style};

/// Rows and columns of a terminal that nobody looks at.
const TERMINAL: (u16, u16) = (24, 80);
/// How long a command that was killed may take to end.
const KILL_GRACE: Duration = Duration::from_secs(5);
const SIGKILL: i32 = 9;
/// Refusals of the network that one reply tells of.
const MOST_DENIALS: usize = 5;

pub(super) async fn exec_command(
    context: &CallContext,
    call: &SandboxCall,
) -> Result<CallEnd, ComputeError> {
    let arguments = match ExecArguments::parse(&call.run.arguments) {
        Ok(arguments) => arguments,
        Err(invalid) => return Ok(CallEnd::refused(invalid.to_string())),
    };
    let (began, denials) = (Instant::now(), context.denials.as_ref().map_or(0, |all| all.mark()));
    let command = Command {
        key: call.run.key,
        argv: arguments.argv(),
        cwd: path::working_folder(arguments.workdir.as_deref()),
        environment: Default::default(),
        tty: arguments.tty.then_some(TERMINAL),
        user: None,
    };
    match context.guest.start(&command).await {
        Ok(_) => {}
        Err(error @ (GuestError::Os { .. } | GuestError::Unsupported(_))) => {
            return Ok(CallEnd::refused(format!("exec_command failed: {error}")));
        }
        Err(error) => return Err(error.into()),
    }
    let tap = (call.run.call_id.clone(), call.observer.clone());
    let process = context.process(call.run.key, Some(tap)).await?;
    let limit = arguments.timeout_ms.map(Duration::from_millis);
    let wait = limit.map_or(arguments.wait(), |limit| limit.min(arguments.wait()));
    let mut progress = process.wait(wait).await;
    let timed_out = limit.is_some_and(|limit| began.elapsed() >= limit) && progress.exit.is_none();
    if timed_out && !progress.lost {
        context.guest.signal(call.run.key, SIGKILL).await?;
        progress = process.wait(KILL_GRACE).await;
    }
    let notice = arguments.timeout_ms.filter(|_| timed_out).map(exec_reply::timeout_notice);
    Piece {
        process_key: call.run.key,
        session: call.run.session,
        tty: arguments.tty,
        command: arguments.cmd.clone(),
        tokens: arguments.output_tokens(),
        reported: 0,
        began,
        notice,
        is_session: false,
        denials,
    }
    .reply(context, call, &process, progress)
    .await
}

pub(super) async fn write_stdin(
    context: &CallContext,
    call: &SandboxCall,
) -> Result<CallEnd, ComputeError> {
    let arguments = match StdinArguments::parse(&call.run.arguments) {
        Ok(arguments) => arguments,
        Err(invalid) => return Ok(CallEnd::refused(invalid.to_string())),
    };
    let (began, denials) = (Instant::now(), context.denials.as_ref().map_or(0, |all| all.mark()));
    let id = u32::try_from(arguments.session_id).ok();
    let Some(session) = id.and_then(|id| call.sessions.get(&id)) else {
        let text = exec_reply::unknown_session(arguments.session_id);
        return Ok(refused(call, began, &text));
    };
    if !arguments.chars.is_empty() {
        if !session.tty {
            return Ok(refused(call, began, exec_reply::STDIN_CLOSED));
        }
        let bytes = arguments.chars.as_bytes();
        match context.guest.write_stdin(session.process, call.run.key, bytes).await {
            // It has ended: what it wrote last is still to be told.
            Ok(()) | Err(GuestError::StdinClosed) => {}
            Err(GuestError::UnknownKey(_)) => {
                let text = exec_reply::unknown_session(arguments.session_id);
                return Ok(refused(call, began, &text));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let tap = (call.run.call_id.clone(), call.observer.clone());
    let process = match context.process(session.process, Some(tap)).await {
        Ok(process) => process,
        Err(ComputeError::Guest(GuestError::UnknownKey(_))) => {
            let text = exec_reply::unknown_session(arguments.session_id);
            return Ok(refused(call, began, &text));
        }
        Err(error) => return Err(error),
    };
    let progress = process.wait(arguments.wait()).await;
    Piece {
        process_key: session.process,
        session: session.id,
        tty: session.tty,
        command: session.command.clone(),
        tokens: arguments.output_tokens(),
        reported: session.reported,
        began,
        notice: None,
        is_session: true,
        denials,
    }
    .reply(context, call, &process, progress)
    .await
}

/// A reply of the usual form that says why nothing was done.
fn refused(call: &SandboxCall, began: Instant, text: &str) -> CallEnd {
    let reply = Reply {
        chunk_id: &chunk_id(call.run.session, 0),
        wall_seconds: began.elapsed().as_secs_f64(),
        exit_code: Some(1),
        output: text,
        ..Reply::default()
    };
    CallEnd::refused(reply.render())
}

/// The piece of a command's output that one reply gives.
struct Piece {
    process_key: CallKey,
    session: u32,
    tty: bool,
    command: String,
    tokens: u32,
    /// Bytes that earlier replies gave.
    reported: u64,
    began: Instant,
    notice: Option<String>,
    is_session: bool,
    /// What the network had refused when the call began.
    denials: u64,
}

impl Piece {
    async fn reply(
        self,
        context: &CallContext,
        call: &SandboxCall,
        process: &Process,
        progress: Progress,
    ) -> Result<CallEnd, ComputeError> {
        if let Some(reason) = progress.failed {
            return Err(ComputeError::Output(reason));
        }
        if progress.lost && progress.exit.is_none() {
            return Ok(CallEnd::SandboxLost);
        }
        let mut cursor = process.cursor.lock().await;
        let from = self.reported.max(*cursor).min(progress.length);
        let mut to = progress.length;
        let mut window = OutputWindow::new(self.tokens, Style::Tool);
        if let Some(notice) = &self.notice {
            window.push_text(&format!("{notice}\n"));
        }
        process.read(from, to, |bytes| window.push(Stream::Stdout, bytes))?;
        if progress.exit.is_none() {
            // The rest of that code point comes with the next piece.
            to -= window.undecoded() as u64;
            window.forget_undecoded();
        }
        let output = match window.overflowed() {
            true => Some(self.keep_whole(context, call, process, (from, to), &progress).await?),
            false => None,
        };
        *cursor = to;
        let cut = window.finish();
        let running = progress.exit.is_none();
        let denied = context.denials.as_ref();
        let denied = denied.map(|all| all.since(self.denials, MOST_DENIALS)).unwrap_or_default();
        let code = progress.exit.as_ref().map(|exit| exit.code);
        let reached = progress.exit.as_ref().and_then(|exit| exit.limit.as_ref());
        let text = Reply {
            chunk_id: &chunk_id(call.run.session, from),
            wall_seconds: self.began.elapsed().as_secs_f64(),
            exit_code: code.filter(|_| self.notice.is_none()),
            limit: reached.map(limit_text).as_deref(),
            denied: &denied,
            session_id: running.then_some(i64::from(self.session)),
            original_tokens: cut.original_tokens,
            full_output: output.as_ref().and_then(|output| output.path.as_deref()),
            output: &cut.text,
        }
        .render();
        let session = (running || self.is_session).then(|| SessionReport {
            id: self.session,
            process: self.process_key,
            reported: to,
            running,
            tty: self.tty,
            command: self.command.clone(),
        });
        let report = CallReport {
            exit_code: code,
            wall_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            session,
            output,
            limit: reached.cloned(),
            metered: progress.exit.as_ref().and_then(|exit| exit.metered),
            ..CallReport::default()
        };
        Ok(CallEnd::text(text, report))
    }

    async fn keep_whole(
        &self,
        context: &CallContext,
        call: &SandboxCall,
        process: &Process,
        range: (u64, u64),
        progress: &Progress,
    ) -> Result<OutputReport, ComputeError> {
        // Not the event's number: the model is told this path, and is to be told the same one
        // whether or not something was done again on the way.
        let name = format!("{}.txt", call.run.session);
        let path = Root::Outputs.path().join(&name);
        let blob = keep(context, process, range, Path::new(&name)).await?;
        Ok(OutputReport {
            blob: Some(blob),
            bytes: range.1 - range.0,
            path: Some(path.to_string_lossy().into_owned()),
            dropped: progress.dropped,
        })
    }
}

/// What the model is told about a limit that the command reached.
fn limit_text(reached: &SandboxLimitReached) -> String {
    match reached.ended {
        true => format!("{reached}; the command was killed"),
        false => reached.to_string(),
    }
}

/// Six hexadecimal digits that are the same whenever this piece is given. `call` is its number in
/// the run.
fn chunk_id(call: u32, from: u64) -> String {
    let hash = Hash::of(format!("{call}.{from}").as_bytes()).to_string();
    hash.chars().take(6).collect()
}
