//! A run's commands, made again in a fresh sandbox, and what is other than it was.
//!
//! A [`Replay`] is a run like any other: it begins as the recorded one began ([`Harness::again`]),
//! its model gives the recorded answers in order, and what people said is said again at the same
//! places. So nothing but the calls' outcomes and the files can differ, and
//! [`compare_calls`] and [`new_changes`] say where they do. Both are pure.
//!
//! [`Harness::again`]: crate::Harness::again

mod compare;
mod files;
mod model;
mod output;
mod recording;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use moat_core::{PauseReason, RunId, RunOptions, SandboxSettings};
use moat_journal::Claim;
use moat_model::Model;

use crate::driver::{Driver, Interrupt, Observer};
use crate::harness::{Again, Changes, Harness, OpenRunError};
use crate::history::History;
use crate::machine::{State, Status};

pub use compare::{ComparedCall, Difference, Place, Verdict, compare_calls};
pub use files::{AfterAnswer, files_after_answers, new_changes};
pub use recording::Recording;

use model::RecordedModel;

/// The label that names the recorded run.
pub const REPLAY_OF: &str = "replay_of";

/// A recorded run that is to be made again.
pub struct Replay {
    recorded: RunId,
    recording: Arc<Recording>,
    model: Arc<RecordedModel>,
}

impl Replay {
    /// Takes in what was recorded.
    pub fn new(recorded: RunId, history: &History) -> Self {
        let recording = Arc::new(Recording::of(history.own_events()));
        let model = Arc::new(RecordedModel::new(recording.clone()));
        Self { recorded, recording, model }
    }

    /// What was recorded.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Gives the recorded answers. The harness that [`Replay::drive`] is given has this model.
    pub fn model(&self) -> Arc<dyn Model> {
        self.model.clone()
    }

    /// Makes the run that is to be driven, without the recorded one's limits on its model: the
    /// recording is limit enough. `sandbox` replaces the recorded settings.
    pub async fn begin(
        &self,
        harness: &Harness,
        sandbox: Option<SandboxSettings>,
    ) -> Result<Driver, OpenRunError> {
        let recorded = harness.state(self.recorded).await?;
        let labels = [(REPLAY_OF, self.recorded.to_string()), ("model", "replay".to_owned())];
        let labels = labels.map(|(name, value)| (name.to_owned(), value));
        let again = Again {
            options: Some(unlimited(recorded.options())),
            sandbox,
            labels: labels.into_iter().collect(),
        };
        harness.again(self.recorded, again).await
    }

    /// Drives the run to the end of the recording. `interruptible` is told what stops it. A run
    /// that does not end by itself is ended: nobody but the recording speaks for its model.
    pub async fn drive(
        &self,
        harness: &Harness,
        driver: Driver,
        observer: Arc<dyn Observer>,
        interruptible: &(dyn Fn(Interrupt) + Send + Sync),
    ) -> Result<State, OpenRunError> {
        let run = driver.run();
        self.model.speak_in(run, harness);
        let played = Box::pin(self.play(harness, driver, observer, interruptible)).await;
        if let Err(error) = &played {
            // What is wrong is told by the error.
            let _ = harness.end(run, &error.to_string()).await;
        }
        let state = played?;
        if !matches!(state.status(), Status::Finished(_)) {
            let why = match state.status() {
                Status::Paused(PauseReason::Host, message) => message.clone(),
                Status::Paused(PauseReason::User, _) => "the replay was interrupted".to_owned(),
                _ => "the recording ends here".to_owned(),
            };
            harness.end(run, &why).await?;
        }
        Ok(state)
    }

    /// To the end of the recording, or to where the run pauses.
    async fn play(
        &self,
        harness: &Harness,
        driver: Driver,
        observer: Arc<dyn Observer>,
        interruptible: &(dyn Fn(Interrupt) + Send + Sync),
    ) -> Result<State, OpenRunError> {
        let run = driver.run();
        let mut driver = Some(driver);
        let mut state = State::default();
        for stretch in self.recording.stretches() {
            let again = match driver.take() {
                Some(first) => first,
                None => {
                    let options = stretch.options.as_ref().map(unlimited);
                    let changes = Changes { options, model: stretch.model.clone(), sandbox: None };
                    harness.go_on(run, Claim::IfFree, stretch.input.clone(), changes).await?
                }
            };
            let mut driver = again.observed_by(observer.clone());
            interruptible(driver.interrupt());
            self.model.allow(stretch.until);
            self.model.steer(&stretch.steered).await?;
            while let Status::Paused(PauseReason::Approval, _) = driver.drive().await? {
                if !self.decide(harness, &driver).await? {
                    break;
                }
            }
            state = driver.state().clone();
            let over =
                matches!(state.status(), Status::Paused(PauseReason::User | PauseReason::Host, _));
            if over {
                break;
            }
        }
        Ok(state)
    }

    /// Gives the recorded decisions about the calls that wait. `false`: there are none.
    async fn decide(&self, harness: &Harness, driver: &Driver) -> Result<bool, OpenRunError> {
        let answer = self.model.given().saturating_sub(1);
        let mut any = false;
        for call in driver.state().waiting() {
            if let Some(decision) = self.recording.decision(answer, call.index) {
                let kind = if decision.approved { "approve" } else { "reject" };
                let body = serde_json::json!({
                    "call_id": call.call_id, "message": decision.message, "always": decision.always,
                });
                harness.post(driver.run(), kind, body.to_string()).await?;
                any = true;
            }
        }
        Ok(any)
    }
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("recorded", &self.recorded).finish_non_exhaustive()
    }
}

fn unlimited(options: &RunOptions) -> RunOptions {
    RunOptions {
        max_turns: None,
        max_tokens: None,
        max_cost: None,
        max_model_retries: 0,
        ..options.clone()
    }
}
