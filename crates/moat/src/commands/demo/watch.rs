//! Watches the demo's run through its journal, and kills.

use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use moat_core::{EventBody, RunId, Seq};
use moat_harness::decode;
use moat_harness::driver::Observer as _;
use moat_journal::Events;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::say;
use crate::engine::Engine;
use crate::view::{Live, Style};

/// How often it is looked whether the harness is still there while no event comes.
const LOOK: Duration = Duration::from_millis(500);

/// Why watching stopped.
pub(super) enum Seen {
    /// The run is over.
    End,
    /// The harness was killed and has to be started again.
    HarnessKilled,
}

pub(super) struct Watch<'a> {
    engine: &'a Engine,
    run: RunId,
    style: Style,
    view: Arc<Live>,
    calm: bool,
    seen: Seq,
    events: Option<Events>,
    sandbox: Option<i32>,
    patches: u32,
    sandbox_killed: bool,
    harness_killed: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(engine: &'a Engine, run: RunId, style: Style, calm: bool) -> Self {
        Self {
            engine,
            run,
            style,
            view: Live::start(style),
            calm,
            seen: Seq(0),
            events: None,
            sandbox: None,
            patches: 0,
            sandbox_killed: false,
            harness_killed: false,
        }
    }

    /// Shows events until the run is over or its harness was killed.
    pub(super) async fn until_something(
        &mut self,
        child: &mut Child,
        harness: u32,
    ) -> anyhow::Result<Seen> {
        loop {
            let mut events = match self.events.take() {
                Some(events) => events,
                None => {
                    let journal = &self.engine.journal;
                    journal.follow(&self.engine.tenant, self.run, self.seen).await?
                }
            };
            let next = tokio::time::timeout(LOOK, events.next()).await;
            self.events = Some(events);
            let stored = match next {
                Ok(Some(stored)) => stored?,
                Ok(None) => anyhow::bail!("the journal cannot be followed any more"),
                Err(_) if child.try_wait()?.is_some() => return Ok(Seen::End),
                Err(_) => continue,
            };
            let event = decode(stored)?;
            self.seen = event.header.seq;
            self.view.event(&event);
            match &event.body {
                EventBody::SandboxAttached(attached) => self.sandbox = pid_of(&attached.handle),
                EventBody::CallFinished(finished) if !finished.report.changed.is_empty() => {
                    self.patches += 1;
                }
                EventBody::CallStarted(started)
                    if started.tool == "exec_command" && self.kill_what_is_due(harness)? =>
                {
                    return Ok(Seen::HarnessKilled);
                }
                EventBody::RunFinished(_)
                | EventBody::RunPaused(_)
                | EventBody::LimitReached(_) => {
                    return Ok(Seen::End);
                }
                _ => {}
            }
        }
    }

    /// After the first patch the sandbox, after the second the harness. `true`: the harness.
    fn kill_what_is_due(&mut self, harness: u32) -> anyhow::Result<bool> {
        if self.calm {
            return Ok(false);
        }
        if self.patches == 1 && !self.sandbox_killed {
            self.sandbox_killed = true;
            let pid = self.sandbox.context("the run has no sandbox to kill")?;
            say(&self
                .style
                .bad(&format!("── kill -9 {pid}: the sandbox, while a command runs in it")));
            kill(pid)?;
        } else if self.patches == 2 && !self.harness_killed {
            self.harness_killed = true;
            say(&self
                .style
                .bad(&format!("── kill -9 {harness}: the harness, while a command runs")));
            kill(i32::try_from(harness)?)?;
            return Ok(true);
        }
        Ok(false)
    }
}

fn kill(pid: i32) -> anyhow::Result<()> {
    let pid = Pid::from_raw(pid).context("that is no process")?;
    kill_process(pid, Signal::KILL).context("cannot kill it")
}

fn pid_of(handle: &Value) -> Option<i32> {
    handle.pointer("/process/pid")?.as_i64()?.try_into().ok()
}
