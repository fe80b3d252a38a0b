//! Fixed texts and shapes that models and clients depend on.

use moat_core::{Category, Item};
use serde_json::{Value, json};

pub(crate) const REJECTED: &str = "Tool execution was not approved.";
pub(crate) const EMPTY_CALL_ID: &str =
    "Tool invocations require a non-empty string call ID before execution.";

pub(crate) fn not_found(tool: &str) -> String {
    format!("Tool '{tool}' not found.")
}

pub(crate) fn not_found_error(tool: &str, agent: &str) -> String {
    format!("Tool {tool} not found in agent {agent}")
}

pub(crate) fn collision(tool: &str) -> String {
    format!(
        "Ambiguous function tool configuration: the tool name `{tool}` is used by multiple tools. \
         Assign a unique routed name to every colliding function tool."
    )
}

/// The item that carries a call's output back to the model.
pub fn output_item(category: Category, call_id: &str, output: &Value) -> Item {
    let kind = match category {
        Category::Function => "function_call_output",
        Category::Computer => "computer_call_output",
        Category::Custom => "custom_tool_call_output",
        Category::Shell => "shell_call_output",
        Category::ApplyPatch => "apply_patch_call_output",
        Category::LocalShell => "local_shell_call_output",
    };
    Item::from_value(&json!({ "type": kind, "call_id": call_id, "output": output }))
}
