//! Variables of a sandbox's commands.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The value of a variable: text that reaches the sandbox as it is, or a reference to a secret,
/// which never does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum EnvironmentValue {
    /// The text itself.
    Text(String),
    /// The text itself, with words about it.
    Described(DescribedValue),
    /// A secret of the network policy, by its name. The variable holds its placeholder.
    Secret(SecretValue),
}

/// A value with words about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribedValue {
    /// The text.
    pub value: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A reference to a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretValue {
    /// The name of a secret of the agent's `network`.
    pub secret: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What keeps a variable from being given to a process, as the rest of a sentence.
pub(crate) fn problem(name: &str, value: &EnvironmentValue) -> Option<&'static str> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Some("has a name that no variable can have");
    }
    let text = value.text().unwrap_or_default();
    text.contains('\0').then_some("has a value with a zero byte, which no variable can hold")
}

impl EnvironmentValue {
    /// The text, if the value is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Described(DescribedValue { value: text, .. }) => Some(text),
            Self::Secret(_) => None,
        }
    }

    /// The name of the secret, if the value is a reference.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Secret(reference) => Some(&reference.secret),
            Self::Text(_) | Self::Described(_) => None,
        }
    }
}

impl From<&str> for EnvironmentValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for EnvironmentValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
