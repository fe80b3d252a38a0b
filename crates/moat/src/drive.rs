//! Driving a run from the command line, to its end and its exit code.

mod authorities;
mod stop;

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use futures_util::future::LocalBoxFuture;
use moat_core::RunOutcome;
use moat_harness::driver::{Driver, status_word};
use moat_harness::machine::{State, Status};
use serde_json::{Value, json};

use crate::cli::OutputArgs;
use crate::engine::Engine;
use crate::escape::escape;
use crate::exit::Exit;
use crate::view::{self, observer};

pub(crate) use stop::Stop;

/// A run that was driven to a stop. Its result is told last of all, by [`Driven::finish`].
pub(crate) struct Driven {
    pub(crate) exit: Exit,
    pub(crate) state: State,
    began: Instant,
    /// From now on a signal ends the process: nothing is being driven any more.
    signals: tokio::task::JoinHandle<()>,
}

impl Driven {
    /// Says how the run ended.
    pub(crate) fn finish(self, output: &OutputArgs) -> Exit {
        if output.json {
            view::print_line(&result_line(&self.state, self.exit, self.began));
        }
        self.signals.abort();
        self.exit
    }
}

/// Drives a run and shows it.
pub(crate) fn drive<'a>(
    engine: &'a Engine,
    driver: Driver,
    output: &'a OutputArgs,
) -> LocalBoxFuture<'a, anyhow::Result<Driven>> {
    // A driver is large, and whoever waits for this would hold it.
    Box::pin(async move {
        let began = Instant::now();
        let mut driver = driver.observed_by(observer(output.json, engine.quiet, engine.style()));
        let over = Arc::new(AtomicBool::new(false));
        let interrupt = driver.interrupt();
        let signals = tokio::spawn(on_signals(over.clone(), move || interrupt.pause()));
        let driven = driver.drive().await;
        over.store(true, Ordering::Relaxed);
        let run = driver.run();
        if let Err(error) = driven {
            let resume = format!("the run is kept: `moat resume {run}` goes on with it");
            if output.json {
                view::print_line(&json!({
                    "v": 1, "type": "error", "run": run, "message": error.to_string(), "resume": format!("moat resume {run}"),
                }));
            }
            return Err(anyhow::Error::from(error).context(resume));
        }
        let state = driver.state().clone();
        drop(driver);
        remove_ended_sandboxes(engine).await;
        let exit = Exit::of(&state);
        let message = state.last_message().unwrap_or_default();
        if !output.json {
            print_message(&state, &message, engine);
        }
        if let Some(path) = &output.output {
            write_message(path, &message)?;
        }
        Ok(Driven { exit, state, began, signals })
    })
}

/// What sandboxes left that ended by themselves, of runs that nobody took up again.
pub(crate) async fn remove_ended_sandboxes(engine: &Engine) {
    if let Ok(sandboxes) = engine.sandboxes() {
        // The next run tries again.
        let reap_mounts = engine.reap_mounts();
        let _ = sandboxes.reap().await;
        let _ = tokio::task::spawn_blocking(reap_mounts).await;
        let _ = authorities::remove_left(engine).await;
    }
}

/// The first signal asks for an orderly stop, which leaves runs resumable; a second one ends the
/// process at once, which loses nothing either.
async fn on_signals(over: Arc<AtomicBool>, stop: impl Fn() + Send) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut hangup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return;
    };
    for first in [true, false] {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = term.recv() => {}
            _ = hangup.recv() => {}
        }
        if first && !over.load(Ordering::Relaxed) {
            stop();
        } else {
            std::process::exit(Exit::Interrupted.code().into());
        }
    }
}

fn result_line(state: &State, exit: Exit, began: Instant) -> Value {
    let usage = state.usage();
    let (output, error) = match state.status() {
        Status::Finished(RunOutcome::Final { output }) => (output.clone(), Value::Null),
        Status::Finished(RunOutcome::Error { error, message }) => {
            (Value::Null, json!({ "kind": error, "message": message }))
        }
        Status::Limited { limit, value } => {
            (Value::Null, json!({ "kind": "limit", "message": format!("{limit}: {value}") }))
        }
        Status::Paused(reason, message) => {
            (Value::Null, json!({ "kind": reason, "message": message }))
        }
        _ => (Value::Null, Value::Null),
    };
    json!({
        "v": 1,
        "type": "result",
        "run": state.run(),
        "status": status_word(state),
        "exit_code": exit.code(),
        "output": output,
        "error": error,
        "last_message": state.last_message(),
        "turns": state.total_turns(),
        "usage": usage,
        "cost_usd": state.cost().as_usd(),
        "seconds": began.elapsed().as_secs_f64(),
    })
}

/// The last message goes to standard output, alone, so that it can be piped.
fn print_message(state: &State, message: &str, engine: &Engine) {
    use std::io::IsTerminal as _;
    let streamed_already = std::io::stdout().is_terminal() && !engine.quiet;
    if matches!(state.status(), Status::Finished(RunOutcome::Final { .. })) && !streamed_already {
        let shown =
            if std::io::stdout().is_terminal() { escape(message) } else { message.to_owned() };
        // A reader that went away is no reason to fail.
        let _ = writeln!(std::io::stdout().lock(), "{shown}");
    }
    if let Some(run) = state.run() {
        let next = match Exit::of(state) {
            Exit::Waiting => format!("next: moat approvals {run}"),
            Exit::Limit => format!("next: moat resume {run} with a raised limit"),
            Exit::Paused | Exit::Interrupted | Exit::HostCannot => {
                format!("next: moat resume {run}")
            }
            _ => return,
        };
        if !engine.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{next}");
        }
    }
}

/// Whole or not at all: a reader never sees half a message.
fn write_message(path: &Path, message: &str) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    file.write_all(message.as_bytes())?;
    file.persist(path).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(())
}
