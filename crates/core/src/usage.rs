use serde::{Deserialize, Serialize};

/// Tokens of one model call, or of many added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Model calls that were answered.
    pub requests: u64,
    /// Tokens of the input, cached ones included.
    pub input_tokens: u64,
    /// Input tokens that the provider read from its prompt cache.
    pub cached_tokens: u64,
    /// Input tokens that the provider wrote to its prompt cache.
    pub cache_write_tokens: u64,
    /// Tokens of the output, reasoning included.
    pub output_tokens: u64,
    /// Output tokens spent on reasoning.
    pub reasoning_tokens: u64,
    /// What the provider calls the total; usually input plus output.
    pub total_tokens: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.cache_write_tokens = self.cache_write_tokens.saturating_add(other.cache_write_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.reasoning_tokens = self.reasoning_tokens.saturating_add(other.reasoning_tokens);
        self.total_tokens = self.total_tokens.saturating_add(other.total_tokens);
    }
}

/// An amount of money in billionths of a US dollar.
///
/// An integer, so that adding the calls of a long run up gives the same sum on every machine and
/// in every order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Cost(pub u64);

impl Cost {
    /// The amount in US dollars, for people.
    pub fn as_usd(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}
