//! Checks of single members. They run while the member is read, so that the error has its place.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::AGENT_VERSION;

const LONGEST_NAME: usize = 128;
const LONGEST_DESCRIPTION: usize = 4096;

/// Members of a request that the agent loop writes itself.
const TAKEN_SETTINGS: [&str; 6] =
    ["input", "instructions", "model", "previous_response_id", "stream", "tools"];

pub(super) fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        AGENT_VERSION => Ok(AGENT_VERSION),
        other => Err(D::Error::custom(format!(
            "version {other} is not known; this Moat reads version {AGENT_VERSION}"
        ))),
    }
}

pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let problem = if name.trim().is_empty() {
        "a name needs characters"
    } else if name.chars().count() > LONGEST_NAME {
        "a name has at most 128 characters"
    } else if name.chars().any(char::is_control) {
        "a name has no line ends or other control characters"
    } else {
        return Ok(name);
    };
    Err(D::Error::custom(problem))
}

pub(super) fn description<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let description = String::deserialize(deserializer)?;
    if description.len() > LONGEST_DESCRIPTION {
        return Err(D::Error::custom("a description has at most 4096 bytes"));
    }
    Ok(description)
}

pub(super) fn model<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let model = Option::<String>::deserialize(deserializer)?;
    if model.as_ref().is_some_and(|model| model.trim().is_empty()) {
        return Err(D::Error::custom("a model's name needs characters; leave `model` out"));
    }
    Ok(model)
}

pub(super) fn positive<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: Deserialize<'de> + Default + PartialEq,
{
    let number = Option::<N>::deserialize(deserializer)?;
    if number.as_ref().is_some_and(|number| *number == N::default()) {
        return Err(D::Error::custom("a limit is at least 1; leave it out for none"));
    }
    Ok(number)
}

pub(super) fn amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let amount = Option::<f64>::deserialize(deserializer)?;
    if amount.is_some_and(|amount| !(amount.is_finite() && amount > 0.0)) {
        return Err(D::Error::custom("an amount of money is more than 0"));
    }
    Ok(amount)
}

pub(super) fn cores<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let cores = Option::<f64>::deserialize(deserializer)?;
    if cores.is_some_and(|cores| !(0.01..=4096.0).contains(&cores)) {
        return Err(D::Error::custom("a number of processor cores is from 0.01 to 4096"));
    }
    Ok(cores)
}

pub(super) fn model_settings<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Map<String, Value>, D::Error> {
    let check = |name: &str, _: &Value| {
        if TAKEN_SETTINGS.contains(&name) {
            return Err(format!("`{name}` is no setting: it is part of every request already"));
        }
        Ok(())
    };
    let visitor = CheckedMap::new("settings of the model", check);
    Ok(deserializer.deserialize_map(visitor)?.into_iter().collect())
}

pub(super) fn environment<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let check = |name: &str, value: &String| {
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty();
        if !is_name {
            return Err(format!("`{name}` is no name of a variable (letters, digits and `_`)"));
        }
        if value.contains('\0') {
            return Err(format!("the value of `{name}` has a NUL character"));
        }
        Ok(())
    };
    deserializer.deserialize_map(CheckedMap::new("variables and their values", check))
}

/// Reads a map and checks each member as it comes.
struct CheckedMap<V, C> {
    expecting: &'static str,
    check: C,
    value: PhantomData<V>,
}

impl<V, C: Fn(&str, &V) -> Result<(), String>> CheckedMap<V, C> {
    fn new(expecting: &'static str, check: C) -> Self {
        Self { expecting, check, value: PhantomData }
    }
}

impl<'de, V, C> Visitor<'de> for CheckedMap<V, C>
where
    V: Deserialize<'de>,
    C: Fn(&str, &V) -> Result<(), String>,
{
    type Value = BTreeMap<String, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, V>()? {
            (self.check)(&name, &value).map_err(A::Error::custom)?;
            members.insert(name, value);
        }
        Ok(members)
    }
}
