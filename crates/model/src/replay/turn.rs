use std::collections::HashMap;

use moat_core::{Item, ItemFields};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::expand;
use super::transcript::{Expectation, Planned, Transcript, TranscriptError};

/// How much of a text an error shows, in characters.
const MAX_EXCERPT: usize = 200;

/// Which turn the ids of a transcript belong to.
#[derive(Debug)]
pub(super) struct Index(HashMap<String, usize>);

impl Index {
    pub(super) fn new(transcript: &Transcript) -> Result<Self, TranscriptError> {
        let mut turns = HashMap::new();
        for (turn, planned) in transcript.turns.iter().enumerate() {
            for item in &planned.items {
                for id in ids(item) {
                    let first = *turns.entry(id.clone()).or_insert(turn);
                    if first != turn {
                        return Err(TranscriptError::SharedId { id, first, second: turn });
                    }
                }
            }
        }
        Ok(Self(turns))
    }

    /// The turn that answers, and the input that is new since the last answer.
    fn find<'a>(&self, input: &'a [&'a RawValue]) -> (usize, &'a [&'a RawValue]) {
        for (position, raw) in input.iter().enumerate().rev() {
            let Ok(fields) = serde_json::from_str::<Ids>(raw.get()) else { continue };
            let known = [fields.call_id, fields.id].into_iter().flatten();
            if let Some(turn) = known.filter_map(|id| self.0.get(&id)).next() {
                return (turn.saturating_add(1), self.since(input, *turn, position));
            }
        }
        (0, input)
    }

    /// The outputs of a turn carry its ids as well, so what is new starts after its last own item.
    fn since<'a>(&self, input: &'a [&'a RawValue], turn: usize, last: usize) -> &'a [&'a RawValue] {
        let answers = |raw: &RawValue| {
            let Ok(ids) = serde_json::from_str::<Ids>(raw.get()) else { return false };
            let is_output = ids.kind.is_some_and(|kind| kind.ends_with("_output"));
            let known = [ids.call_id, ids.id].into_iter().flatten();
            !is_output && known.filter_map(|id| self.0.get(&id)).any(|known| *known == turn)
        };
        let upto = input.get(..=last).unwrap_or(input);
        let start = upto.iter().rposition(|raw| answers(raw)).map_or(0, |at| at.saturating_add(1));
        input.get(start..).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Ids {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    call_id: Option<String>,
}

fn ids(item: &Planned) -> Vec<String> {
    let (id, call_id) = match item {
        Planned::Exact(item) => {
            let ItemFields { id, call_id, .. } = item.fields();
            (id, call_id)
        }
        Planned::Template { item } => {
            (item.get("id").and_then(Value::as_str).map(str::to_owned), None)
        }
    };
    id.into_iter().chain(call_id).collect()
}

/// The members of a request that a replay looks at.
#[derive(Deserialize)]
pub(super) struct Asked<'a> {
    #[serde(default)]
    pub model: Option<String>,
    #[serde(default)]
    pub stream: bool,
    #[serde(default)]
    pub prompt_cache_key: Option<String>,
    #[serde(default)]
    instructions: Option<String>,
    #[serde(default, borrow)]
    tools: Vec<&'a RawValue>,
    #[serde(default, borrow)]
    input: Option<&'a RawValue>,
}

/// The turn that answers a request.
pub(super) struct Pick {
    pub turn: usize,
    pub output: Vec<Item>,
    /// Bytes of the conversation so far, for an estimate of its tokens.
    pub input_bytes: usize,
}

impl Asked<'_> {
    /// Picks the turn, checks what it expects, and makes its items. The error is for a person.
    pub(super) fn pick(&self, transcript: &Transcript, index: &Index) -> Result<Pick, String> {
        let input: Vec<&RawValue> = match self.input {
            // A plain text is a first message.
            Some(raw) if raw.get().starts_with('"') => vec![raw],
            Some(raw) => serde_json::from_str(raw.get())
                .map_err(|_| "the request's `input` is neither text nor a list".to_owned())?,
            None => Vec::new(),
        };
        let (turn, new) = index.find(&input);
        let Some(planned) = transcript.turns.get(turn) else {
            return Err(format!(
                "the transcript has {} turns and was asked for one more",
                transcript.turns.len()
            ));
        };
        let seen = Seen::new(new);
        if let Some(expect) = &planned.expect {
            self.check(expect, &seen)
                .map_err(|why| format!("turn {turn} of the transcript expects {why}"))?;
        }
        let last_output = seen.outputs.last().map(String::as_str).unwrap_or_default();
        let output = planned.items.iter().map(|item| match item {
            Planned::Exact(item) => item.clone(),
            Planned::Template { item } => expand::fill(item, turn, last_output),
        });
        let input_bytes = self.input.map_or(0, |raw| raw.get().len());
        Ok(Pick { turn, output: output.collect(), input_bytes })
    }

    fn check(&self, expect: &Expectation, seen: &Seen) -> Result<(), String> {
        let last_output = seen.outputs.last().map(String::as_str).unwrap_or_default();
        let all_outputs = seen.outputs.join("\n");
        let message = seen.message.as_deref().unwrap_or_default();
        let instructions = self.instructions.as_deref().unwrap_or_default();
        let places = [
            ("the last output", &expect.last_output_contains, last_output),
            ("the outputs", &expect.outputs_contain, all_outputs.as_str()),
            ("the last message", &expect.last_message_contains, message),
            ("the instructions", &expect.instructions_contain, instructions),
        ];
        for (place, wanted, text) in places {
            if let Some(missing) = wanted.iter().find(|wanted| !text.contains(wanted.as_str())) {
                return Err(format!("{place} to hold `{missing}`; it is `{}`", excerpt(text)));
            }
        }
        if let Some(found) =
            expect.last_output_lacks.iter().find(|text| last_output.contains(*text))
        {
            return Err(format!(
                "the last output not to hold `{found}`; it is `{}`",
                excerpt(last_output)
            ));
        }
        if let Some(count) = expect.outputs.filter(|count| *count != seen.outputs.len()) {
            return Err(format!("{count} tool outputs; there are {}", seen.outputs.len()));
        }
        if let Some(model) =
            expect.model.as_ref().filter(|model| self.model.as_ref() != Some(model))
        {
            let asked = self.model.as_deref().unwrap_or("none");
            return Err(format!("the model `{model}`; it is `{asked}`"));
        }
        let tools = self.tool_names();
        if let Some(tool) = expect.tools_include.iter().find(|tool| !tools.contains(tool)) {
            return Err(format!("a tool `{tool}`; there are `{}`", tools.join("`, `")));
        }
        Ok(())
    }

    fn tool_names(&self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Tool {
            name: Option<String>,
            #[serde(rename = "type")]
            kind: Option<String>,
        }
        let tools =
            self.tools.iter().filter_map(|raw| serde_json::from_str::<Tool>(raw.get()).ok());
        tools.filter_map(|tool| tool.name.or(tool.kind)).collect()
    }
}

/// The texts of what is new in a request.
#[derive(Default)]
struct Seen {
    outputs: Vec<String>,
    message: Option<String>,
}

impl Seen {
    fn new(items: &[&RawValue]) -> Self {
        let mut seen = Self::default();
        for raw in items {
            if let Ok(text) = serde_json::from_str::<String>(raw.get()) {
                seen.message = Some(text);
                continue;
            }
            let Ok(item) = Item::from_json(raw.get().to_owned()) else { continue };
            let fields = item.fields();
            if fields.role.as_deref() == Some("user") {
                seen.message = item.message_text();
            } else if fields.kind.is_some_and(|kind| kind.ends_with("_output")) {
                seen.outputs.push(output_text(&fields.output.unwrap_or_default()));
            }
        }
        seen
    }
}

/// The text of a tool's output: as it is, its text parts joined, or its JSON.
fn output_text(output: &Value) -> String {
    match output {
        Value::String(text) => text.clone(),
        Value::Array(parts) if parts.iter().all(|part| part.get("type").is_some()) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
        }
        other => other.to_string(),
    }
}

/// The end of a text, where outputs usually say how it went.
fn excerpt(text: &str) -> String {
    let skip = text.chars().count().saturating_sub(MAX_EXCERPT);
    let dots = if skip > 0 { "…" } else { "" };
    let end: String = text.chars().skip(skip).collect();
    format!("{dots}{}", end.escape_debug())
}
