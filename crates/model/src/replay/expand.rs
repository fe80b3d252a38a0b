use moat_core::Item;
use serde_json::{Map, Value, json};

use super::transcript::Planned;

/// Why an item of a transcript makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ItemError {
    /// It is no object.
    #[error("an item has to be a mapping")]
    NoObject,
    /// It has no type.
    #[error("it has no `type`")]
    NoType,
    /// A short form is not complete.
    #[error("a `{kind}` needs `{member}`")]
    Missing {
        /// The item's type.
        kind: String,
        /// What is missing.
        member: &'static str,
    },
    /// Exact JSON is not JSON.
    #[error("the text under `json` is not JSON: {0}")]
    NotJson(serde_json::Error),
}

impl moat_core::Retryable for ItemError {
    fn is_retryable(&self) -> bool {
        false
    }
}

/// The items of a turn in full. An error names the item by its index.
pub(super) fn items(turn: usize, output: &[Value]) -> Result<Vec<Planned>, (usize, ItemError)> {
    let place = |index| Place { turn, index };
    let items = output.iter().enumerate();
    items.map(|(index, value)| item(place(index), value).map_err(|error| (index, error))).collect()
}

/// Where an item stands, for the ids that it gets.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub turn: usize,
    pub index: usize,
}

pub(super) fn item(place: Place, value: &Value) -> Result<Planned, ItemError> {
    let members = value.as_object().ok_or(ItemError::NoObject)?;
    if let (Some(Value::String(text)), 1) = (members.get("json"), members.len()) {
        return Item::from_json(text.clone()).map(Planned::Exact).map_err(ItemError::NotJson);
    }
    let kind = members.get("type").and_then(Value::as_str).ok_or(ItemError::NoType)?.to_owned();
    let mut item = members.clone();
    let mut template = false;
    match kind.as_str() {
        "message" => {
            template = item.contains_key("template");
            message(&mut item)?;
        }
        "reasoning" => reasoning(&mut item),
        "function_call" => function_call(&mut item)?,
        "custom_tool_call" => {
            require(&item, &kind, "name")?;
            require(&item, &kind, "input")?;
        }
        _ => {}
    }
    add_ids(place, &kind, &mut item);
    let item = Value::Object(item);
    Ok(if template { Planned::Template { item } } else { Planned::Exact(Item::from_value(&item)) })
}

fn require(item: &Map<String, Value>, kind: &str, member: &'static str) -> Result<(), ItemError> {
    match item.get(member) {
        Some(Value::String(_)) => Ok(()),
        _ => Err(ItemError::Missing { kind: kind.to_owned(), member }),
    }
}

fn message(item: &mut Map<String, Value>) -> Result<(), ItemError> {
    if item.contains_key("content") {
        return Ok(());
    }
    let text = item.remove("text").or_else(|| item.remove("template"));
    let Some(text @ Value::String(_)) = text else {
        return Err(ItemError::Missing { kind: "message".to_owned(), member: "text" });
    };
    let part = json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    item.insert("content".to_owned(), json!([part]));
    default(item, "role", "assistant");
    default(item, "status", "completed");
    Ok(())
}

fn reasoning(item: &mut Map<String, Value>) {
    if let Some(Value::String(text)) = item.get("summary") {
        let parts = json!([{"type": "summary_text", "text": text}]);
        item.insert("summary".to_owned(), parts);
    }
    item.entry("summary").or_insert_with(|| json!([]));
}

fn function_call(item: &mut Map<String, Value>) -> Result<(), ItemError> {
    require(item, "function_call", "name")?;
    match item.get("arguments") {
        Some(Value::String(_)) => {}
        Some(arguments @ Value::Object(_)) => {
            let text = arguments.to_string();
            item.insert("arguments".to_owned(), Value::String(text));
        }
        _ => {
            return Err(ItemError::Missing {
                kind: "function_call".to_owned(),
                member: "arguments",
            });
        }
    }
    default(item, "status", "completed");
    Ok(())
}

fn default(item: &mut Map<String, Value>, member: &str, value: &str) {
    item.entry(member).or_insert_with(|| Value::String(value.to_owned()));
}

fn add_ids(place: Place, kind: &str, item: &mut Map<String, Value>) {
    let Place { turn, index } = place;
    let prefix = match kind {
        "message" => "msg",
        "reasoning" => "rs",
        "function_call" => "fc",
        "custom_tool_call" => "ctc",
        "compaction" => "cmp",
        _ => "item",
    };
    default(item, "id", &format!("{prefix}_replay_{turn}_{index}"));
    let joins = kind.ends_with("_call") && !matches!(kind, "mcp_call" | "web_search_call");
    if joins {
        default(item, "call_id", &format!("call_replay_{turn}_{index}"));
    }
}

/// The item of a template with the places in its text filled.
pub(super) fn fill(item: &Value, turn: usize, last_output: &str) -> Item {
    let mut item = item.clone();
    if let Some(Value::String(text)) = item.pointer_mut("/content/0/text") {
        // The output goes in last: what it holds is not looked at again.
        *text = text.replace("{turn}", &turn.to_string()).replace("{last_output}", last_output);
    }
    Item::from_value(&item)
}
