use std::collections::BTreeMap;

use moat_core::{Cost, Retryable, Usage};
use serde::Deserialize;

/// What models cost, as data: JSON `{"models": {"<name>": {"input": 5.0, "cached_input": 0.5,
/// "output": 30.0}}}` in US dollars per million tokens.
///
/// Which entry counts for a model's name, first match wins:
/// 1. the entry of exactly that name;
/// 2. the entry of the name without its release: `gpt-5.5` for `gpt-5.5-2026-04-23` and
///    `gpt-5.5-latest`, but not for `gpt-5.5-pro`, which is another model;
/// 3. the entry with the longest name that ends in `*` and whose text before it begins the name.
///
/// A name with a vendor before a slash (`openai/gpt-5.5`) is looked up whole, then without it. A
/// model that matches nothing has no known cost, which is not the same as costing nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceTable {
    /// Free text: when and where the prices were taken from.
    #[serde(default)]
    pub source: String,
    /// Prices by model name.
    pub models: BTreeMap<String, Price>,
}

/// Prices of one model, in US dollars per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens of the input.
    pub input: f64,
    /// Input tokens read from the provider's cache; `input` if not given.
    pub cached_input: Option<f64>,
    /// Input tokens written to the provider's cache; `input` if not given.
    pub cache_write: Option<f64>,
    /// Tokens of the output, reasoning included.
    pub output: f64,
    /// Other prices for the whole of a call with a large input.
    pub long_context: Option<LongContext>,
}

/// Prices of calls with a large input.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongContext {
    /// They apply to calls with more input tokens than this.
    pub above: u64,
    /// All input prices are multiplied by this.
    pub input_times: f64,
    /// The output price is multiplied by this.
    pub output_times: f64,
}

/// Why a price table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// It is not of the documented form.
    #[error("the price table cannot be read: {0}")]
    Form(#[from] serde_json::Error),
    /// A price is negative or no number.
    #[error("the price of `{model}` is not a number of dollars")]
    NoAmount {
        /// The entry.
        model: String,
    },
}

impl Retryable for PriceError {
    fn is_retryable(&self) -> bool {
        false
    }
}

impl PriceTable {
    /// The table that comes with Moat.
    pub fn built_in() -> Self {
        // A test reads it; an unreadable one means that no cost is known.
        Self::from_json(include_str!("prices.json")).unwrap_or_default()
    }

    /// Reads a table.
    pub fn from_json(text: &str) -> Result<Self, PriceError> {
        let table: Self = serde_json::from_str(text)?;
        for (model, price) in &table.models {
            let mut amounts = vec![price.input, price.output];
            amounts.extend(price.cached_input);
            amounts.extend(price.cache_write);
            amounts.extend(price.long_context.iter().flat_map(|l| [l.input_times, l.output_times]));
            if amounts.iter().any(|amount| !amount.is_finite() || *amount < 0.0) {
                return Err(PriceError::NoAmount { model: model.clone() });
            }
        }
        Ok(table)
    }

    /// Puts another table's entries over this one's.
    pub fn extend(&mut self, other: Self) {
        self.models.extend(other.models);
    }

    /// The entry that counts for a model.
    pub fn price(&self, model: &str) -> Option<&Price> {
        self.lookup(model).or_else(|| self.lookup(model.split_once('/')?.1))
    }

    /// What a call cost.
    pub fn cost(&self, model: &str, usage: &Usage) -> Option<Cost> {
        Some(self.price(model)?.cost(usage))
    }

    fn lookup(&self, model: &str) -> Option<&Price> {
        let exact = self.models.get(model);
        exact.or_else(|| self.models.get(without_release(model)?)).or_else(|| {
            let patterns = self.models.iter().filter_map(|(name, price)| {
                let start = name.strip_suffix('*')?;
                model.starts_with(start).then_some((start.len(), price))
            });
            patterns.max_by_key(|(length, _)| *length).map(|(_, price)| price)
        })
    }
}

