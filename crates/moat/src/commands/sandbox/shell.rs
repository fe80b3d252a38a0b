//! `shell`: a terminal in a sandbox.
//!
//! The caller's terminal goes to raw mode: every key, Ctrl-C too, goes inside, where the terminal of
//! the command makes of it what it should. It is set back whatever ends this.

mod keys;
mod raw;

use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;
use moat_core::{CallKey, Seq};
use moat_sandbox::{Command, Guest, GuestError, ProcessEvent, ProcessExit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::Receiver;

use super::network::Shared;
use super::process::{code, command};
use super::{Place, say};
use crate::cli::SandboxShellArgs;
use crate::config::variable;
use crate::escape::escape;
use crate::exit::{Exit, usage};
use keys::Keys;
use raw::RawTerminal;

/// Becomes the sandbox's shell, without what makes output fit for models.
const START: &str = "unset NO_COLOR PAGER GIT_PAGER GIT_TERMINAL_PROMPT DEBIAN_FRONTEND
shell=${SHELL:-/bin/sh}
case $shell in
*/bash) PS1='\\[\\e[32m\\]'$MOAT_SANDBOX'\\[\\e[0m\\]:\\w\\$ ' ;;
*) PS1=$MOAT_SANDBOX'$ ' ;;
esac
export PS1
exec \"$shell\" -i";

const SIGHUP: i32 = 1;

pub(super) async fn shell(place: &Place, args: SandboxShellArgs) -> anyhow::Result<Exit> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(usage(
            "`shell` needs a terminal; `moat sandbox exec` runs a command without one",
        ));
    }
    let found = place.find(&args.sandbox).await?;
    let argv = match args.command.is_empty() {
        true => ["/bin/sh", "-c", START].map(str::to_owned).to_vec(),
        false => args.command,
    };
    let environment = [
        Some(("TERM".to_owned(), variable("TERM").unwrap_or_else(|| "xterm".to_owned()))),
        variable("COLORTERM").map(|value| ("COLORTERM".to_owned(), value)),
        Some(("MOAT_SANDBOX".to_owned(), found.record.shown().to_owned())),
    ];
    let environment = environment.into_iter().flatten().collect();
    let command =
        Command { tty: Some(raw::size()), ..command(argv, args.dir, environment, args.user) };
    let guest = found.sandbox.guest();
    let mut network = Shared::of(place, &found, &args.network, Some(command.key)).await?;
    guest.start(&command).await?;
    let ended = on_terminal(&*guest, command.key).await;
    let left = network.end_left(&*guest).await;
    // What is not released goes with the sandbox; one that still runs ends here.
    let _ = guest.release(command.key).await;
    network.tell();
    let exit = ended?;
    left?;
    if let Some(limit) = &exit.limit {
        say(&format!("limit reached: {}", escape(&limit.to_string())));
    }
    Ok(Exit::Passed(code(&exit)))
}

/// Joins the caller's terminal with that of the process, until the process ends.
async fn on_terminal(guest: &dyn Guest, process: CallKey) -> anyhow::Result<ProcessExit> {
    let mut events = guest.attach(process, 0).await?;
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let mut resized = listen(SignalKind::window_change())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let _raw = RawTerminal::enter()?;
    let keys = Keys::read()?;
    let typing = type_in(guest, process, keys);
    tokio::pin!(typing);
    let mut typed_all = false;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(ProcessEvent::Output { offset, bytes, .. }) => {
                    write(&bytes)?;
                    guest.acknowledge(process, offset.saturating_add(bytes.len() as u64)).await?;
                }
                Some(ProcessEvent::Exited(exit)) => return Ok(exit),
                Some(ProcessEvent::Disconnected) | None => {
                    anyhow::bail!("the sandbox ended before the terminal did")
                }
            },
            ended = &mut typing, if !typed_all => {
                ended?;
                typed_all = true;
            }
            _ = resized.recv() => {
                let (rows, columns) = raw::size();
                guest.resize(process, rows, columns).await?;
            }
            // The window was closed: what ran in it is told, as by any terminal.
            _ = terminate.recv() => guest.signal(process, SIGHUP).await?,
            _ = hangup.recv() => {
                guest.signal(process, SIGHUP).await?;
                anyhow::bail!("the terminal is gone");
            }
        }
    }
}

/// Sends what is typed, in its order, until nothing can be typed any more.
async fn type_in(guest: &dyn Guest, process: CallKey, mut keys: Keys) -> anyhow::Result<()> {
    let mut call = CallKey { seq: Seq(1), ..process };
    let typed: &mut Receiver<Vec<u8>> = keys.typed();
    while let Some(bytes) = typed.recv().await {
        match guest.write_stdin(process, call, &bytes).await {
            Ok(()) => {}
            // It has just ended, which the other side of the terminal tells.
            Err(GuestError::StdinClosed | GuestError::UnknownKey(_)) => break,
            Err(error) => return Err(error.into()),
        }
        call.seq.0 += 1;
    }
    Ok(())
}

fn write(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}
