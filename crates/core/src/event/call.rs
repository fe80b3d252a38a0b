use serde::{Deserialize, Serialize};

use crate::{BlobId, BootNonce, CallKey, Category, Item, Metered, SandboxLimitReached, Seq};

/// Body of `call_started`: the intent of one attempt at one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallStarted {
    /// The answer that holds the call.
    pub of: Seq,
    /// The call's place among that answer's output items.
    pub index: u32,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The provider's id of the call; may repeat within a run.
    pub call_id: String,
    /// The tool.
    pub tool: String,
    /// How it runs beside others.
    #[serde(default)]
    pub category: Category,
    /// The sandbox that the attempt acts on, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<BootNonce>,
}

/// Body of `call_finished`: the outcome of one attempt, with what the model is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallFinished {
    /// The answer that holds the call.
    pub of: Seq,
    /// The call's place in it.
    pub index: u32,
    /// The attempt that finished.
    pub attempt: u32,
    /// The output item that joins the conversation; absent for a repeated call whose first output
    /// already stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Item>,
    /// Facts for people and for tools.
    #[serde(default)]
    pub report: CallReport,
}

/// What is known about a call beside its output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallReport {
    /// Exit code of the command; -N: ended by signal N.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Milliseconds from start to outcome.
    pub wall_ms: u64,
    /// The terminal session or background command that the call started or used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionReport>,
    /// The whole output, kept by the harness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputReport>,
    /// Paths that the call says it changed, relative to the workspace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// The call may or may not have had its effects outside: a crash hid the outcome.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// The limit of the sandbox that the command reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<SandboxLimitReached>,
    /// What the command used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metered: Option<Metered>,
    /// What the tool returned, where that was not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
    /// The output tells of a failure (a tool's error, a rejected approval).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

/// The state of a command that outlives the call that started it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionReport {
    /// The number by which the model names it.
    pub id: u32,
    /// The attempt that started the process; the guest knows it by this.
    pub process: CallKey,
    /// Bytes of its output that the model has been given, or that were cut before it.
    pub reported: u64,
    /// It had not ended when the call did.
    pub running: bool,
    /// It has a terminal.
    #[serde(default)]
    pub tty: bool,
    /// The command line, for people.
    #[serde(default)]
    pub command: String,
}

/// Where the whole output of a call is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputReport {
    /// The blob, if it was larger than what the model was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobId>,
    /// Bytes in all.
    pub bytes: u64,
    /// The path inside the sandbox that the model was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Bytes beyond the limit for one output, which were dropped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Body of `call_failed`: the call ends the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallFailed {
    /// The answer that holds the call.
    pub of: Seq,
    /// The call's place in it.
    pub index: u32,
    /// The attempt that failed.
    pub attempt: u32,
    /// `UserError`, `ToolTimeoutError`, …
    pub error: String,
    /// What to tell a person.
    pub message: String,
}

/// Body of `call_rolled_back`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRolledBack {
    /// The answer that holds the call.
    pub of: Seq,
    /// The call's place in it.
    pub index: u32,
    /// The attempt that was undone.
    pub attempt: u32,
}

/// Body of `process_lost`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessLost {
    /// The number by which the model named it.
    pub session: u32,
    /// The command line.
    pub command: String,
}

/// Body of `approval_asked`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalAsked {
    /// The answer that holds the call.
    pub of: Seq,
    /// The call's place in it.
    pub index: u32,
    /// The provider's id of the call.
    pub call_id: String,
    /// The tool.
    pub tool: String,
    /// Arguments or input, as the model wrote them.
    pub arguments: String,
}

/// Body of `approval_given`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalGiven {
    /// The answer that holds the call.
    pub of: Seq,
    /// The call's place in it.
    pub index: u32,
    /// Yes or no.
    pub approved: bool,
    /// What the model is told about a no; absent: a fixed text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The decision also holds for later calls of this tool by this agent.
    #[serde(default)]
    pub always: bool,
}