/// The name before `-latest`, `-2026-04-23` or `-20260423`.
fn without_release(model: &str) -> Option<&str> {
    if let Some(name) = model.strip_suffix("-latest") {
        return Some(name);
    }
    let digits =
        |part: &str, count| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
    let (name, last) = model.rsplit_once('-')?;
    if digits(last, 8) {
        return Some(name);
    }
    let (name, month) = name.rsplit_once('-')?;
    let (name, year) = name.rsplit_once('-')?;
    (digits(last, 2) && digits(month, 2) && digits(year, 4)).then_some(name)
}

impl Price {
    fn cost(&self, usage: &Usage) -> Cost {
        let (input_times, output_times) = match self.long_context {
            Some(long) if usage.input_tokens > long.above => (long.input_times, long.output_times),
            _ => (1.0, 1.0),
        };
        let cached = usage.cached_tokens.min(usage.input_tokens);
        let written = usage.cache_write_tokens.min(usage.input_tokens.saturating_sub(cached));
        let fresh = usage.input_tokens.saturating_sub(cached).saturating_sub(written);
        let lines = [
            (fresh, self.input * input_times),
            (cached, self.cached_input.unwrap_or(self.input) * input_times),
            (written, self.cache_write.unwrap_or(self.input) * input_times),
            (usage.output_tokens, self.output * output_times),
        ];
        // Added up in billionths of a dollar per million tokens, and rounded once.
        let total = lines.iter().fold(0u128, |sum, (tokens, dollars)| {
            let nano_dollars = (dollars * 1e9).round() as u128;
            sum.saturating_add(u128::from(*tokens).saturating_mul(nano_dollars))
        });
        Cost(u64::try_from(total.saturating_add(500_000) / 1_000_000).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_is_readable() {
        let table = PriceTable::from_json(include_str!("prices.json")).unwrap();
        assert!(table.price("gpt-5.5").is_some());
        assert_eq!(table.models.len(), PriceTable::built_in().models.len());
    }

    #[test]
    fn names_match_by_the_documented_rules() {
        let table = PriceTable::from_json(
            r#"{"models": {"a-5": {"input": 1, "output": 1}, "a-5-pro": {"input": 2, "output": 2},
                "b*": {"input": 3, "output": 3}, "b-long*": {"input": 4, "output": 4}}}"#,
        )
        .unwrap();
        let input = |name| table.price(name).map(|price| price.input);
        assert_eq!(input("a-5"), Some(1.0));
        assert_eq!(input("a-5-2026-04-23"), Some(1.0));
        assert_eq!(input("a-5-20260423"), Some(1.0));
        assert_eq!(input("a-5-latest"), Some(1.0));
        assert_eq!(input("a-5-pro-2026-04-23"), Some(2.0));
        assert_eq!(input("vendor/a-5"), Some(1.0));
        assert_eq!(input("a-5-mini"), None);
        assert_eq!(input("b-longer"), Some(4.0));
        assert_eq!(input("b"), Some(3.0));
    }

    #[test]
    fn cost_counts_cached_tokens_apart_and_rounds_once() {
        let price = Price {
            input: 5.0,
            cached_input: Some(0.5),
            output: 30.0,
            long_context: Some(LongContext { above: 2_000, input_times: 2.0, output_times: 1.5 }),
            ..Price::default()
        };
        let usage = |input_tokens, cached_tokens| Usage {
            input_tokens,
            cached_tokens,
            output_tokens: 10,
            ..Usage::default()
        };
        assert_eq!(price.cost(&usage(2_000, 1_500)), Cost(2_500_000 + 750_000 + 300_000));
        assert_eq!(price.cost(&usage(2_001, 1)), Cost(20_000_000 + 1_000 + 450_000));
        let tiny = Price { input: 0.0375, ..Price::default() };
        assert_eq!(tiny.cost(&Usage { input_tokens: 1, ..Usage::default() }), Cost(38));
    }

    #[test]
    fn nonsense_is_refused() {
        let table = r#"{"models": {"a": {"input": -1, "output": 1}}}"#;
        assert!(matches!(PriceTable::from_json(table), Err(PriceError::NoAmount { .. })));
        assert!(PriceTable::from_json(r#"{"models": {"a": {"in": 1}}}"#).is_err());
    }
}
