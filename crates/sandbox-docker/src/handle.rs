//! What finds a sandbox again. Stored in journals, so its format is read for ever.

use moat_sandbox::SandboxError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Names a sandbox. What its container is called, and where its folder is, follows from the name,
/// so that a handle that somebody changed cannot have anything else removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Handle {
    version: u32,
    id: String,
    /// The image that was asked for, by what the engine calls it: for people.
    image: String,
    /// The runtime, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    /// It is reached through bridges.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    bridged: bool,
    /// Fences that it was made without, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing_fences: Vec<String>,
    /// Commands run as its user 0.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    as_root: bool,
}

impl Handle {
    pub(crate) fn new(id: &str, image: &str, runtime: Option<String>, bridged: bool) -> Self {
        Self {
            version: 1,
            id: id.to_owned(),
            image: image.to_owned(),
            runtime,
            bridged,
            missing_fences: Vec::new(),
            as_root: false,
        }
    }

    pub(crate) fn with(self, missing_fences: Vec<String>, as_root: bool) -> Self {
        Self { missing_fences, as_root, ..self }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn is_bridged(&self) -> bool {
        self.bridged
    }

    pub(crate) fn missing_fences(&self) -> &[String] {
        &self.missing_fences
    }

    pub(crate) fn is_as_root(&self) -> bool {
        self.as_root
    }

    pub(crate) fn to_value(&self) -> Result<Value, SandboxError> {
        serde_json::to_value(self).map_err(|error| invalid(&error.to_string()))
    }

    pub(crate) fn from_value(value: &Value) -> Result<Self, SandboxError> {
        let handle = Self::deserialize(value).map_err(|error| invalid(&error.to_string()))?;
        if handle.version != 1 {
            return Err(invalid(&format!("version {} is not known here", handle.version)));
        }
        if !is_id(&handle.id) {
            return Err(invalid("its id is not one"));
        }
        Ok(handle)
    }
}

/// Whether a name is one that this provider gives: it becomes a part of paths and of requests.
pub(crate) fn is_id(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn invalid(message: &str) -> SandboxError {
    SandboxError::Setup {
        step: "understand the handle of a Docker sandbox".to_owned(),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_of_the_format_is_read() {
        let fixture = serde_json::json!({
            "version": 1,
            "id": "0123456789abcdef",
            "image": "sha256:00",
            "runtime": "runsc",
            "bridged": true,
        });
        let handle = Handle::from_value(&fixture).unwrap();
        assert_eq!(handle.to_value().unwrap(), fixture);
    }

    #[test]
    fn an_id_is_never_a_path() {
        for id in
            ["../../etc/passwd0", "0123456789ABCDEF", "", "0123456789abcde/", "a?force=true&all"]
        {
            let value = Handle::new(id, "", None, false).to_value().unwrap();
            assert!(Handle::from_value(&value).is_err(), "{id}");
        }
    }
}
