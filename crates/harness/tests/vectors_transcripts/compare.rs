//! Compares what a run did with what a transcript says.

use moat_core::{Item, RunOutcome};
use moat_harness::machine::{Entry, Origin, State, Status};
use moat_model::ModelRequest;
use serde_json::{Value, json};

use super::scenario::Step;

pub(crate) fn steps(steps: &[Step], expected: &Value) -> Result<(), String> {
    let expected = expected.as_array().ok_or("nothing is expected")?;
    same("number of steps", &json!(expected.len()), &json!(steps.len()))?;
    for (step, expected) in steps.iter().zip(expected) {
        one(step, expected)?;
    }
    Ok(())
}

fn one(step: &Step, expected: &Value) -> Result<(), String> {
    let state = &step.state;
    let requests: Vec<_> = step.requests.iter().map(request).collect();
    let wanted = expected["requests"].as_array().ok_or("no requests are expected")?;
    same("number of requests", &json!(wanted.len()), &json!(requests.len()))?;
    for (number, (wanted, request)) in wanted.iter().zip(&requests).enumerate() {
        for (member, wanted) in wanted.as_object().into_iter().flatten() {
            same(&format!("request {number} {member}"), wanted, &request[member])?;
        }
    }
    let items: Vec<_> = items(state);
    let usage = state.usage();
    let got = json!({
        "items": items,
        "outcome": outcome(state),
        "last_agent": state.agent().name,
        "last_response_id": state.response_id(),
        "usage": {
            "requests": usage.requests,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
        },
        "turns": state.turns(),
        "unconsumed_model_turns": { "main": step.left },
    });
    for member in [
        "items",
        "outcome",
        "last_agent",
        "last_response_id",
        "usage",
        "turns",
        "unconsumed_model_turns",
    ] {
        if let Some(wanted) = expected.get(member) {
            same(member, &comparable(wanted), &comparable(&got[member]))?;
        }
    }
    let sorted = |value: Vec<String>| {
        let mut value = value;
        value.sort();
        json!(value)
    };
    let wanted = expected["executed"].as_array().into_iter().flatten();
    let wanted = wanted.filter_map(|line| line.as_str().map(str::to_owned)).collect();
    same("executed", &sorted(wanted), &sorted(step.executed.clone()))
}

/// Messages of most user errors advise on the peer's language; only their kind is compared.
fn comparable(value: &Value) -> Value {
    let advises = value["error"] == "UserError"
        && !value["message"].as_str().unwrap_or_default().starts_with("Error running tool");
    let mut value = value.clone();
    if advises {
        value["message"] = Value::Null;
    }
    value
}

fn same(what: &str, wanted: &Value, got: &Value) -> Result<(), String> {
    let (wanted, got) = (without_nulls(wanted), without_nulls(got));
    if wanted == got { Ok(()) } else { Err(format!("{what}: wanted {wanted}, got {got}")) }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect(),
        Value::Array(values) => values.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

fn request(request: &ModelRequest) -> Value {
    let input: Vec<_> = request.input.iter().map(Item::to_value).collect();
    let tools: Vec<_> = request.tools.iter().map(|tool| tool["name"].clone()).collect();
    json!({ "input": input, "tools": tools, "instructions": request.instructions })
}

fn outcome(state: &State) -> Value {
    match state.status() {
        Status::Finished(RunOutcome::Final { output }) => {
            json!({ "kind": "final", "output": output })
        }
        Status::Finished(RunOutcome::Error { error, message }) => {
            json!({ "kind": "error", "error": error, "message": message })
        }
        Status::Limited { value, .. } => json!({
            "kind": "error",
            "error": "MaxTurnsExceeded",
            "message": format!("Max turns ({value}) exceeded"),
        }),
        other => json!({ "kind": format!("{other:?}") }),
    }
}

fn items(state: &State) -> Vec<Value> {
    state.new_entries().iter().map(|entry| item(entry, &state.agent().name)).collect()
}

fn item(entry: &Entry, agent: &str) -> Value {
    let raw = entry.item.to_value();
    let mut item = json!({ "agent": agent, "raw": raw });
    let kind = match (entry.origin, raw["type"].as_str().unwrap_or_default()) {
        (Origin::Tool, _) => {
            item["output"] = entry.value.clone().unwrap_or_else(|| raw["output"].clone());
            "tool_call_output_item"
        }
        (_, "message") => {
            item["text"] = entry.item.message_text().into();
            "message_output_item"
        }
        (_, "reasoning") => "reasoning_item",
        (_, "compaction") => "compaction_item",
        _ => "tool_call_item",
    };
    item["type"] = kind.into();
    item
}
