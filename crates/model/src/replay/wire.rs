use moat_core::Item;
use serde_json::{Value, json};

use super::transcript::{Pace, TranscriptUsage};

/// An answer that is about to be written.
pub(super) struct Response<'a> {
    pub turn: usize,
    pub model: &'a str,
    pub output: &'a [Item],
    pub usage: TranscriptUsage,
    /// Seconds since 1970.
    pub created_at: u64,
}

impl Response<'_> {
    /// The response object of a finished answer. Items are put in as they are, byte for byte.
    pub(super) fn completed(&self) -> String {
        let mut output = String::from("[");
        for (index, item) in self.output.iter().enumerate() {
            if index > 0 {
                output.push(',');
            }
            output.push_str(item.json());
        }
        output.push(']');
        self.object("completed", &output, &Value::Null)
    }

    /// A response object that failed.
    pub(super) fn failed(&self, code: &str, message: &str) -> String {
        self.object("failed", "[]", &json!({"code": code, "message": message}))
    }

    fn object(&self, status: &str, output: &str, error: &Value) -> String {
        let completed_at = if status == "completed" { json!(self.created_at) } else { Value::Null };
        let rest = json!({
            "id": format!("resp_replay_{}", self.turn),
            "object": "response", "created_at": self.created_at, "completed_at": completed_at,
            "status": status, "error": error, "incomplete_details": null, "instructions": null,
            "metadata": {}, "model": self.model, "parallel_tool_calls": true, "temperature": 1.0,
            "tool_choice": "auto", "tools": [], "top_p": 1.0,
        });
        let mut text = rest.to_string();
        text.pop();
        text.push_str(",\"output\":");
        text.push_str(output);
        // Strict readers know no null usage.
        if status == "completed" {
            text.push_str(&format!(",\"usage\":{}", self.usage_object()));
        }
        text.push('}');
        text
    }

    fn usage_object(&self) -> Value {
        let TranscriptUsage { input_tokens, cached_tokens, output_tokens, reasoning_tokens } =
            self.usage;
        json!({
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": cached_tokens, "cache_write_tokens": 0},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
            "total_tokens": input_tokens.saturating_add(output_tokens),
        })
    }

    /// All events of the answer as server-sent events, in the order that the API documents.
    pub(super) fn events(&self, pace: Pace) -> Vec<Event> {
        let mut events = self.opening();
        for (index, item) in self.output.iter().enumerate() {
            item_events(&mut events, index, item, pace.chunk);
        }
        events.terminal("response.completed", &self.completed());
        events.list
    }

    /// The events of an answer that failed.
    pub(super) fn failed_events(&self, code: &str, message: &str) -> Vec<Event> {
        let mut events = self.opening();
        events.terminal("response.failed", &self.failed(code, message));
        events.list
    }

    fn opening(&self) -> Events {
        let mut events = Events::default();
        let begun = self.object("in_progress", "[]", &Value::Null);
        events.terminal("response.created", &begun);
        events.terminal("response.in_progress", &begun);
        events
    }
}

/// One event, framed.
pub(super) struct Event {
    pub text: String,
    pub is_delta: bool,
}

#[derive(Default)]
struct Events {
    list: Vec<Event>,
}

impl Events {
    fn push(&mut self, kind: &str, members: Value) {
        let members = with(members, "type", kind);
        let members = with(members, "sequence_number", self.list.len());
        let text = format!("event: {kind}\ndata: {members}\n\n");
        self.list.push(Event { text, is_delta: kind.ends_with(".delta") });
    }

    /// An event that carries JSON text as it is, under `member`.
    fn exact(&mut self, kind: &str, start: &str, member: &str, json: &str) {
        let number = self.list.len();
        // An item may have come over several lines; each of them is a line of data then.
        let json = json.replace('\r', " ").replace('\n', "\ndata: ");
        let text = format!(
            "event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number},{start}\
             \"{member}\":{json}}}\n\n"
        );
        self.list.push(Event { text, is_delta: false });
    }

    fn terminal(&mut self, kind: &str, response: &str) {
        self.exact(kind, "", "response", response);
    }

