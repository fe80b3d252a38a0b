//! What finds a sandbox again. Stored in journals, so its format is read for ever.

use moat_sandbox::{SandboxError, SandboxNote};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::process::ProcessId;

/// Names a sandbox and its first process. Paths are not in it: they are the provider's own, so that
/// a handle that somebody changed cannot have anything else removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Handle {
    version: u32,
    id: String,
    process: ProcessId,
    /// Fences that it was made without, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing_fences: Vec<String>,
    /// What else is special about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notes: Vec<SandboxNote>,
}

impl Handle {
    pub(crate) fn new(id: &str, process: ProcessId, missing_fences: Vec<String>) -> Self {
        Self { version: 1, id: id.to_owned(), process, missing_fences, notes: Vec::new() }
    }

    pub(crate) fn with_notes(self, notes: &[SandboxNote]) -> Self {
        Self { notes: notes.to_vec(), ..self }
    }

    pub(crate) fn notes(&self) -> &[SandboxNote] {
        &self.notes
    }

    pub(crate) fn missing_fences(&self) -> &[String] {
        &self.missing_fences
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn process(&self) -> &ProcessId {
        &self.process
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

/// Whether a name is one that this provider gives: it becomes a part of paths.
pub(crate) fn is_id(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn invalid(message: &str) -> SandboxError {
    SandboxError::Setup {
        step: "understand the handle of a local sandbox".to_owned(),
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
            "process": { "pid": 4711, "started": 99, "boot": "8610da30" },
        });
        let handle = Handle::from_value(&fixture).unwrap();
        assert_eq!(handle.to_value().unwrap(), fixture);
    }

    #[test]
    fn an_id_is_never_a_path() {
        for id in ["../../etc/passwd0", "0123456789ABCDEF", "", "0123456789abcde/"] {
            let process = ProcessId::of(std::process::id() as i32).unwrap();
            let value = Handle::new(id, process, Vec::new()).to_value().unwrap();
            assert!(Handle::from_value(&value).is_err(), "{id}");
        }
    }
}
