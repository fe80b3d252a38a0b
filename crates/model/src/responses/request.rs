use hyper::body::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::failure;
use crate::{ModelError, ModelErrorClass, ModelRequest};

/// Made from the conversation or decided by the protocol; a setting of that name is a mistake.
const RESERVED: [&str; 8] = [
    "model",
    "instructions",
    "tools",
    "input",
    "stream",
    // Moat holds the conversation itself and waits for the answer.
    "previous_response_id",
    "conversation",
    "background",
];

/// The provider groups requests by keys of at most this many characters.
const MAX_CACHE_KEY: usize = 64;

/// The body of a request to `/responses`.
///
/// Everything that stays the same from turn to turn comes before `input`, and the items of `input`
/// are copied byte for byte, so that the body of one turn without its last two bytes (`]}`) is the
/// beginning of the next turn's body as long as the settings stay the same.
///
/// Items are sent exactly as they came, also where a strict reading of the published schema would
/// drop something (`status` on a `custom_tool_call`): providers accept their own items back, and
/// reasoning items and prompt caches depend on the bytes.
///
/// `settings` are written as they are. Four members have defaults that a setting of that name
/// replaces and that `null` leaves out, for servers that do not know them: `store` (`false`),
/// `include` (`["reasoning.encrypted_content"]`), `prompt_cache_key` (the cache key) and
/// `parallel_tool_calls` (`true`, and never sent without tools, which providers refuse).
///
/// # Errors
///
/// [`ModelErrorClass::Configuration`] if a setting has the name of a member that is made from the
/// conversation.
pub fn encode_request(request: &ModelRequest) -> Result<Bytes, ModelError> {
    if let Some(name) = RESERVED.iter().find(|name| request.settings.contains_key(**name)) {
        return Err(failure::error(
            ModelErrorClass::Configuration,
            format!("the model setting `{name}` cannot be set: it is made from the conversation"),
        ));
    }
    let items: usize = request.input.iter().map(|item| item.json().len().saturating_add(1)).sum();
    let mut body = Body(Vec::with_capacity(items.saturating_add(16 << 10)));
    body.member("model", &request.model)?;
    if let Some(instructions) = &request.instructions {
        body.member("instructions", instructions)?;
    }
    if !request.tools.is_empty() {
        body.member("tools", &request.tools)?;
        body.default(request, "parallel_tool_calls", Some(&true))?;
    }
    body.default(request, "include", Some(&["reasoning.encrypted_content"]))?;
    body.default(request, "store", Some(&false))?;
    body.member("stream", &request.stream)?;
    let cache_key = request.cache_key.as_ref().map(|key| clip(key, MAX_CACHE_KEY));
    body.default(request, "prompt_cache_key", cache_key.as_ref())?;
    for (name, value) in &request.settings {
        if !DEFAULTED.contains(&name.as_str()) {
            body.member(name, value)?;
        }
    }
    Ok(body.finish(request))
}

const DEFAULTED: [&str; 4] = ["parallel_tool_calls", "include", "store", "prompt_cache_key"];

struct Body(Vec<u8>);

impl Body {
    fn member<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), ModelError> {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.json(name)?;
        self.0.push(b':');
        self.json(value)
    }

    fn default<T: Serialize + ?Sized>(
        &mut self,
        request: &ModelRequest,
        name: &str,
        default: Option<&T>,
    ) -> Result<(), ModelError> {
        match (request.settings.get(name), default) {
            (Some(Value::Null), _) | (None, None) => Ok(()),
            (Some(set), _) => self.member(name, set),
            (None, Some(default)) => self.member(name, default),
        }
    }

    fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ModelError> {
        serde_json::to_writer(&mut self.0, value).map_err(|error| {
            failure::error(
                ModelErrorClass::Configuration,
                format!("the request cannot be written as JSON: {error}"),
            )
        })
    }

    fn finish(mut self, request: &ModelRequest) -> Bytes {
        self.0.extend_from_slice(b",\"input\":[");
        for (index, item) in request.input.iter().enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            self.0.extend_from_slice(item.json().as_bytes());
        }
        self.0.extend_from_slice(b"]}");
        Bytes::from(self.0)
    }
}

fn clip(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use moat_core::Item;
    use serde_json::{Map, json};

    use super::*;

    fn request(settings: Value) -> ModelRequest {
        ModelRequest {
            model: "m".to_owned(),
            instructions: Some("do \"it\"".to_owned()),
            input: vec![Item::user_message("hi")],
            tools: vec![json!({"type": "custom", "name": "t"})],
            settings: settings.as_object().cloned().unwrap_or_default(),
            stream: true,
            cache_key: Some("run".to_owned()),
        }
    }

    fn body(request: &ModelRequest) -> Value {
        serde_json::from_slice(&encode_request(request).unwrap()).unwrap()
    }

    #[test]
    fn a_turn_begins_with_the_bytes_of_the_turn_before() {
        let mut request = request(json!({"temperature": 0.5, "reasoning": {"effort": "low"}}));
        let strange = r#"{ "type":"reasoning",  "n":12345678901234567890123, "x":1.50e+3 }"#;
        request.input.push(Item::from_json(strange.to_owned()).unwrap());
        let first = encode_request(&request).unwrap();
        request.input.push(Item::user_message("more"));
        let second = encode_request(&request).unwrap();
        assert!(second.starts_with(&first[..first.len() - 2]));
        assert!(std::str::from_utf8(&first).unwrap().ends_with(&format!("{strange}]}}")));
    }

    #[test]
    fn defaults_can_be_replaced_and_left_out() {
        let plain = body(&request(json!({})));
        assert_eq!(plain["store"], json!(false));
        assert_eq!(plain["include"], json!(["reasoning.encrypted_content"]));
        assert_eq!(plain["parallel_tool_calls"], json!(true));
        assert_eq!(plain["prompt_cache_key"], json!("run"));

        let changed = body(&request(json!({
            "store": true, "include": null, "parallel_tool_calls": false, "prompt_cache_key": null
        })));
        assert_eq!(changed["store"], json!(true));
        assert_eq!(changed["parallel_tool_calls"], json!(false));
        assert!(changed.get("include").is_none() && changed.get("prompt_cache_key").is_none());

        let mut toolless = request(json!({"parallel_tool_calls": true}));
        toolless.tools.clear();
        toolless.settings = Map::new();
        assert!(body(&toolless).get("parallel_tool_calls").is_none());
    }

    #[test]
    fn settings_cannot_replace_the_conversation() {
        for name in RESERVED {
            let error = encode_request(&request(json!({ name: 1 }))).unwrap_err();
            assert_eq!(error.class, ModelErrorClass::Configuration);
            assert!(error.message.contains(name), "{error}");
        }
    }
}
