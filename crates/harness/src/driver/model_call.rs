//! One model call: intent, effect, outcome, and whether to try again.

use std::time::{Duration, Instant};

use moat_core::{ModelAnswered, ModelFailed, ModelRequested, PauseReason, Retryable, RunPaused};
use moat_model::{ModelError, ModelErrorClass, ModelRequest, ModelResponse};

use super::{DriveError, Driver};
use crate::machine::ModelCall;

/// The first pause before trying again; doubles up to [`LONGEST_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);
/// A provider that asks for more than this is not waited for: the run pauses.
const LONGEST_HINT: Duration = Duration::from_secs(120);

enum Heard {
    Answer(Box<Result<ModelResponse, ModelError>>),
    Cancelled,
    Interrupted,
}

impl Driver {
    pub(super) async fn call_model(&mut self, call: ModelCall) -> Result<(), DriveError> {
        if call.delay_ms > 0 {
            self.flush().await?;
            if !self.wait_or_stop(Duration::from_millis(call.delay_ms)).await? {
                return Ok(());
            }
        }
        let (items, prefix) = self.state.prefix();
        let offered = self.offered_tools();
        self.push(
            "harness",
            ModelRequested {
                turn: call.turn,
                attempt: call.attempt,
                model: self.state.model().to_owned(),
                items,
                prefix,
                offered: offered.clone(),
            },
        )?;
        self.flush().await?;
        self.prefetch_sandbox()?;
        let request = self.model_request(offered.as_deref());
        let sent = Instant::now();
        match self.hear(&call, &request).await? {
            Heard::Cancelled => Ok(()),
            Heard::Interrupted => {
                let message = String::new();
                self.push("harness", RunPaused { reason: PauseReason::User, message })
            }
            Heard::Answer(result) => match *result {
                Ok(response) => self.answered(&call, response, sent.elapsed()),
                Err(error) => self.model_failed(&call, &error),
            },
        }
    }

    /// The tools' names, if not all of them are offered now.
    fn offered_tools(&self) -> Option<Vec<String>> {
        let tools = &self.state.agent().tools;
        let on = |name: &str| self.parts.tools.get(name).is_none_or(|tool| tool.is_enabled());
        let all = tools.iter().all(|tool| on(&tool.name));
        let names = || tools.iter().map(|tool| tool.name.clone()).filter(|name| on(name)).collect();
        (!all).then(names)
    }

    fn model_request(&self, offered: Option<&[String]>) -> ModelRequest {
        let agent = self.state.agent();
        let (input, _) = self.state.request_prefix();
        let shown = |name: &String| offered.is_none_or(|names| names.contains(name));
        // Of several tools with one name only the last is reachable, so only it is shown.
        let last = |at: usize, name: &str| !agent.tools.iter().skip(at + 1).any(|t| t.name == name);
        let tools = agent.tools.iter().enumerate();
        let tools = tools.filter(|(at, tool)| shown(&tool.name) && last(*at, &tool.name));
        ModelRequest {
            model: self.state.model().to_owned(),
            instructions: agent.instructions.clone(),
            input,
            tools: tools.map(|(_, tool)| tool.wire.clone()).collect(),
            settings: agent.model_settings.clone(),
            stream: self.state.options().stream,
            cache_key: Some(self.run.to_string()),
        }
    }

    async fn hear(&self, call: &ModelCall, request: &ModelRequest) -> Result<Heard, DriveError> {
        let deltas = |delta| self.observer.delta(call.turn, call.attempt, &delta);
        let mut answer = self.parts.model.respond(request, &deltas);
        loop {
            tokio::select! {
                biased;
                result = &mut answer => return Ok(Heard::Answer(Box::new(result))),
                () = self.interrupt.wait() => return Ok(Heard::Interrupted),
                () = self.owner.inbox_changed() => {
                    if self.is_cancelled().await? {
                        return Ok(Heard::Cancelled);
                    }
                }
            }
        }
    }

    fn answered(
        &mut self,
        call: &ModelCall,
        response: ModelResponse,
        took: Duration,
    ) -> Result<(), DriveError> {
        let mut usage = response.usage;
        usage.requests = 1;
        let body = ModelAnswered {
            turn: call.turn,
            attempt: call.attempt,
            response_id: response.id,
            model: response.model,
            output: response.output,
            usage,
            cost: response.cost,
            duration_ms: millis(took),
            first_output_ms: response.first_output.map(millis),
        };
        self.push("model", body)
    }

    fn model_failed(&mut self, call: &ModelCall, error: &ModelError) -> Result<(), DriveError> {
        let body = ModelFailed {
            turn: call.turn,
            attempt: call.attempt,
            class: error.class.as_str().to_owned(),
            status: error.status,
            message: error.message.clone(),
            retry_in_ms: self.retry_in(call, error).map(millis),
            resumable: is_resumable(error),
        };
        self.push("model", body)
    }

    fn retry_in(&self, call: &ModelCall, error: &ModelError) -> Option<Duration> {
        let tries = self.state.options().max_model_retries;
        let hinted_too_long = error.retry_after.is_some_and(|hint| hint > LONGEST_HINT);
        if !error.is_retryable() || call.attempt > tries || hinted_too_long {
            return None;
        }
        let doublings = call.attempt.saturating_sub(1).min(8);
        let backoff = FIRST_BACKOFF.saturating_mul(1 << doublings).min(LONGEST_BACKOFF);
        Some(error.retry_after.unwrap_or(backoff))
    }

    /// Waits; `false` when something came that must be looked at first.
    async fn wait_or_stop(&self, pause: Duration) -> Result<bool, DriveError> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(true),
            () = self.interrupt.wait() => Ok(false),
            () = self.owner.inbox_changed() => Ok(!self.is_cancelled().await?),
        }
    }
}

/// Whether the run can be resumed once a person has done something about it.
fn is_resumable(error: &ModelError) -> bool {
    error.is_retryable()
        || error.class == ModelErrorClass::Configuration
        || matches!(error.status, Some(401..=403 | 429))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
