//! The model that gives recorded answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use moat_core::{RunId, Usage};
use moat_model::{DeltaSink, Model, ModelError, ModelErrorClass, ModelRequest, ModelResponse};
use serde_json::json;

use super::recording::Recording;
use crate::harness::{Harness, OpenRunError};

/// Gives answers in the order in which they were given, whatever it is asked: exactly those items,
/// ids included, so that decisions and sessions find their calls. The replay model of transcripts
/// needs ids that tell turns apart; what servers give does not always.
pub(super) struct RecordedModel {
    recording: Arc<Recording>,
    given: AtomicUsize,
    /// The answer at which the stretch that is being replayed ends.
    until: AtomicUsize,
    inbox: OnceLock<(RunId, Harness)>,
}

impl RecordedModel {
    pub(super) fn new(recording: Arc<Recording>) -> Self {
        Self {
            recording,
            given: AtomicUsize::new(0),
            until: AtomicUsize::new(0),
            inbox: OnceLock::new(),
        }
    }

    /// Where messages go.
    pub(super) fn speak_in(&self, run: RunId, harness: &Harness) {
        // Set once: a replay is driven once.
        let _ = self.inbox.set((run, harness.clone()));
    }

    pub(super) fn allow(&self, until: usize) {
        self.until.store(until, Ordering::Relaxed);
    }

    /// How many answers were given.
    pub(super) fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }

    pub(super) async fn steer(&self, texts: &[String]) -> Result<(), OpenRunError> {
        let Some((run, harness)) = self.inbox.get() else { return Ok(()) };
        for text in texts {
            harness.post(*run, "steer", json!({ "text": text }).to_string()).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Model for RecordedModel {
    async fn respond(
        &self,
        _: &ModelRequest,
        _: DeltaSink<'_>,
    ) -> Result<ModelResponse, ModelError> {
        let place = self.given();
        let within = place < self.until.load(Ordering::Relaxed);
        let Some(answer) = self.recording.answer(place).filter(|_| within) else {
            return Err(stop("the recording has no further answer here".to_owned()));
        };
        // What came after this answer is in the inbox before the answer is taken in, so that it
        // stands before the next one, as it did.
        self.steer(&answer.steered).await.map_err(|error| stop(error.to_string()))?;
        self.given.store(place.saturating_add(1), Ordering::Relaxed);
        Ok(ModelResponse {
            id: None,
            model: answer.model.clone(),
            output: answer.output.clone(),
            // Nobody was asked, so nothing was used.
            usage: Usage::default(),
            cost: None,
            first_output: None,
        })
    }

    fn label(&self) -> Option<&str> {
        Some("replay")
    }
}

/// Pauses the run, so that it can be continued where the recorded one was.
fn stop(message: String) -> ModelError {
    ModelError {
        class: ModelErrorClass::Configuration,
        status: None,
        message,
        retry_after: None,
        should_retry: None,
    }
}
