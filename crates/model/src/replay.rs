//! The replay model: a transcript, hand-written or recorded, played by a loopback server that is
//! spoken to through the very code path of a live provider.
//!
//! [`transcript`] is the file's form and [`expand`] makes whole items of the short ones; [`server`]
//! listens, [`turn`] picks the turn and checks what was asked, [`wire`] writes the answer as JSON
//! or as events, [`playback`] paces and breaks it, and [`record`] makes a transcript of a run.

mod expand;
mod playback;
mod record;
mod server;
#[cfg(test)]
mod tests;
mod transcript;
mod turn;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use crate::responses::Failure;
use crate::{
    DeltaSink, Model, ModelError, ModelErrorClass, ModelRequest, ModelResponse, ResponsesModel,
    ResponsesOptions, StaticKey,
};

pub use record::{RecordError, RecordedTurn};
pub use server::{ReplayError, ReplayServer};
pub use transcript::{Expectation, Fault, Transcript, TranscriptError, TranscriptUsage, Turn};

/// Plays a transcript as a model. The server starts with the first call and ends with the model.
pub struct ReplayModel {
    transcript: Arc<Transcript>,
    live: OnceCell<Live>,
}

struct Live {
    model: ResponsesModel,
    _server: ReplayServer,
}

impl ReplayModel {
    /// A model whose server starts when it is first asked.
    pub fn new(transcript: impl Into<Arc<Transcript>>) -> Self {
        Self { transcript: transcript.into(), live: OnceCell::new() }
    }

    /// A model whose server is already listening.
    pub async fn start(transcript: impl Into<Arc<Transcript>>) -> Result<Self, ReplayError> {
        let model = Self::new(transcript);
        model.live.get_or_try_init(|| model.launch()).await?;
        Ok(model)
    }

    async fn launch(&self) -> Result<Live, ReplayError> {
        let server = ReplayServer::start(Arc::clone(&self.transcript)).await?;
        let mut options = ResponsesOptions::new(server.base_url());
        options.key = Arc::new(StaticKey::new(server.key().clone()));
        let model =
            ResponsesModel::new(options).map_err(|error| ReplayError::Client(error.message))?;
        Ok(Live { model, _server: server })
    }
}

#[async_trait]
impl Model for ReplayModel {
    async fn respond(
        &self,
        request: &ModelRequest,
        deltas: DeltaSink<'_>,
    ) -> Result<ModelResponse, ModelError> {
        let live =
            self.live.get_or_try_init(|| self.launch()).await.map_err(|error| ModelError {
                class: ModelErrorClass::Configuration,
                status: None,
                message: error.to_string(),
                retry_after: None,
                should_retry: None,
            })?;
        live.model.attempt(request, deltas).await.map_err(own_class)
    }

    fn label(&self) -> Option<&str> {
        Some("replay")
    }
}

impl std::fmt::Debug for ReplayModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayModel").field("turns", &self.transcript.turns.len()).finish()
    }
}

/// What the server says on its own behalf has classes of its own; faults that a transcript wants
/// to look like a provider's stay as they are.
fn own_class(failure: Failure) -> ModelError {
    let class = match failure.code.as_deref() {
        Some(server::DIVERGED) => ModelErrorClass::Diverged,
        Some(server::SCRIPTED) => ModelErrorClass::Scripted,
        _ => return failure.error,
    };
    ModelError {
        class,
        status: None,
        message: failure.said.unwrap_or(failure.error.message),
        retry_after: None,
        should_retry: None,
    }
}
