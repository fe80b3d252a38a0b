//! Folding events into the state.

use std::sync::Arc;

use moat_core::{
    ApprovalGiven, CallFinished, CallReport, DecodeEventError, Event, EventBody, Item,
    ModelAnswered, ModelFailed, ModelRequested, RunStarted, Seq,
};
use serde_json::Value;

use super::calls::Reading;
use super::{AttachedSandbox, Call, CallState, Failure, KeptOutput, Request, State, Status};

/// Why an event cannot follow the ones before it.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The event's bytes cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeEventError),
    /// The event refers to something that is not there.
    #[error("event {seq} (`{kind}`) does not follow from the events before it: {why}")]
    Inconsistent {
        /// Where.
        seq: Seq,
        /// What.
        kind: String,
        /// Why not.
        why: &'static str,
    },
}

type Applied = Result<(), &'static str>;

impl State {
    /// Folds one event in. After an error the state is as it was, or must be thrown away.
    pub fn apply(&mut self, event: &Event) -> Result<(), ApplyError> {
        let seq = event.header.seq;
        self.apply_body(event, seq).map_err(|why| ApplyError::Inconsistent {
            seq,
            kind: event.header.kind.clone(),
            why,
        })?;
        self.head = seq;
        Ok(())
    }

    fn apply_body(&mut self, event: &Event, seq: Seq) -> Applied {
        match &event.body {
            EventBody::RunStarted(started) => self.start(event, started),
            EventBody::RunContinued(more) => {
                self.abandon_open_work();
                if let Some(options) = &more.options {
                    self.options = options.clone();
                }
                self.model = more.model.clone().unwrap_or_else(|| self.model.clone());
                self.move_sandboxes(more.sandbox.as_deref());
                self.take_input(&more.input);
            }
            EventBody::RunResumed(resumed) => {
                if let Some(options) = &resumed.options {
                    self.options = options.clone();
                }
                self.model = resumed.model.clone().unwrap_or_else(|| self.model.clone());
                self.move_sandboxes(resumed.sandbox.as_deref());
                // A provider that stayed down gets its tries anew.
                if let Some(request) = &mut self.request {
                    request.failure = None;
                    request.retry_in_ms = None;
                }
                self.status = Status::Running;
            }
            EventBody::ModelRequested(requested) => self.request_model(requested),
            EventBody::ModelAnswered(answered) => return self.take_answer(seq, answered),
            EventBody::ModelFailed(failed) => return self.fail_model(failed),
            EventBody::CallStarted(started) => {
                let call = self.open_call(started.of, started.index)?;
                if call.attempt != started.attempt || call.is_done() {
                    return Err("another attempt is due");
                }
                call.state = CallState::Started;
            }
            EventBody::CallFinished(finished) => return self.finish_call(finished),
            EventBody::CallFailed(failed) => {
                let call = self.open_call(failed.of, failed.index)?;
                let (error, message) = (failed.error.clone(), failed.message.clone());
                call.state = CallState::Failed { error, message };
            }
            EventBody::CallRolledBack(undone) => {
                let call = self.open_call(undone.of, undone.index)?;
                call.attempt = undone.attempt.saturating_add(1);
                call.state = CallState::Approved;
            }
            EventBody::ApprovalAsked(asked) => {
                self.open_call(asked.of, asked.index)?.state = CallState::Asked;
            }
            EventBody::ApprovalGiven(given) => return self.decide(given),
            EventBody::Steered(steered) => {
                self.steered.extend(steered.input.iter().cloned());
                if self.answer.is_none() {
                    self.take_in_steering();
                }
            }
            EventBody::CancelRequested(cancel) => {
                self.cancel = Some(cancel.reason.clone().unwrap_or_default());
                if matches!(self.status, Status::Paused(..) | Status::Limited { .. }) {
                    self.status = Status::Running;
                }
            }
            EventBody::LimitReached(reached) => {
                let (limit, value) = (reached.limit.clone(), reached.value);
                self.status = Status::Limited { limit, value };
            }
            EventBody::RunPaused(paused) => {
                self.status = Status::Paused(paused.reason, paused.message.clone());
            }
            EventBody::RunFinished(finished) => {
                self.status = Status::Finished(finished.outcome.clone());
            }
            EventBody::RunMoved(_) => self.status = Status::Moved,
            EventBody::RunErased(_) | EventBody::Erased(_) => self.status = Status::Erased,
            EventBody::ChildStarted(_) | EventBody::ChildFinished(_) | EventBody::Unknown(_) => {}
            sandbox => self.apply_sandbox(seq, sandbox),
        }
        Ok(())
    }

