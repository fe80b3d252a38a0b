//! What to do now.

use moat_core::{
    ApprovalAsked, CallFinished, CallKey, CallReport, Category, Cost, EventBody, LimitReached,
    PauseReason, RunFinished, RunOutcome, RunPaused, ToolNameCollision, ToolNotFound,
};
use serde_json::Value;

use super::{Answer, Call, CallState, Settled, State, Status, text};

/// What a driver has to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Append these events; the machine has decided.
    Record(Vec<EventBody>),
    /// Ask the model.
    CallModel(ModelCall),
    /// Make these calls, all at once as their categories allow.
    RunCalls(Vec<CallRun>),
    /// Wait for a person, or for anything else that comes by the inbox.
    Wait,
    /// Nothing; see [`State::status`].
    Rest,
}

/// A model call that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCall {
    /// Which turn.
    pub turn: u32,
    /// Which try.
    pub attempt: u32,
    /// Milliseconds to wait first.
    pub delay_ms: u64,
}

/// A call that is to be made.
#[derive(Clone, Debug)]
pub struct CallRun {
    /// The attempt's key. Stays the same when an attempt that was begun is taken up again.
    pub key: CallKey,
    /// The provider's id of the call.
    pub call_id: String,
    /// The tool.
    pub tool: String,
    /// How it runs beside others.
    pub category: Category,
    /// Arguments or input, as the model wrote them.
    pub arguments: String,
    /// It acts on the sandbox only.
    pub sandbox: bool,
    /// Its intent is in the journal already: a crash hid the outcome.
    pub begun: bool,
    /// The number that a session gets if the call starts one.
    pub session: u32,
}

impl State {
    /// What to do now. Pure: the same events give the same answer.
    pub fn next(&self) -> Action {
        if self.status != Status::Running {
            return Action::Rest;
        }
        if self.cancel.is_some() {
            return self.next_of_cancelled();
        }
        if let Some(answer) = &self.answer {
            return self.next_of_answer(answer);
        }
        if let Some(request) = &self.request
            && let Some(failure) = &request.failure
            && request.retry_in_ms.is_none()
        {
            let message = failure.message.clone();
            return record(if failure.resumable {
                RunPaused { reason: PauseReason::Provider, message }.into()
            } else if failure.class == "scripted" {
                error("model_error", message)
            } else {
                error("ModelError", message)
            });
        }
        if let Some(settled) = &self.settled
            && let Some(outcome) = final_outcome(settled)
        {
            return record(RunFinished { outcome }.into());
        }
        self.next_model_call()
    }

    fn next_model_call(&self) -> Action {
        if let Some(tool) = self.colliding_tool() {
            return record(error("UserError", text::collision(tool)));
        }
        if self.request.is_none()
            && let Some(limit) = self.reached_limit()
        {
            return record(limit.into());
        }
        Action::CallModel(match &self.request {
            None => ModelCall { turn: self.turn.saturating_add(1), attempt: 1, delay_ms: 0 },
            Some(request) => ModelCall {
                turn: request.turn,
                attempt: request.attempt.saturating_add(1),
                delay_ms: request.retry_in_ms.unwrap_or(0),
            },
        })
    }

    fn reached_limit(&self) -> Option<LimitReached> {
        let reached = |limit: &str, value| LimitReached { limit: limit.to_owned(), value };
        let turns = self.options.max_turns.filter(|max| self.turns() >= *max);
        let tokens = self.options.max_tokens.filter(|max| self.usage.total_tokens >= *max);
        let cost = self.options.max_cost.filter(|max| self.cost >= *max);
        turns
            .map(|max| reached("turns", max.into()))
            .or_else(|| tokens.map(|max| reached("tokens", max)))
            .or_else(|| cost.map(|Cost(max)| reached("cost", max)))
    }

    fn colliding_tool(&self) -> Option<&str> {
        if self.options.tool_name_collision != ToolNameCollision::Error {
            return None;
        }
        let names = || self.agent.tools.iter().map(|tool| tool.name.as_str());
        names()
            .enumerate()
            .find(|(at, name)| names().take(*at).any(|other| other == *name))
            .map(|f| f.1)
    }

