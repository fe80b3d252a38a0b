use std::time::Duration;

use async_trait::async_trait;
use moat_core::{Cost, Item, Retryable, Usage};
use serde_json::{Map, Value};

/// One attempt at one model call.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    /// The model's name, as the provider knows it.
    pub model: String,
    /// The system prompt.
    pub instructions: Option<String>,
    /// The conversation, oldest first. Serialised as it is, byte for byte, so that the prefix of
    /// one request is the prefix of the next.
    pub input: Vec<Item>,
    /// The tools, as objects of the Responses API, in the order in which the model sees them.
    pub tools: Vec<Value>,
    /// More members of the request (`temperature`, `reasoning`, `tool_choice`, …).
    pub settings: Map<String, Value>,
    /// Ask for a stream.
    pub stream: bool,
    /// Groups the requests of a run for the provider's prompt cache.
    pub cache_key: Option<String>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct ModelResponse {
    /// The provider's id of the answer.
    pub id: Option<String>,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// The items, as they came.
    pub output: Vec<Item>,
    /// Tokens.
    pub usage: Usage,
    /// What the call cost, if the model's price is known.
    pub cost: Option<Cost>,
    /// From sending the request to the first byte of output.
    pub first_output: Option<Duration>,
}

/// A piece of an answer that is still being written. Never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The item's index in the answer.
    pub item: u32,
    /// What the piece belongs to.
    pub kind: DeltaKind,
    /// Bytes of text of this item and kind that came before.
    pub offset: u64,
    /// The text.
    pub text: String,
}

/// What a [`Delta`] belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeltaKind {
    /// What the agent says.
    Text,
    /// A summary of its reasoning.
    Reasoning,
    /// Arguments or input of a call.
    Arguments,
}

/// Where deltas go. Called from within the model call, so it must not block.
pub type DeltaSink<'a> = &'a (dyn Fn(Delta) + Send + Sync);

/// Something that answers a conversation.
#[async_trait]
pub trait Model: Send + Sync {
    /// Makes one attempt. Dropping the future gives the attempt up.
    async fn respond(
        &self,
        request: &ModelRequest,
        deltas: DeltaSink<'_>,
    ) -> Result<ModelResponse, ModelError>;

    /// What every output that shows this model has to say about it; `replay` for the replay model.
    fn label(&self) -> Option<&str> {
        None
    }
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// What kind of failure it is.
    pub class: ModelErrorClass,
    /// HTTP status, if there was one.
    pub status: Option<u16>,
    /// One line for a person: what failed, where, and what the provider said.
    pub message: String,
    /// The provider's hint (`retry-after-ms`, `retry-after`) of when to try again.
    pub retry_after: Option<Duration>,
    /// The provider's own word on whether to try again (`x-should-retry`).
    pub should_retry: Option<bool>,
}

/// Kinds of failure of a model call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelErrorClass {
    /// The provider could not be reached.
    Connection,
    /// It did not answer, or stopped talking, for too long.
    Timeout,
    /// It answered with an HTTP error.
    Status,
    /// The stream ended in the middle of an answer.
    StreamCut,
    /// What came was not what the protocol says.
    Malformed,
    /// The provider reported a failed or incomplete response.
    Failed,
    /// The request cannot be made: no key, a bad address, a bad setting.
    Configuration,
    /// A transcript said that the call fails.
    Scripted,
    /// A replay was asked something else than its transcript expects, or has no turns left.
    Diverged,
}

impl ModelErrorClass {
    /// The stable word for journals and `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::StreamCut => "stream_cut",
            Self::Malformed => "malformed",
            Self::Failed => "failed",
            Self::Configuration => "configuration",
            Self::Scripted => "scripted",
            Self::Diverged => "diverged",
        }
    }
}

impl Retryable for ModelError {
    fn is_retryable(&self) -> bool {
        if let Some(decided) = self.should_retry {
            return decided;
        }
        match self.class {
            ModelErrorClass::Connection
            | ModelErrorClass::Timeout
            | ModelErrorClass::StreamCut
            | ModelErrorClass::Malformed => true,
            ModelErrorClass::Status => {
                self.status.is_some_and(|status| matches!(status, 408 | 409 | 429 | 500..))
            }
            ModelErrorClass::Failed => self.status.is_some_and(|status| status >= 500),
            ModelErrorClass::Configuration
            | ModelErrorClass::Scripted
            | ModelErrorClass::Diverged => false,
        }
    }
}