    fn apply_sandbox(&mut self, seq: Seq, body: &EventBody) {
        match body {
            EventBody::SandboxAttached(attached) => {
                self.sandbox = Some(AttachedSandbox {
                    provider: attached.provider.clone(),
                    handle: attached.handle.clone(),
                    nonce: attached.nonce.clone(),
                    missing_fences: attached.missing_fences.clone(),
                    notes: attached.notes.clone(),
                    left: false,
                });
            }
            EventBody::SandboxLost(_) => self.sandbox = None,
            EventBody::ProcessLost(lost) => self.lose_process(lost.session, &lost.command),
            EventBody::Checkpointed(checkpoint) => {
                self.checkpoint = Some((seq, checkpoint.snapshot));
                self.first_checkpoint.get_or_insert(checkpoint.snapshot);
            }
            _ => {}
        }
    }

    /// Sandboxes come from somewhere else from now on. The one that there is stays the run's until
    /// another is attached, so that whoever attaches that knows what to end.
    fn move_sandboxes(&mut self, to: Option<&str>) {
        let Some(to) = to else { return };
        if self.sandbox_settings.provider.as_deref() == Some(to) {
            return;
        }
        self.sandbox_settings.provider = Some(to.to_owned());
        if let Some(sandbox) = &mut self.sandbox {
            sandbox.left = true;
        }
    }

    fn lose_process(&mut self, session: u32, command: &str) {
        if self.sessions.remove(&session).is_none() {
            return;
        }
        self.steered.push(process_lost_notice(session, command));
        if self.answer.is_none() {
            self.take_in_steering();
        }
    }

    fn start(&mut self, event: &Event, started: &RunStarted) {
        // A fork's own journal follows its source's, up to the fork.
        self.abandon_open_work();
        self.sandbox = None;
        self.sessions.clear();
        (self.usage, self.cost, self.turn) = Default::default();
        self.run = Some(event.header.run);
        self.lineage = self.lineage.filter(|_| started.forked_from.is_some()).or(self.run);
        self.agent = Arc::new(started.agent.clone());
        self.model = started.agent.model.clone();
        self.options = started.options.clone();
        self.environment = started.environment.clone();
        self.sandbox_settings = (*started.sandbox).clone();
        self.allow_missing = started.allow_missing.clone();
        self.origin = started.origin.clone();
        self.labels = started.labels.clone();
        self.take_input(&started.input);
    }

    fn take_input(&mut self, input: &[Item]) {
        self.conversation.push_input(input);
        self.turns_before_input = self.turn;
        self.status = Status::Running;
    }

    /// What was open belongs to an input that is over.
    fn abandon_open_work(&mut self) {
        self.answer = None;
        self.request = None;
        self.settled = None;
        self.cancel = None;
        self.take_in_steering();
    }

    fn request_model(&mut self, requested: &ModelRequested) {
        self.settled = None;
        self.offered = requested.offered.clone();
        self.turn = self.turn.max(requested.turn);
        self.request = Some(Request {
            turn: requested.turn,
            attempt: requested.attempt,
            retry_in_ms: None,
            failure: None,
        });
    }

