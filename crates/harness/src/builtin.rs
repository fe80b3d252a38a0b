//! The tools over a sandbox, as the models were trained on them: names, defaults and replies.

mod exec;
mod files;
mod path;

use std::collections::BTreeMap;
use std::sync::Arc;

use moat_core::{CallReport, SessionReport, ToolRecord};
use serde_json::Value;

use crate::compute::{CallContext, ComputeError};
use crate::driver::Observer;
use crate::machine::CallRun;
use crate::{exec_reply, image, patch};

/// One call of a tool over the sandbox.
pub(crate) struct SandboxCall {
    pub(crate) run: CallRun,
    pub(crate) sessions: BTreeMap<u32, SessionReport>,
    pub(crate) observer: Arc<dyn Observer>,
}

/// How a call ended.
pub(crate) enum CallEnd {
    /// With an output for the model.
    Done { output: Value, report: Box<CallReport> },
    /// It ends the run.
    Raise { error: String, message: String },
    /// The host cannot go on; the run pauses and the attempt is taken up again.
    Host(ComputeError),
    /// The sandbox does not answer; the attempt may or may not have had its effects inside it.
    SandboxLost,
}

impl CallEnd {
    pub(crate) fn may_have_changed_files(&self) -> bool {
        match self {
            Self::Done { report, .. } => {
                report.exit_code.is_some() || report.session.is_some() || !report.changed.is_empty()
            }
            Self::Raise { .. } | Self::Host(_) | Self::SandboxLost => true,
        }
    }

    fn text(text: impl Into<String>, report: CallReport) -> Self {
        Self::Done { output: Value::String(text.into()), report: Box::new(report) }
    }

    fn refused(text: impl Into<String>) -> Self {
        Self::text(text, CallReport { failed: true, ..CallReport::default() })
    }
}

/// The tools over the sandbox, in the order in which the model sees them.
pub fn sandbox_tools() -> Vec<ToolRecord> {
    let tool = |name: &str, category, wire| ToolRecord {
        name: name.to_owned(),
        category,
        wire,
        sandbox: true,
        needs_approval: false,
        on_unknown: Default::default(),
    };
    use moat_core::Category::{Custom, Function};
    vec![
        tool(exec_reply::EXEC_COMMAND, Function, exec_reply::exec_command_tool()),
        tool(exec_reply::WRITE_STDIN, Function, exec_reply::write_stdin_tool()),
        tool(patch::APPLY_PATCH, Custom, patch::apply_patch_tool()),
        tool(image::VIEW_IMAGE, Function, image::view_image_tool()),
    ]
}

pub(crate) async fn run(context: &CallContext, call: &SandboxCall) -> CallEnd {
    let ended = match call.run.tool.as_str() {
        exec_reply::EXEC_COMMAND => exec::exec_command(context, call).await,
        exec_reply::WRITE_STDIN => exec::write_stdin(context, call).await,
        patch::APPLY_PATCH => files::apply_patch(context, call).await,
        image::VIEW_IMAGE => files::view_image(context, call).await,
        other => Ok(CallEnd::refused(format!("Tool '{other}' not found."))),
    };
    ended.unwrap_or_else(end_of)
}

fn end_of(error: ComputeError) -> CallEnd {
    if error.is_lost() {
        return CallEnd::SandboxLost;
    }
    CallEnd::Host(error)
}
