//! Function tools: what a program written in Rust offers to the model.
//!
//! ```
//! use moat_harness::tool::{FunctionTool, ToolError, ToolOutput};
//!
//! let add = FunctionTool::new("add", "Adds two numbers.", |call| async move {
//!     let arguments: serde_json::Value = call.parse_arguments()?;
//!     let sum = arguments["a"].as_f64().unwrap_or(0.0) + arguments["b"].as_f64().unwrap_or(0.0);
//!     Ok::<_, ToolError>(ToolOutput::from(serde_json::json!(sum)))
//! })
//! .parameters(serde_json::json!({
//!     "type": "object",
//!     "properties": { "a": { "type": "number" }, "b": { "type": "number" } },
//!     "required": ["a", "b"], "additionalProperties": false,
//! }));
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moat_core::{CallKey, Category, OnUnknown, ToolRecord};
use serde_json::{Value, json};

/// What the model is told by default when a tool fails. The reason stays in the journal: it may
/// hold what the model should not see.
pub const DEFAULT_FAILURE: &str = "An error occurred while running the tool. Please try again.";

/// One call of a tool.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// Names this attempt for ever; the same when the attempt is taken up again after a crash, so
    /// it serves as an idempotency key.
    pub key: CallKey,
    /// The provider's id of the call.
    pub call_id: String,
    /// The tool's name.
    pub tool: String,
    /// Arguments, as the model wrote them.
    pub arguments: String,
}

impl ToolCall {
    /// Arguments as a value; an empty text is an empty object.
    pub fn parse_arguments<T: serde::de::DeserializeOwned>(&self) -> Result<T, ToolError> {
        let text = if self.arguments.trim().is_empty() { "{}" } else { &self.arguments };
        serde_json::from_str(text).map_err(|error| ToolError::arguments(error.to_string()))
    }
}

/// What a tool gives back.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolOutput {
    /// What the model gets: text, or a list of `input_text`, `input_image` and `input_file` parts.
    pub output: Value,
    /// What the tool returned, where that was not text.
    pub value: Option<Value>,
}

impl From<String> for ToolOutput {
    fn from(text: String) -> Self {
        Self { output: text.into(), value: None }
    }
}

impl From<&str> for ToolOutput {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Value> for ToolOutput {
    /// Text stays text; anything else is shown to the model as compact JSON.
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => text.into(),
            other => Self { output: other.to_string().into(), value: Some(other) },
        }
    }
}

/// Why a tool failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct ToolError {
    /// For people and for [`Failure::Template`].
    pub message: String,
    kind: ToolErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToolErrorKind {
    Arguments,
    Failed,
    TimedOut,
}

impl ToolError {
    /// The tool ran and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: ToolErrorKind::Failed }
    }

    /// The arguments are not what the tool takes; its body did not run.
    pub fn arguments(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: ToolErrorKind::Arguments }
    }
}

/// What a failing call does.
#[derive(Clone)]
pub enum Failure {
    /// The model gets [`DEFAULT_FAILURE`] and the run goes on.
    Default,
    /// The model gets this text, `{error}` replaced by the reason.
    Template(String),
    /// The run ends.
    Raise,
}

/// What a call that takes too long does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTimeout {
    /// The model is told.
    Result,
    /// The run ends.
    Raise,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolOutcome {
    /// With an output for the model.
    Output {
        /// What the tool gave back.
        output: ToolOutput,
        /// It tells of a failure.
        failed: bool,
    },
    /// It ends the run.
    Raise {
        /// The peer's name of the error.
        error: &'static str,
        /// What to tell a person.
        message: String,
    },
}

/// A tool that runs in the harness's process.
#[async_trait]
pub trait Tool: Send + Sync {
    /// What the model sees and how calls are treated.
    fn record(&self) -> ToolRecord;

    /// Whether the tool is offered in the next turn. Asked before every model call; the answer is
    /// journalled, so that a resumed run sees the same.
    fn is_enabled(&self) -> bool {
        true
    }

    /// Makes one call. Dropping the future gives it up.
    async fn call(&self, call: ToolCall) -> ToolOutcome;
}

type Body = dyn Fn(ToolCall) -> Pin<Box<dyn Future<Output = Result<ToolOutput, ToolError>> + Send>>
    + Send
    + Sync;

