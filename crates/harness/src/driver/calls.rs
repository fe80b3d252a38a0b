//! Making the calls of an answer: intents first, then all of them side by side, then outcomes.
//!
//! Outcomes that touched no sandbox are appended as they come. Sandbox calls that run beside each
//! other have no quiet point between them, so their outcomes are appended together, with the
//! checkpoint that covers them all: conversation and files stay a pair.

use futures_util::FutureExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use moat_core::{
    ApprovalAsked, CallFailed, CallFinished, CallKey, CallReport, CallRolledBack, CallStarted,
    Category, EventBody, OnUnknown, PauseReason, ProcessLost, RunFinished, RunPaused, SandboxLost,
};
use serde_json::Value;

use super::{DriveError, Driver};
use crate::builtin::{self, CallEnd, SandboxCall};
use crate::compute::{self, Attached, Compute};
use crate::machine::{Call, CallRun, CallState, output_item};
use crate::network::forget_authority;
use crate::tool::{ToolCall, ToolOutcome};

/// What the model is told about a call whose outcome a crash hid.
const UNKNOWN: &str = "The connection to this call was lost and its outcome is unknown: it may or \
                       may not have had its effects. Check before you make it again.";

type Ends = BoxStream<'static, (CallRun, CallEnd)>;

/// How a batch of calls came to its end.
enum Batch {
    /// All have an end; these are the sandbox's.
    Complete(Vec<(CallRun, CallEnd)>),
    /// Something else comes first; what has no outcome yet is taken up again.
    Broken,
}

impl Driver {
    pub(super) async fn run_calls(&mut self, runs: Vec<CallRun>) -> Result<(), DriveError> {
        if self.settle_unknown(&runs)? {
            return Ok(());
        }
        if runs.iter().any(|run| run.sandbox) && !self.ensure_sandbox(&runs).await? {
            return Ok(());
        }
        let nonce = self.compute.as_ref().and_then(Compute::nonce);
        for run in runs.iter().filter(|run| !run.begun) {
            let started = CallStarted {
                of: run.key.seq,
                index: run.key.index,
                attempt: run.key.attempt,
                call_id: run.call_id.clone(),
                tool: run.tool.clone(),
                category: run.category,
                sandbox: nonce.clone().filter(|_| run.sandbox),
            };
            self.push("harness", started)?;
        }
        self.flush().await?;
        let ends = self.start_all(&runs);
        match self.gather(&runs, ends).await? {
            Batch::Broken => Ok(()),
            Batch::Complete(sandboxed) => self.append_with_checkpoint(sandboxed).await,
        }
    }

    /// Before new input takes the place of what a crash interrupted, every call that was begun gets
    /// an outcome, so that the model knows of it: it may have had its effects.
    pub(crate) fn tell_open_calls(&mut self) -> Result<(), DriveError> {
        let Some((of, _, calls)) = self.state.open_answer() else { return Ok(()) };
        if !calls.iter().any(|call| matches!(call.state, CallState::Started)) {
            return Ok(());
        }
        let open = |call: &&Call| !matches!(call.state, CallState::Finished { .. });
        let told: Vec<CallFinished> = calls
            .iter()
            .filter(open)
            .map(|call| {
                let begun = matches!(call.state, CallState::Started);
                let text = if begun { UNKNOWN } else { "It was not run: other work came first." };
                CallFinished {
                    of,
                    index: call.index,
                    attempt: call.attempt,
                    output: Some(output_item(call.category, &call.call_id, &Value::from(text))),
                    report: CallReport { unknown: begun, failed: true, ..CallReport::default() },
                }
            })
            .collect();
        told.into_iter().try_for_each(|event| self.push("harness", event))
    }

    /// Calls with effects outside whose outcome a crash hid follow their tool's policy.
    fn settle_unknown(&mut self, runs: &[CallRun]) -> Result<bool, DriveError> {
        let mut events: Vec<EventBody> = Vec::new();
        for run in runs.iter().filter(|run| run.begun && !run.sandbox) {
            let tools = &self.state.agent().tools;
            let policy = tools.iter().rev().find(|tool| tool.name == run.tool);
            match policy.map(|tool| tool.on_unknown).unwrap_or_default() {
                OnUnknown::Retry => {}
                OnUnknown::ReportUnknown => events.push(unknown(run)),
                OnUnknown::Ask => events.push(
                    ApprovalAsked {
                        of: run.key.seq,
                        index: run.key.index,
                        call_id: run.call_id.clone(),
                        tool: run.tool.clone(),
                        arguments: run.arguments.clone(),
                    }
                    .into(),
                ),
            }
        }
        let any = !events.is_empty();
        events.into_iter().try_for_each(|event| self.push("harness", event))?;
        Ok(any)
    }

