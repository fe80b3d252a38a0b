use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// One thing in the conversation, in the vocabulary of the Responses API, kept as the very JSON
/// text it came in as.
///
/// What a model sent goes back byte for byte, unknown members included: that is what reasoning
/// items need, and what a provider's prompt cache keys on. Cloning is cheap.
#[derive(Clone)]
pub struct Item(Arc<RawValue>);

/// The members of an item that the agent loop looks at. Everything else is only carried along.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ItemFields {
    /// `message`, `function_call`, …; absent in the easy form of a message.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The item's id, if the provider gave one.
    pub id: Option<String>,
    /// Who speaks, for messages.
    pub role: Option<String>,
    /// Joins a call and its output.
    pub call_id: Option<String>,
    /// The tool that a call names.
    pub name: Option<String>,
    /// The namespace of that tool.
    pub namespace: Option<String>,
    /// Arguments of a function call, as the model wrote them.
    pub arguments: Option<String>,
    /// Input of a freeform tool, as the model wrote it.
    pub input: Option<String>,
    /// Content of a message: text, or a list of parts.
    pub content: Option<serde_json::Value>,
    /// Output of a tool.
    pub output: Option<serde_json::Value>,
}

impl Item {
    /// Makes an item from a value.
    pub fn from_value(value: &serde_json::Value) -> Self {
        // A `Value` always serialises: its keys are strings and its numbers are finite.
        let text = value.to_string();
        match RawValue::from_string(text) {
            Ok(raw) => Self(raw.into()),
            Err(_) => Self(RawValue::NULL.to_owned().into()),
        }
    }

    /// Takes JSON text as it is; an error if it is not JSON.
    pub fn from_json(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(|raw| Self(raw.into()))
    }

    /// A message of the user, in the easy form.
    pub fn user_message(text: &str) -> Self {
        Self::from_value(&serde_json::json!({ "role": "user", "content": text }))
    }

    /// The JSON text, as it came.
    pub fn json(&self) -> &str {
        self.0.get()
    }

    /// The members that the loop looks at. An item that is no object, or whose members have other
    /// types, gives empty fields: it is carried along and nothing is done with it.
    pub fn fields(&self) -> ItemFields {
        serde_json::from_str(self.json()).unwrap_or_else(|_| self.lenient_fields())
    }

    fn lenient_fields(&self) -> ItemFields {
        let value = self.to_value();
        let text = |name: &str| value.get(name).and_then(|v| v.as_str()).map(str::to_owned);
        ItemFields {
            kind: text("type"),
            id: text("id"),
            role: text("role"),
            call_id: text("call_id"),
            name: text("name"),
            namespace: text("namespace"),
            arguments: text("arguments"),
            input: text("input"),
            content: value.get("content").cloned(),
            output: value.get("output").cloned(),
        }
    }

    /// The item as a JSON value.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(self.json()).unwrap_or_default()
    }

    /// The text of a message: its text parts joined, refusals left out.
    pub fn message_text(&self) -> Option<String> {
        let fields = self.fields();
        if fields.kind.as_deref().is_some_and(|kind| kind != "message") || fields.role.is_none() {
            return None;
        }
        match fields.content? {
            serde_json::Value::String(text) => Some(text),
            serde_json::Value::Array(parts) => Some(
                parts.iter().filter_map(|part| part.get("text").and_then(|t| t.as_str())).collect(),
            ),
            _ => None,
        }
    }

    /// The readable text of a reasoning item: its summary, and its content where the provider
    /// gives that. Encrypted reasoning has none.
    pub fn reasoning_text(&self) -> Option<String> {
        let value = self.to_value();
        if value.get("type").and_then(|kind| kind.as_str()) != Some("reasoning") {
            return None;
        }
        let parts = ["summary", "content"].iter().filter_map(|name| value.get(name)?.as_array());
        let texts = parts.flatten().filter_map(|part| part.get("text")?.as_str());
        let texts: Vec<_> = texts.filter(|text| !text.trim().is_empty()).collect();
        (!texts.is_empty()).then(|| texts.join("\n"))
    }
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.json())
    }
}

/// Equal as JSON values: member order and white space do not count.
impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json() || self.to_value() == other.to_value()
    }
}

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self(raw.into()))
    }
}