/// A tool made from a function.
#[derive(Clone)]
pub struct FunctionTool {
    record: ToolRecord,
    body: Arc<Body>,
    enabled: Arc<dyn Fn() -> bool + Send + Sync>,
    failure: Failure,
    timeout: Option<(Duration, OnTimeout)>,
}

impl FunctionTool {
    /// A tool without parameters; see [`FunctionTool::parameters`].
    pub fn new<F, R>(name: &str, description: &str, body: F) -> Self
    where
        F: Fn(ToolCall) -> R + Send + Sync + 'static,
        R: Future<Output = Result<ToolOutput, ToolError>> + Send + 'static,
    {
        let wire = json!({
            "type": "function",
            "name": name,
            "description": description,
            "parameters": { "type": "object", "properties": {}, "required": [], "additionalProperties": false },
            "strict": true,
        });
        Self {
            record: ToolRecord {
                name: name.to_owned(),
                category: Category::Function,
                wire,
                sandbox: false,
                needs_approval: false,
                on_unknown: OnUnknown::ReportUnknown,
            },
            body: Arc::new(move |call| Box::pin(body(call))),
            enabled: Arc::new(|| true),
            failure: Failure::Default,
            timeout: None,
        }
    }

    /// The JSON Schema of the arguments.
    #[must_use]
    pub fn parameters(mut self, schema: Value) -> Self {
        if let Some(slot) = self.record.wire.get_mut("parameters") {
            *slot = schema;
        }
        self
    }

    /// Whether the provider is to hold the model to the schema. Default: yes.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        if let Some(slot) = self.record.wire.get_mut("strict") {
            *slot = strict.into();
        }
        self
    }

    /// A person has to agree before a call runs.
    #[must_use]
    pub fn needs_approval(mut self) -> Self {
        self.record.needs_approval = true;
        self
    }

    /// What to do about a call whose outcome a crash made unknown.
    #[must_use]
    pub fn on_unknown(mut self, policy: OnUnknown) -> Self {
        self.record.on_unknown = policy;
        self
    }

    /// What a failing call does.
    #[must_use]
    pub fn on_failure(mut self, failure: Failure) -> Self {
        self.failure = failure;
        self
    }

    /// How long a call may take, and what happens then.
    #[must_use]
    pub fn timeout(mut self, limit: Duration, then: OnTimeout) -> Self {
        self.timeout = Some((limit, then));
        self
    }

    /// When the tool is offered.
    #[must_use]
    pub fn enabled_if(mut self, enabled: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.enabled = Arc::new(enabled);
        self
    }

    fn failed(&self, tool: &str, error: ToolError) -> ToolOutcome {
        let text = match (&self.failure, error.kind) {
            (_, ToolErrorKind::TimedOut) => error.message,
            (Failure::Raise, _) => {
                let message = format!("Error running tool {tool}: {}", error.message);
                return ToolOutcome::Raise { error: "UserError", message };
            }
            (Failure::Default, _) => DEFAULT_FAILURE.to_owned(),
            (Failure::Template(template), _) => template.replace("{error}", &error.message),
        };
        ToolOutcome::Output { output: text.into(), failed: true }
    }
}

#[async_trait]
impl Tool for FunctionTool {
    fn record(&self) -> ToolRecord {
        self.record.clone()
    }

    fn is_enabled(&self) -> bool {
        (self.enabled)()
    }

    async fn call(&self, call: ToolCall) -> ToolOutcome {
        let tool = call.tool.clone();
        if let Err(error) = call.parse_arguments::<serde_json::Map<String, Value>>() {
            return self.failed(&tool, error);
        }
        let running = (self.body)(call);
        let result = match self.timeout {
            None => running.await,
            Some((limit, then)) => match tokio::time::timeout(limit, running).await {
                Ok(result) => result,
                Err(_) => {
                    let seconds = limit.as_secs_f64();
                    let message = format!("Tool '{tool}' timed out after {seconds} seconds.");
                    if then == OnTimeout::Raise {
                        return ToolOutcome::Raise { error: "ToolTimeoutError", message };
                    }
                    Err(ToolError { message, kind: ToolErrorKind::TimedOut })
                }
            },
        };
        match result {
            Ok(output) => ToolOutcome::Output { output, failed: false },
            Err(error) => self.failed(&tool, error),
        }
    }
}