    /// Makes sure that the sandbox is there. `false`: it is a new one and calls that were begun in
    /// the old one were rolled back, so the machine has to be asked again.
    async fn ensure_sandbox(&mut self, runs: &[CallRun]) -> Result<bool, DriveError> {
        self.prefetch_sandbox()?;
        let known = self.state.sandbox().cloned();
        let snapshot = self.state.checkpoint().map(|(_, snapshot)| snapshot);
        let outputs = self.state.outputs().to_vec();
        let epoch = self.owner.epoch();
        let Some(compute) = self.compute.as_mut() else {
            return Err(crate::compute::ComputeError::NoProvider.into());
        };
        let fresh = match compute.attach(known.as_ref(), snapshot, &outputs, epoch).await? {
            Attached::Same => return Ok(true),
            Attached::Again => {
                let sessions = self.state.sessions().values().map(|session| session.process);
                let known = sessions.chain(runs.iter().map(|run| run.key)).collect();
                compute.release_all_but(&known).await?;
                return Ok(true);
            }
            Attached::Fresh(fresh) => fresh,
        };
        if let Some(lost) = known {
            let reason = fresh.reason_lost;
            self.push("harness", SandboxLost { nonce: lost.nonce, reason })?;
        }
        let begun: Vec<_> = runs.iter().filter(|run| run.begun && run.sandbox).collect();
        for run in &begun {
            let (of, index, attempt) = (run.key.seq, run.key.index, run.key.attempt);
            self.push("harness", CallRolledBack { of, index, attempt })?;
        }
        for session in self.state.sessions().clone().into_values() {
            let (session, command) = (session.id, session.command);
            self.push("harness", ProcessLost { session, command })?;
        }
        self.push("harness", fresh.attached)?;
        if let Some(rehydrated) = fresh.rehydrated {
            self.push("harness", rehydrated)?;
        }
        Ok(begun.is_empty())
    }

    /// Starts every call at once, as categories allow. Nothing runs before it is polled.
    fn start_all(&self, runs: &[CallRun]) -> Ends {
        let limit = self.state.options().max_tool_concurrency;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(runs.len());
        let mut lanes: Vec<Ends> = Vec::new();
        let mut categories: Vec<Category> = runs.iter().map(|run| run.category).collect();
        categories.sort_unstable();
        categories.dedup();
        for category in categories {
            let width = if category == Category::Function { limit.max(1) } else { 1 };
            let lane = runs.iter().filter(|run| run.category == category).cloned();
            let calls: Vec<_> = lane.map(|run| self.start_one(run)).collect();
            lanes.push(stream::iter(calls).buffer_unordered(width).boxed());
        }
        stream::select_all(lanes).boxed()
    }

