use std::io::Read as _;
use std::path::Path;

use super::error::{AgentError, Position};
use super::explain::explain;
use super::front_matter::{Fault, split};
use super::{AgentSpec, SandboxTool};

/// The longest `AGENT.md` that is read, in bytes.
pub const MAX_AGENT_BYTES: u64 = 1024 * 1024;

const FILE: &str = "AGENT.md";

impl AgentSpec {
    /// Reads `AGENT.md` in an agent's folder.
    ///
    /// # Errors
    /// Every fault of the file is named with its line and column.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self, AgentError> {
        let folder = folder.as_ref();
        let path = folder.join(FILE);
        let read_error = |source| AgentError::Read { path: path.clone(), source };
        let not_found = |_| AgentError::NotFound { folder: folder.to_owned() };
        // Looked at before it is opened: opening a pipe would wait for a writer.
        if !std::fs::metadata(&path).map_err(not_found)?.is_file() {
            return Err(read_error(std::io::Error::other("it is no regular file")));
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&path).map_err(read_error)?;
        file.take(MAX_AGENT_BYTES + 1).read_to_end(&mut bytes).map_err(read_error)?;
        if bytes.len() as u64 > MAX_AGENT_BYTES {
            return Err(AgentError::TooLarge { path, limit: MAX_AGENT_BYTES });
        }
        Self::parse(&bytes, &path.to_string_lossy())
    }

    /// Reads the bytes of an `AGENT.md`; `path` is how errors name the file. A byte order mark and
    /// CRLF are accepted.
    ///
    /// # Errors
    /// Every fault of the file is named with its line and column.
    pub fn parse(bytes: &[u8], path: &str) -> Result<Self, AgentError> {
        let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let invalid = |fault: Fault| {
            let line = text.lines().nth(fault.position.line.saturating_sub(1)).unwrap_or_default();
            AgentError::Invalid {
                path: path.to_owned(),
                position: fault.position,
                message: fault.message,
                line: line.chars().take(400).collect(),
            }
        };
        if let Err(error) = std::str::from_utf8(bytes) {
            return Err(invalid(not_utf8(bytes, error.valid_up_to())));
        }
        parse(text).map_err(invalid)
    }
}

fn not_utf8(bytes: &[u8], at: usize) -> Fault {
    let before = String::from_utf8_lossy(bytes.get(..at).unwrap_or_default());
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Fault::new(line, column, "the file is not UTF-8 from here on")
}

fn parse(text: &str) -> Result<AgentSpec, Fault> {
    let parts = split(text)?;
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        budget: serde_saphyr::budget! { max_depth: 64, max_nodes: 100_000 },
    };
    let mut spec: AgentSpec = serde_saphyr::from_str_with_options(parts.yaml, options)
        .map_err(|error| explain(&error, parts.yaml))?;
    if !spec.instructions.is_empty() && !parts.body.is_empty() {
        let position = find_member(parts.yaml, "instructions");
        let message = "the instructions stand here and after the front matter; keep one of them";
        return Err(Fault { position, message: message.to_owned() });
    }
    if spec.instructions.is_empty() {
        spec.instructions = parts.body.to_owned();
    }
    check_approvals(&spec, parts.yaml)?;
    Ok(spec)
}

/// An approval of a tool that the agent does not have is a mistake in one of the two lists.
fn check_approvals(spec: &AgentSpec, yaml: &str) -> Result<(), Fault> {
    let has = |tool: &&SandboxTool| spec.tools.get(**tool).is_none();
    let Some(tool) = spec.approvals.iter().find(has) else { return Ok(()) };
    let message = format!("`{}` is not among the agent's `tools`", tool.name());
    Err(Fault { position: find_member(yaml, "approvals"), message })
}

/// Where a member of the outermost level stands in the file.
fn find_member(yaml: &str, name: &str) -> Position {
    let is_member = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
    let index = yaml.lines().position(is_member).unwrap_or_default();
    Position { line: index + 2, column: 1 }
}