    fn deltas(&mut self, kind: &str, base: &Value, text: &str, chunk: usize) {
        for piece in pieces(text, chunk) {
            let members = with(base.clone(), "delta", piece);
            self.push(&format!("{kind}.delta"), with_logprobs(members, kind));
        }
    }
}

fn item_events(events: &mut Events, index: usize, item: &Item, chunk: usize) {
    let whole = item.to_value();
    let kind = text(&whole, "type");
    let base = json!({"output_index": index, "item_id": text(&whole, "id")});
    let added = |events: &mut Events, member: &str, empty: Value| {
        let mut begun = with(whole.clone(), member, empty);
        if whole.get("status").is_some_and(Value::is_string) {
            begun = with(begun, "status", "in_progress");
        }
        events.push("response.output_item.added", json!({"output_index": index, "item": begun}));
    };
    match kind {
        "message" => {
            added(events, "content", json!([]));
            for (at, part) in list(&whole, "content").enumerate() {
                content_part(events, &with(base.clone(), "content_index", at), part, chunk);
            }
        }
        "reasoning" => {
            added(events, "summary", json!([]));
            for (at, part) in list(&whole, "summary").enumerate() {
                summary_part(events, &with(base.clone(), "summary_index", at), part, chunk);
            }
        }
        "function_call" => {
            added(events, "arguments", json!(""));
            let named = with(base.clone(), "name", text(&whole, "name"));
            let arguments = text(&whole, "arguments");
            events.deltas("response.function_call_arguments", &base, arguments, chunk);
            let done = with(named, "arguments", arguments);
            events.push("response.function_call_arguments.done", done);
        }
        "custom_tool_call" => {
            added(events, "input", json!(""));
            let input = text(&whole, "input");
            events.deltas("response.custom_tool_call_input", &base, input, chunk);
            events.push("response.custom_tool_call_input.done", with(base, "input", input));
        }
        _ => {
            let members = json!({"output_index": index, "item": whole});
            events.push("response.output_item.added", members);
        }
    }
    let start = format!("\"output_index\":{index},");
    events.exact("response.output_item.done", &start, "item", item.json());
}

fn content_part(events: &mut Events, base: &Value, part: &Value, chunk: usize) {
    let (member, event) = match text(part, "type") {
        "refusal" => ("refusal", "response.refusal"),
        _ => ("text", "response.output_text"),
    };
    let whole = text(part, member);
    let empty = with(part.clone(), member, "");
    events.push("response.content_part.added", with(base.clone(), "part", empty));
    events.deltas(event, base, whole, chunk);
    let done = with(base.clone(), member, whole);
    events.push(&format!("{event}.done"), with_logprobs(done, event));
    events.push("response.content_part.done", with(base.clone(), "part", part.clone()));
}

fn summary_part(events: &mut Events, base: &Value, part: &Value, chunk: usize) {
    let whole = text(part, "text");
    let empty = with(part.clone(), "text", "");
    events.push("response.reasoning_summary_part.added", with(base.clone(), "part", empty));
    events.deltas("response.reasoning_summary_text", base, whole, chunk);
    events.push("response.reasoning_summary_text.done", with(base.clone(), "text", whole));
    events.push("response.reasoning_summary_part.done", with(base.clone(), "part", part.clone()));
}

/// The object with one more member.
fn with(mut object: Value, member: &str, value: impl Into<Value>) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.insert(member.to_owned(), value.into());
    }
    object
}

fn with_logprobs(members: Value, kind: &str) -> Value {
    if kind == "response.output_text" { with(members, "logprobs", json!([])) } else { members }
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value.get(member).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, member: &str) -> impl Iterator<Item = &'a Value> {
    value.get(member).and_then(Value::as_array).into_iter().flatten()
}

fn pieces(text: &str, chunk: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.char_indices().nth(chunk).map_or(rest.len(), |(at, _)| at);
        let (piece, tail) = rest.split_at(end);
        rest = tail;
        (!piece.is_empty()).then_some(piece)
    })
}