    fn start_one(
        &self,
        run: CallRun,
    ) -> futures_util::future::BoxFuture<'static, (CallRun, CallEnd)> {
        if run.sandbox {
            let context = self.compute.as_ref().and_then(Compute::context);
            let call = SandboxCall {
                run: run.clone(),
                sessions: self.state.sessions().clone(),
                observer: self.observer.clone(),
            };
            return async move {
                let end = match context {
                    Some(context) => builtin::run(&context, &call).await,
                    None => CallEnd::SandboxLost,
                };
                (run, end)
            }
            .boxed();
        }
        let tool = self.parts.tools.get(&run.tool).cloned();
        let call = ToolCall {
            key: run.key,
            call_id: run.call_id.clone(),
            tool: run.tool.clone(),
            arguments: run.arguments.clone(),
        };
        async move {
            let end = match tool {
                None => CallEnd::Raise {
                    error: "UserError".to_owned(),
                    message: format!(
                        "the tool `{}` is part of the run but this program does not have it",
                        run.tool
                    ),
                },
                Some(tool) => match tool.call(call).await {
                    ToolOutcome::Output { output, failed } => CallEnd::Done {
                        output: output.output,
                        report: Box::new(CallReport {
                            failed,
                            value: output.value,
                            ..CallReport::default()
                        }),
                    },
                    ToolOutcome::Raise { error, message } => {
                        CallEnd::Raise { error: error.to_owned(), message }
                    }
                },
            };
            (run, end)
        }
        .boxed()
    }

    async fn gather(&mut self, runs: &[CallRun], mut ends: Ends) -> Result<Batch, DriveError> {
        let mut sandboxed = Vec::new();
        let mut left = runs.len();
        loop {
            let (run, end) = tokio::select! {
                biased;
                next = ends.next() => match next {
                    Some(next) => next,
                    None => return Ok(Batch::Complete(sandboxed)),
                },
                () = self.interrupt.wait() => {
                    let message = String::new();
                    self.push("harness", RunPaused { reason: PauseReason::User, message })?;
                    return Ok(Batch::Broken);
                }
                () = self.owner.inbox_changed() => {
                    if self.is_cancelled().await? {
                        drop(ends);
                        self.kill(runs).await;
                        // What has ended keeps its outcome; the rest is told as cancelled.
                        self.append_with_checkpoint(sandboxed).await?;
                        return Ok(Batch::Broken);
                    }
                    continue;
                }
            };
            left = left.saturating_sub(1);
            match end {
                CallEnd::SandboxLost => {
                    if let Some(compute) = &mut self.compute {
                        compute.lose();
                    }
                    return Ok(Batch::Broken);
                }
                CallEnd::Host(error) => return Err(error.into()),
                CallEnd::Raise { error, message } => {
                    self.append_with_checkpoint(sandboxed).await?;
                    self.push("harness", failed(&run, error, message))?;
                    return self.drain(ends);
                }
                end if run.sandbox => sandboxed.push((run, end)),
                CallEnd::Done { output, report } => {
                    self.push("harness", finished(&run, &output, *report))?;
                    if left > 0 {
                        self.flush().await?;
                    }
                }
            }
        }
    }

    /// After one call has ended the run, others that are at their end are heard, the rest given up.
    fn drain(&mut self, mut ends: Ends) -> Result<Batch, DriveError> {
        while let Some(Some((run, end))) = ends.next().now_or_never() {
            match end {
                CallEnd::Raise { error, message } => {
                    self.push("harness", failed(&run, error, message))?;
                }
                CallEnd::Done { output, report } if !run.sandbox => {
                    self.push("harness", finished(&run, &output, *report))?;
                }
                _ => {}
            }
        }
        Ok(Batch::Broken)
    }

    async fn append_with_checkpoint(
        &mut self,
        mut sandboxed: Vec<(CallRun, CallEnd)>,
    ) -> Result<(), DriveError> {
        let Some(compute) = self.compute.as_mut().filter(|_| !sandboxed.is_empty()) else {
            return Ok(());
        };
        let touched = sandboxed.iter().any(|(_, end)| end.may_have_changed_files());
        let checkpoint = match touched {
            true => match compute.checkpoint().await {
                Ok(checkpoint) => checkpoint,
                Err(error) if error.is_lost() => {
                    compute.lose();
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            },
            false => None,
        };
        self.record_decisions()?;
        sandboxed.sort_by_key(|(run, _)| (run.category, run.key.index));
        end_sessions_together(&mut sandboxed);
        for (run, end) in sandboxed {
            if let (Some(compute), Some(key)) = (&mut self.compute, done_with(&run, &end)) {
                compute.release_later(key);
            }
            if let CallEnd::Done { output, report } = end {
                self.push("harness", finished(&run, &output, *report))?;
            }
        }
        match checkpoint {
            Some(checkpoint) => self.push("harness", checkpoint),
            None => Ok(()),
        }
    }

    /// What the sandbox's network let through and refused meanwhile.
    fn record_decisions(&mut self) -> Result<(), DriveError> {
        match self.compute.as_ref().and_then(Compute::take_decisions) {
            Some(decided) => self.push("harness", decided),
            None => Ok(()),
        }
    }

    /// Before a run ends, what background commands have written so far is saved.
    pub(super) async fn save_before_end(&mut self, events: &[EventBody]) -> Result<(), DriveError> {
        self.record_decisions()?;
        let ends =
            events.iter().any(|event| matches!(event, EventBody::RunFinished(RunFinished { .. })));
        let Some(compute) = self.compute.as_mut().filter(|compute| ends && compute.is_live())
        else {
            return Ok(());
        };
        let open = !self.state.sessions().is_empty() || self.state.open_answer().is_some();
        if open && let Ok(Some(checkpoint)) = compute.checkpoint().await {
            self.push("harness", checkpoint)?;
        }
        Ok(())
    }

    async fn kill(&mut self, runs: &[CallRun]) {
        if let Some(compute) = &self.compute {
            for run in runs.iter().filter(|run| run.sandbox) {
                compute.kill(run.key).await;
            }
        }
    }

    /// Makes a sandbox ready while the model thinks, if the agent has tools that need one.
    pub(super) fn prefetch_sandbox(&mut self) -> Result<(), DriveError> {
        let needed = self.state.agent().tools.iter().any(|tool| tool.sandbox);
        if self.compute.is_none() && needed && self.parts.provider.is_some() {
            self.compute = Some(Compute::new(
                &self.parts,
                (self.run, self.state.lineage().unwrap_or(self.run)),
                self.state.sandbox_settings(),
                self.state.environment(),
            )?);
        }
        if let Some(compute) = &mut self.compute {
            let snapshot = self.state.checkpoint().map(|(_, snapshot)| snapshot);
            compute.prefetch(self.state.sandbox(), snapshot, self.owner.epoch());
        }
        Ok(())
    }

    /// The sandbox of a run that ended is removed, with what only it trusted; that of a paused one
    /// lives on for its grace.
    pub(super) async fn let_go_of_sandbox(&mut self) {
        let over = self.state.is_over();
        let was_live = self.compute.as_ref().is_some_and(Compute::is_live);
        let mut left = None;
        if let Some(compute) = self.compute.take() {
            left = compute.let_go(over).await;
        }
        if let (true, false, Some(sandbox)) = (over, was_live, self.state.sandbox()) {
            // One that an earlier process had, and nobody needed since.
            compute::end(&self.parts, sandbox).await;
            let settings = self.state.sandbox_settings();
            left = left.or(compute::forget_mounts(&self.parts, self.run, settings).await);
        }
        if let Some(left) = left {
            self.observer.left(&left);
        }
        if let (true, Some(network)) = (over, &self.parts.network) {
            // What is left is sealed and trusted by nobody; erasing the run tries again.
            let _ = forget_authority(network, self.run);
        }
    }
}

