use std::collections::HashMap;

use moat_core::{Item, Retryable, Usage};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::expand::{self, Place};
use super::transcript::{Planned, Transcript, TranscriptUsage};

/// What a model said in one turn.
#[derive(Clone, Copy, Debug)]
pub struct RecordedTurn<'a> {
    /// The items, as they came.
    pub output: &'a [Item],
    /// Tokens.
    pub usage: Option<Usage>,
}

/// Why no transcript can be written.
#[derive(Debug, thiserror::Error)]
#[error("the transcript cannot be written as YAML: {0}")]
pub struct RecordError(String);

impl Retryable for RecordError {
    fn is_retryable(&self) -> bool {
        false
    }
}

impl Transcript {
    /// Writes the transcript of a run as YAML, each item in the shortest form that gives exactly
    /// this item again.
    ///
    /// Two things differ from what was recorded, because a replay tells turns apart by ids: turns
    /// without any item are left out, and an id that an earlier turn has as well gets the number of
    /// its turn appended.
    pub fn record<'a>(
        about: Option<&str>,
        turns: impl IntoIterator<Item = RecordedTurn<'a>>,
    ) -> Result<String, RecordError> {
        let mut ids = HashMap::new();
        let turns = turns.into_iter().filter(|turn| !turn.output.is_empty());
        let turns = turns.enumerate().map(|(index, turn)| WrittenTurn {
            usage: turn.usage.map(TranscriptUsage::from),
            output: turn
                .output
                .iter()
                .enumerate()
                .map(|(at, item)| {
                    let item = with_own_ids(item, index, &mut ids);
                    written(Place { turn: index, index: at }, &item)
                })
                .collect(),
        });
        let file = WrittenFile { about, turns: turns.collect() };
        serde_saphyr::to_string(&file).map_err(|error| RecordError(error.to_string()))
    }
}

impl From<Usage> for TranscriptUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            cached_tokens: usage.cached_tokens,
            output_tokens: usage.output_tokens,
            reasoning_tokens: usage.reasoning_tokens,
        }
    }
}

#[derive(Serialize)]
struct WrittenFile<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<&'a str>,
    turns: Vec<WrittenTurn>,
}

#[derive(Serialize)]
struct WrittenTurn {
    output: Vec<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<TranscriptUsage>,
}

/// The members of an item, the telling ones first.
struct Written(Map<String, Value>);

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const FIRST: [&str; 9] =
            ["type", "id", "call_id", "role", "name", "text", "arguments", "input", "summary"];
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for name in FIRST {
            if let Some(value) = self.0.get(name) {
                map.serialize_entry(name, value)?;
            }
        }
        for (name, value) in self.0.iter().filter(|(name, _)| !FIRST.contains(&name.as_str())) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn written(place: Place, item: &Item) -> Written {
    let whole = item.to_value();
    let forms = [short(&whole), whole.as_object().cloned()];
    for form in forms.into_iter().flatten() {
        let again = expand::item(place, &Value::Object(form.clone()));
        if let Ok(Planned::Exact(again)) = again
            && again == *item
            && !has_fractions(&whole)
        {
            return Written(form);
        }
    }
    let exact = Value::String(item.json().to_owned());
    Written(Map::from_iter([("json".to_owned(), exact)]))
}

/// Numbers that do not fit an integer lose their spelling when they are parsed.
fn has_fractions(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(list) => list.iter().any(has_fractions),
        Value::Object(members) => members.values().any(has_fractions),
        _ => false,
    }
}

/// The short form of an item, which need not give the same item again.
fn short(whole: &Value) -> Option<Map<String, Value>> {
    let mut item = whole.as_object()?.clone();
    match item.get("type")?.as_str()? {
        "message" => {
            let text = whole.pointer("/content/0/text")?.clone();
            for member in ["content", "role", "status"] {
                item.remove(member);
            }
            item.insert("text".to_owned(), text);
        }
        "reasoning" => {
            let text = whole.pointer("/summary/0/text")?.clone();
            item.insert("summary".to_owned(), text);
        }
        "function_call" => {
            item.remove("status");
            let arguments = item.get("arguments")?.as_str()?;
            if let Ok(parsed @ Value::Object(_)) = serde_json::from_str(arguments) {
                let same = parsed.to_string();
                if same == arguments {
                    item.insert("arguments".to_owned(), parsed);
                }
            }
        }
        _ => return None,
    }
    Some(item)
}

/// The item, with ids that no earlier turn has.
fn with_own_ids(item: &Item, turn: usize, ids: &mut HashMap<String, usize>) -> Item {
    let mut value = item.to_value();
    let mut changed = false;
    for member in ["id", "call_id"] {
        let Some(id) = value.get(member).and_then(Value::as_str).map(str::to_owned) else {
            continue;
        };
        if *ids.entry(id.clone()).or_insert(turn) != turn
            && let Some(members) = value.as_object_mut()
        {
            let own = format!("{id}_{turn}");
            ids.entry(own.clone()).or_insert(turn);
            members.insert(member.to_owned(), Value::String(own));
            changed = true;
        }
    }
    if changed { Item::from_value(&value) } else { item.clone() }
}
