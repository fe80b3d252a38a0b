use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Cost, Hash, Item, RunId, SandboxSettings, Seq, Usage};

/// Body of `run_started`: everything that the machine needs to drive the run, so that resuming
/// never depends on an agent folder that may have changed since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// The agent as it was when the run began.
    pub agent: AgentRecord,
    /// The first input.
    pub input: Vec<Item>,
    /// How the run is to be driven.
    #[serde(default)]
    pub options: RunOptions,
    /// The run that started this one for a call, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentLink>,
    /// The run whose journal, up to a point, stands before this one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<ForkPoint>,
    /// Environment of every command in the sandbox, beside the fixed list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Fences that may be missing on the host, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_missing: Vec<String>,
    /// How its sandboxes are made.
    #[serde(default, skip_serializing_if = "SandboxSettings::is_default")]
    pub sandbox: Box<SandboxSettings>,
    /// Where the files came from, for giving changes back and for `git_repo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Facts for people: the model's label (`replay`), allowed missing fences, and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// An agent's definition, as the journal keeps it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// The agent's name.
    pub name: String,
    /// Hash of the whole definition.
    pub hash: Option<Hash>,
    /// The complete system prompt; absent when the agent has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// The model to call.
    pub model: String,
    /// Members that are added to every request of the Responses API (`temperature`, `reasoning`, …).
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub model_settings: serde_json::Map<String, Value>,
    /// The tools, in the order in which the model sees them.
    #[serde(default)]
    pub tools: Vec<ToolRecord>,
}

/// A tool, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolRecord {
    /// The name that calls use.
    pub name: String,
    /// Which calls reach it, and when they run beside others.
    #[serde(default)]
    pub category: Category,
    /// What the model is shown: the tool's object in the request.
    pub wire: Value,
    /// The call acts on the sandbox only, so its effects are undone with the sandbox.
    #[serde(default)]
    pub sandbox: bool,
    /// A person has to agree before a call runs.
    #[serde(default)]
    pub needs_approval: bool,
    /// What to do about a call whose outcome a crash made unknown.
    #[serde(default)]
    pub on_unknown: OnUnknown,
}

/// The order in which outputs of one answer stand, and what runs side by side: categories run
/// beside each other; inside `Function` calls run beside each other, inside the others in turn.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// `function_call`
    #[default]
    Function,
    /// `computer_call`
    Computer,
    /// `custom_tool_call`: freeform input
    Custom,
    /// `shell_call`
    Shell,
    /// `apply_patch_call`
    ApplyPatch,
    /// `local_shell_call`
    LocalShell,
}

/// What happens to a call with effects outside whose outcome is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// The model is told that the call may have happened.
    #[default]
    ReportUnknown,
    /// A person decides.
    Ask,
    /// The call is made again with the same idempotency key.
    Retry,
}

/// How a run is to be driven.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOptions {
    /// Model calls for one input; absent: no limit.
    pub max_turns: Option<u32>,
    /// Input and output tokens over the whole run; absent: no limit.
    pub max_tokens: Option<u64>,
    /// Money over the whole run; absent: no limit.
    pub max_cost: Option<Cost>,
    /// What a call of a tool that does not exist does.
    pub tool_not_found: ToolNotFound,
    /// What two tools of one name do.
    pub tool_name_collision: ToolNameCollision,
    /// How many function calls run side by side; absent: all.
    pub max_tool_concurrency: Option<u32>,
    /// Ask the model for a stream.
    pub stream: bool,
    /// How often one model call is tried again.
    pub max_model_retries: u32,
    /// What a call does whose id and arguments an earlier, finished call had.
    pub repeated_calls: RepeatedCalls,
}

impl Default for RunOptions {
    /// The defaults of the peer's library: 10 turns, an unknown tool ends the run.
    fn default() -> Self {
        Self {
            max_turns: Some(10),
            max_tokens: None,
            max_cost: None,
            tool_not_found: ToolNotFound::RaiseError,
            tool_name_collision: ToolNameCollision::LastWins,
            max_tool_concurrency: None,
            stream: true,
            max_model_retries: 5,
            repeated_calls: RepeatedCalls::Skip,
        }
    }
}

/// What a call of a tool that does not exist does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolNotFound {
    /// Ends the run.
    #[default]
    RaiseError,
    /// Tells the model.
    ReturnErrorToModel,
}

/// What two tools of one name do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolNameCollision {
    /// The last one counts.
    #[default]
    LastWins,
    /// The run does not start.
    Error,
}

/// What a call does whose id and arguments an earlier, finished call had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepeatedCalls {
    /// It is taken for the same call and left out.
    #[default]
    Skip,
    /// It is a new call: some servers number the calls of every answer from one.
    Run,
}

/// Ties a child run to the call that started it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParentLink {
    /// The parent run.
    pub run: RunId,
    /// The parent's answer that holds the call.
    pub seq: Seq,
    /// The call's place in that answer.
    pub index: u32,
    /// How many runs stand above this one.
    pub depth: u32,
}

/// Where a fork left its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkPoint {
    /// The source run.
    pub run: RunId,
    /// The last event of the source that belongs to the fork's past.
    pub seq: Seq,
}

/// The host folder that a workspace started from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Its absolute path on the host.
    pub folder: String,
    /// Paths below it that were left out because they are likely secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<String>,
}

/// Body of `run_continued`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunContinued {
    /// What is added to the conversation.
    pub input: Vec<Item>,
    /// Limits from now on; absent members of the enclosing object keep what was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<RunOptions>,
    /// The model from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What makes its sandboxes from now on. The one that it has is left if that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
}

/// Body of `steered`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steered {
    /// What is added to the conversation before the next model call.
    pub input: Vec<Item>,
}

/// Body of `child_started`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChildStarted {
    /// The child run.
    pub child: RunId,
    /// The answer that holds the call.
    pub of: Seq,
    /// The call's place in it.
    pub index: u32,
    /// The agent that the child runs.
    pub agent: String,
}

/// Body of `child_finished`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChildFinished {
    /// The child run.
    pub child: RunId,
    /// How it ended.
    pub outcome: RunOutcome,
    /// What it used.
    #[serde(default)]
    pub usage: Usage,
    /// What it cost.
    #[serde(default)]
    pub cost: Cost,
}

/// Body of `limit_reached`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitReached {
    /// `turns`, `tokens`, `cost`, …
    pub limit: String,
    /// The limit's value, in the limit's unit.
    pub value: u64,
}

/// Body of `cancel_requested`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CancelRequested {
    /// Why, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Body of `run_paused`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunPaused {
    /// Why.
    pub reason: PauseReason,
    /// What to tell a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Why a run stopped for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// A person interrupted it.
    User,
    /// Calls wait for a person.
    Approval,
    /// The model's provider stays down.
    Provider,
    /// The host cannot go on: no sandbox, a full disk.
    Host,
}

/// Body of `run_resumed`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunResumed {
    /// Raised limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<RunOptions>,
    /// Another model from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What makes its sandboxes from now on. The one that it has is left if that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
}

/// Body of `run_moved`: the run was exported to go on elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunMoved {
    /// Where to, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Body of `erased`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunErased {
    /// Why, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Body of `run_finished`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFinished {
    /// How it ended.
    pub outcome: RunOutcome,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RunOutcome {
    /// With an answer.
    Final {
        /// The answer: text, or the value of a structured output.
        output: Value,
    },
    /// With an error.
    Error {
        /// `ModelBehaviorError`, `UserError`, `MaxTurnsExceeded`, …: the peer's names.
        error: String,
        /// What to tell a person.
        message: String,
    },
    /// Because somebody asked for it.
    Cancelled,
}
