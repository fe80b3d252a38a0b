//! Transcripts for the replay model, written down as JSON lines.

use serde_json::{Value, json};

/// Items of one answer.
pub(crate) type Turn = Vec<Value>;

pub(crate) fn say(text: &str) -> Value {
    json!({"type": "message", "text": text})
}

pub(crate) fn exec(cmd: &str) -> Value {
    exec_with(json!({ "cmd": cmd, "login": false }))
}

pub(crate) fn exec_with(arguments: Value) -> Value {
    json!({"type": "function_call", "name": "exec_command", "arguments": arguments})
}

/// Types into the session that the `call`-th call of the run started, counted from 0.
pub(crate) fn type_into(call: usize, chars: &str, yield_time_ms: u64) -> Value {
    let arguments =
        json!({"session_id": 1000 + call, "chars": chars, "yield_time_ms": yield_time_ms});
    json!({"type": "function_call", "name": "write_stdin", "arguments": arguments})
}

pub(crate) fn patch(body: &str) -> Value {
    let input = format!("*** Begin Patch\n{body}\n*** End Patch\n");
    json!({"type": "custom_tool_call", "name": "apply_patch", "input": input})
}

pub(crate) fn transcript(turns: &[Turn]) -> String {
    turns.iter().map(|output| json!({ "output": output }).to_string() + "\n").collect()
}