    fn take_answer(&mut self, seq: Seq, answered: &ModelAnswered) -> Applied {
        if self.request.take().is_none() {
            return Err("no model call was open");
        }
        self.usage += answered.usage;
        self.cost += answered.cost.unwrap_or_default();
        self.response_id = answered.response_id.clone();
        let reading = Reading {
            agent: &self.agent,
            offered: self.offered.as_deref(),
            ledger: &self.ledger,
            repeated: self.options.repeated_calls,
            always: &self.always,
            calls_made: self.calls_made,
        };
        let answer = reading.read(seq, &answered.output);
        let calls = u32::try_from(answer.calls.len()).unwrap_or(u32::MAX);
        self.calls_made = self.calls_made.saturating_add(calls);
        self.answer = Some(answer);
        self.settle_if_done();
        Ok(())
    }

    fn fail_model(&mut self, failed: &ModelFailed) -> Applied {
        let request = self.request.as_mut().ok_or("no model call was open")?;
        request.attempt = failed.attempt;
        request.retry_in_ms = failed.retry_in_ms;
        request.failure = Some(Failure {
            class: failed.class.clone(),
            message: failed.message.clone(),
            resumable: failed.resumable,
        });
        Ok(())
    }

    fn finish_call(&mut self, finished: &CallFinished) -> Applied {
        let call = self.open_call(finished.of, finished.index)?;
        if call.is_done() {
            return Err("the call is finished already");
        }
        if call.attempt != finished.attempt {
            return Err("another attempt is due");
        }
        let (output, value) = (finished.output.clone(), finished.report.value.clone());
        call.state = CallState::Finished { output, value };
        self.keep_report(&finished.report);
        self.settle_if_done();
        Ok(())
    }

    fn keep_report(&mut self, report: &CallReport) {
        if let Some(session) = &report.session {
            let mut session = session.clone();
            let known = self.sessions.remove(&session.id);
            session.reported = session.reported.max(known.map_or(0, |known| known.reported));
            if session.running {
                self.sessions.insert(session.id, session);
            }
        }
        if let Some(output) = &report.output
            && let (Some(path), Some(blob)) = (&output.path, output.blob)
        {
            self.outputs.retain(|kept| kept.path != *path);
            self.outputs.push(KeptOutput { path: path.clone(), blob });
        }
    }

    fn decide(&mut self, given: &ApprovalGiven) -> Applied {
        let call = self.open_call(given.of, given.index)?;
        if !matches!(call.state, CallState::Asked) {
            return Err("the call does not wait for a person");
        }
        call.state = if given.approved {
            CallState::Approved
        } else {
            CallState::Rejected(given.message.clone())
        };
        let tool = call.tool.clone();
        if given.always {
            self.always.insert(tool.clone(), given.approved);
            for other in self.answer.iter_mut().flat_map(|answer| &mut answer.calls) {
                if other.tool == tool && matches!(other.state, CallState::Asked) {
                    other.state = if given.approved {
                        CallState::Approved
                    } else {
                        CallState::Rejected(given.message.clone())
                    };
                }
            }
        }
        if let Status::Paused(moat_core::PauseReason::Approval, _) = self.status {
            self.status = Status::Running;
        }
        Ok(())
    }

    fn open_call(&mut self, of: Seq, index: u32) -> Result<&mut Call, &'static str> {
        let answer = self.answer.as_mut().filter(|answer| answer.seq == of);
        let answer = answer.ok_or("the answer it refers to is not open")?;
        let call = answer.calls.iter_mut().find(|call| call.index == index);
        call.ok_or("the answer has no such call")
    }
}

/// What the model is told about a background command that ended with its sandbox.
fn process_lost_notice(session: u32, command: &str) -> Item {
    let text = format!(
        "<notice>\nThe sandbox was replaced. Files are as they were at the last finished call, but \
         the background command with session ID {session} (`{command}`) is gone. Start it again \
         if you still need it.\n</notice>"
    );
    Item::from_value(&serde_json::json!({ "role": "user", "content": Value::from(text) }))
}