/// What the guest need not keep once this outcome is durable. A command that goes on is kept.
fn done_with(run: &CallRun, end: &CallEnd) -> Option<CallKey> {
    let CallEnd::Done { report, .. } = end else { return None };
    match &report.session {
        None => Some(run.key),
        Some(session) => (!session.running).then_some(session.process),
    }
}

/// Of calls that looked at one session side by side, one may have seen it end and another, a moment
/// before, not: none of their reports, whatever their order, brings it back.
fn end_sessions_together(ends: &mut [(CallRun, CallEnd)]) {
    let sessions = ends.iter_mut().filter_map(|(_, end)| match end {
        CallEnd::Done { report, .. } => report.session.as_mut(),
        _ => None,
    });
    let mut sessions: Vec<_> = sessions.collect();
    let ended: Vec<u32> = sessions.iter().filter(|one| !one.running).map(|one| one.id).collect();
    for session in sessions.iter_mut().filter(|session| ended.contains(&session.id)) {
        session.running = false;
    }
}

fn finished(run: &CallRun, output: &Value, report: CallReport) -> CallFinished {
    CallFinished {
        of: run.key.seq,
        index: run.key.index,
        attempt: run.key.attempt,
        output: Some(output_item(run.category, &run.call_id, output)),
        report,
    }
}

fn failed(run: &CallRun, error: String, message: String) -> CallFailed {
    CallFailed { of: run.key.seq, index: run.key.index, attempt: run.key.attempt, error, message }
}

fn unknown(run: &CallRun) -> EventBody {
    let report = CallReport { unknown: true, failed: true, ..CallReport::default() };
    finished(run, &Value::from(UNKNOWN), report).into()
}
