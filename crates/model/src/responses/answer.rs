use std::time::Duration;

use moat_core::{Item, Usage};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::failure::{self, Failure};
use crate::{ModelErrorClass, ModelRequest, ModelResponse, PriceTable};

/// The members of a response object that count. Everything but `output` is read leniently: a
/// server that spells usage differently has still answered.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    id: Option<Box<RawValue>>,
    #[serde(default)]
    model: Option<Box<RawValue>>,
    #[serde(default)]
    status: Option<Box<RawValue>>,
    #[serde(default)]
    pub(super) output: Option<Vec<Item>>,
    #[serde(default)]
    usage: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<Box<RawValue>>,
    #[serde(default)]
    incomplete_details: Option<Box<RawValue>>,
}

impl Answer {
    /// The body of an answer that was not streamed.
    pub(super) fn from_body(body: &[u8], peer: &str) -> Result<Self, Failure> {
        let answer: Self = serde_json::from_slice(body)
            .map_err(|error| failure::malformed(peer, &failure::JsonShape(&error)))?;
        if answer.output.is_none() && answer.status.is_none() && answer.error.is_none() {
            return Err(failure::malformed(peer, &"it is no response object"));
        }
        Ok(answer)
    }

    pub(super) fn status(&self) -> Option<String> {
        value(&self.status).as_str().map(str::to_owned)
    }

    /// The answer, unless it says that it failed or did not finish.
    pub(super) fn into_response(
        self,
        request: &ModelRequest,
        first_output: Option<Duration>,
        prices: &PriceTable,
    ) -> Result<ModelResponse, Failure> {
        match self.status().as_deref() {
            None | Some("completed") => {}
            Some("failed") => return Err(failure::reported(&value(&self.error))),
            Some("incomplete") => return Err(self.incomplete()),
            Some(other) => {
                return Err(failure::error(
                    ModelErrorClass::Failed,
                    format!("the model's answer ended as `{}`", failure::one_line(other)),
                )
                .into());
            }
        }
        let model =
            value(&self.model).as_str().map_or_else(|| request.model.clone(), str::to_owned);
        let usage = usage(&value(&self.usage));
        // A server may name its own build of a model; the price is that of the model asked for.
        let cost = prices.cost(&model, &usage).or_else(|| prices.cost(&request.model, &usage));
        Ok(ModelResponse {
            id: value(&self.id).as_str().map(str::to_owned),
            output: self.output.unwrap_or_default(),
            cost,
            model,
            usage,
            first_output,
        })
    }

    fn incomplete(&self) -> Failure {
        let details = value(&self.incomplete_details);
        let reason = details.get("reason").and_then(Value::as_str).unwrap_or("no reason given");
        let advice = match reason {
            "max_output_tokens" => "; raise the setting `max_output_tokens`",
            _ => "",
        };
        failure::error(
            ModelErrorClass::Failed,
            format!("the model's answer is incomplete: {}{advice}", failure::one_line(reason)),
        )
        .into()
    }
}

fn value(raw: &Option<Box<RawValue>>) -> Value {
    raw.as_ref().and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

/// Token counts. The details come as an object, as a list of one object, or not at all.
fn usage(value: &Value) -> Usage {
    let count = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or_default();
    let detail = |group: &str, name: &str| {
        let details = value.get(group)?;
        let details = details.as_array().map_or(Some(details), |list| list.first())?;
        details.get(name)?.as_u64()
    };
    let (input, output) = (count("input_tokens"), count("output_tokens"));
    let total = value.get("total_tokens").and_then(Value::as_u64);
    Usage {
        requests: 1,
        input_tokens: input,
        cached_tokens: detail("input_tokens_details", "cached_tokens").unwrap_or_default(),
        cache_write_tokens: detail("input_tokens_details", "cache_write_tokens")
            .unwrap_or_default(),
        output_tokens: output,
        reasoning_tokens: detail("output_tokens_details", "reasoning_tokens").unwrap_or_default(),
        total_tokens: total.unwrap_or_else(|| input.saturating_add(output)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn usage_is_read_in_every_spelling() {
        let object = usage(&json!({
            "input_tokens": 10, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
            "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 15
        }));
        let list = usage(&json!({
            "input_tokens": 10, "input_tokens_details": [{"cached_tokens": 4, "cache_write_tokens": 2}],
            "output_tokens": 5, "output_tokens_details": [{"reasoning_tokens": 3}]
        }));
        assert_eq!(object, list);
        assert_eq!((object.cached_tokens, object.cache_write_tokens), (4, 2));
        assert_eq!((object.reasoning_tokens, object.total_tokens), (3, 15));
        assert_eq!(usage(&Value::Null), Usage { requests: 1, ..Usage::default() });
        assert_eq!(usage(&json!({"input_tokens": 3, "input_tokens_details": []})).input_tokens, 3);
    }
}
