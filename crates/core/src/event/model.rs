use serde::{Deserialize, Serialize};

use crate::{Cost, Hash, Item, Usage};

/// Body of `model_requested`. The request itself is not stored: it is the agent, the settings and
/// the conversation so far, all of which the journal already holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRequested {
    /// Counts the model calls of the run that were meant, from 1.
    pub turn: u32,
    /// 1 for the first try of this turn.
    pub attempt: u32,
    /// The model that is asked.
    pub model: String,
    /// How many items of the conversation are sent.
    pub items: u64,
    /// Hash of those items, so that a replay can tell whether it would ask the same.
    pub prefix: Hash,
    /// The tools that are offered, by name; absent: all of the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<Vec<String>>,
}

/// Body of `model_answered`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelAnswered {
    /// The turn that is answered.
    pub turn: u32,
    /// The try that was answered.
    pub attempt: u32,
    /// The provider's id of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_id: Option<String>,
    /// The model that answered, as the provider names it.
    #[serde(default)]
    pub model: String,
    /// The items of the answer, as they came.
    pub output: Vec<Item>,
    /// Tokens.
    #[serde(default)]
    pub usage: Usage,
    /// What the call cost, if the model's price is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Milliseconds from sending the request to the end of the answer.
    #[serde(default)]
    pub duration_ms: u64,
    /// Milliseconds from sending the request to the first byte of output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_output_ms: Option<u64>,
}

/// Body of `model_failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelFailed {
    /// The turn that failed.
    pub turn: u32,
    /// The try that failed.
    pub attempt: u32,
    /// A stable word: `timeout`, `connection`, `status`, `stream_cut`, `malformed`, `scripted`, …
    pub class: String,
    /// HTTP status, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What the provider said, or what went wrong.
    pub message: String,
    /// The call is tried again after this many milliseconds; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
    /// Trying again later, by hand, may help: the run pauses instead of ending.
    #[serde(default)]
    pub resumable: bool,
}