    fn next_of_answer(&self, answer: &Answer) -> Action {
        if let Some((kind, message)) = &answer.error {
            return record(error(kind, message.clone()));
        }
        let unknown = answer.calls.iter().find(|call| !call.known);
        if let Some(call) = unknown
            && self.options.tool_not_found == ToolNotFound::RaiseError
        {
            let message = text::not_found_error(&call.tool, &self.agent.name);
            return record(error("ModelBehaviorError", message));
        }
        let failed = answer.calls.iter().find_map(|call| match &call.state {
            CallState::Failed { error, message } => Some((error, message)),
            _ => None,
        });
        if let Some((kind, message)) = failed {
            return record(error(kind, message.clone()));
        }
        let decided: Vec<_> =
            answer.calls.iter().filter_map(|call| decide_without_running(answer, call)).collect();
        if !decided.is_empty() {
            return Action::Record(decided);
        }
        let runs: Vec<_> =
            answer.calls.iter().filter_map(|call| self.run_of(answer, call)).collect();
        if runs.is_empty() { Action::Wait } else { Action::RunCalls(runs) }
    }

    fn run_of(&self, answer: &Answer, call: &Call) -> Option<CallRun> {
        let begun = match call.state {
            CallState::Started => true,
            CallState::Pending | CallState::Approved => false,
            _ => return None,
        };
        let run = self.run?;
        Some(CallRun {
            key: CallKey { run, seq: answer.seq, index: call.index, attempt: call.attempt },
            call_id: call.call_id.clone(),
            tool: call.tool.clone(),
            category: call.category,
            arguments: call.arguments.clone(),
            sandbox: call.sandbox,
            begun,
            session: call.session,
        })
    }

    /// Every call that is open gets an outcome, so that the history stays valid, then the run ends.
    fn next_of_cancelled(&self) -> Action {
        let mut events: Vec<EventBody> = Vec::new();
        if let Some(answer) = self.answer.as_ref().filter(|answer| answer.error.is_none()) {
            let open = answer.calls.iter().filter(|call| !call.is_done());
            events.extend(open.map(|call| told(answer, call, "Cancelled before it finished.")));
        }
        events.push(RunFinished { outcome: RunOutcome::Cancelled }.into());
        Action::Record(events)
    }
}

/// What the machine can say about a call by itself: ask a person, refuse, or name it unknown.
fn decide_without_running(answer: &Answer, call: &Call) -> Option<EventBody> {
    match &call.state {
        CallState::Rejected(message) => {
            Some(told(answer, call, message.as_deref().unwrap_or(text::REJECTED)))
        }
        CallState::Pending if !call.known => Some(told(answer, call, &text::not_found(&call.tool))),
        CallState::Pending if call.needs_approval => Some(
            ApprovalAsked {
                of: answer.seq,
                index: call.index,
                call_id: call.call_id.clone(),
                tool: call.tool.clone(),
                arguments: call.arguments.clone(),
            }
            .into(),
        ),
        _ => None,
    }
}

fn told(answer: &Answer, call: &Call, message: &str) -> EventBody {
    let output = text::output_item(call.category, &call.call_id, &Value::from(message));
    CallFinished {
        of: answer.seq,
        index: call.index,
        attempt: call.attempt,
        output: Some(output),
        report: CallReport { failed: true, ..CallReport::default() },
    }
    .into()
}

fn record(event: EventBody) -> Action {
    Action::Record(vec![event])
}

fn error(kind: &str, message: String) -> EventBody {
    RunFinished { outcome: RunOutcome::Error { error: kind.to_owned(), message } }.into()
}

/// How the run ends with this answer, if it does.
fn final_outcome(settled: &Settled) -> Option<RunOutcome> {
    if settled.had_calls {
        return None;
    }
    let Some(message) = &settled.last_message else {
        let output = Value::from("");
        return (!settled.hosted_activity).then_some(RunOutcome::Final { output });
    };
    if let Some(refusal) = refusal_of(message) {
        return Some(RunOutcome::Error {
            error: "ModelRefusalError".to_owned(),
            message: format!("Model refused to produce output: {refusal}"),
        });
    }
    Some(RunOutcome::Final { output: message.message_text().unwrap_or_default().into() })
}

fn refusal_of(message: &moat_core::Item) -> Option<String> {
    let content = message.fields().content?;
    let mut parts = content.as_array()?.iter().rev();
    parts.find_map(|part| part.get("refusal")?.as_str()).map(str::to_owned)
}
