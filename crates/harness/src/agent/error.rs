use std::fmt;
use std::path::PathBuf;

/// A place in a text: both counted from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The folder has no `AGENT.md`.
    #[error(
        "there is no agent in `{}`: it has no file `AGENT.md`; give the folder that has one",
        folder.display()
    )]
    NotFound {
        /// The folder.
        folder: PathBuf,
    },
    /// The file could not be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is longer than [`super::MAX_AGENT_BYTES`].
    #[error("`{}` has more than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// The file is not as it has to be.
    #[error("{path}:{position}: {message}")]
    Invalid {
        /// The file, as it was named.
        path: String,
        /// Where.
        position: Position,
        /// What is wrong and what to do; one line.
        message: String,
        /// The line that is wrong.
        line: String,
    },
}

impl moat_core::Retryable for AgentError {
    fn is_retryable(&self) -> bool {
        false
    }
}
