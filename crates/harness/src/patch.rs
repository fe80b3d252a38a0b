//! `apply_patch`: reads a patch as a model writes it and works out what it changes.
//!
//! How data passes: [`parse`] turns the tool's input (the freeform envelope, a heredoc around it,
//! or JSON) into [`Operation`]s; [`plan`] reads the files that they name through a [`FileSource`]
//! and gives a [`Plan`]: whole files before and after, ready for [`moat_sandbox::Guest::commit`],
//! and the text for the model. Nothing is written here, so a patch happens whole or not at all.
//!
//! Diffs are matched as the peer matches them (exact lines, then without trailing blanks, then
//! without blanks at both ends), and only where none of that matches anything with typographic
//! punctuation folded. Untouched bytes of a file are copied, never decoded and written anew.

mod anchors;
mod closest;
mod envelope;
mod files;
mod find;
mod guest;
mod hunk;
mod json;
mod lines;
mod path;
mod plan;
mod rewrite;
mod view;
mod wire;

#[cfg(test)]
mod tests;

use moat_core::Retryable;

pub use guest::GuestFiles;
pub use plan::{Plan, PlanError, plan, success_text};
pub use view::{FileNode, FileSource, SourceError};
pub use wire::{APPLY_PATCH, apply_patch_tool};

/// The longest input that is read, in bytes.
pub const MAX_PATCH_BYTES: usize = 16 * 1024 * 1024;
/// The largest file that is updated, in bytes.
pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// How much content one patch may hold in memory, in bytes.
pub const MAX_TOTAL_BYTES: u64 = 256 * 1024 * 1024;

/// One file operation of a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The path, as the model wrote it.
    pub path: String,
    /// What happens to it.
    pub action: Action,
    /// The line of the input on which the diff begins; absent in the JSON forms.
    pub diff_line: Option<usize>,
}

/// What an [`Operation`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Makes a file that is not there.
    Create {
        /// Lines that each begin with `+`.
        diff: String,
    },
    /// Changes a file that is there.
    Update {
        /// Hunks.
        diff: String,
        /// The new path, as the model wrote it.
        move_to: Option<String>,
    },
    /// Removes a file.
    Delete,
}

/// What kind of fault a patch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchErrorClass {
    /// The input is no patch.
    Parse,
    /// A path leads outside the workspace, or is no path.
    Path,
    /// A file that is to be updated or deleted is not there.
    NotFound,
    /// A file that is to be made is there already.
    Exists,
    /// A file that is to be updated is not UTF-8.
    Decode,
    /// The lines of a hunk are not in the file.
    Context,
    /// A hunk is written wrongly.
    Diff,
    /// The path is a folder, or the system refused.
    Io,
}

impl PatchErrorClass {
    /// The stable word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Path => "path",
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::Decode => "decode",
            Self::Context => "context",
            Self::Diff => "diff",
            Self::Io => "io",
        }
    }
}

/// Why a patch is not applied. The message is for the model and says what to do.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct PatchError {
    /// The kind of fault.
    pub class: PatchErrorClass,
    /// The operation, counted from 0; absent if the input could not be read.
    pub operation: Option<usize>,
    /// What is wrong, where, and what to do.
    pub message: String,
}

impl PatchError {
    fn parse(message: impl Into<String>) -> Self {
        Self { class: PatchErrorClass::Parse, operation: None, message: message.into() }
    }

    /// The tool's reply.
    pub fn reply(&self) -> String {
        format!("apply_patch failed and changed nothing: {}", self.message)
    }
}

impl Retryable for PatchError {
    fn is_retryable(&self) -> bool {
        false
    }
}

/// Reads the input of the tool: the freeform envelope, or JSON if it begins with `{` or `[`.
pub fn parse(input: &str) -> Result<Vec<Operation>, PatchError> {
    if input.len() > MAX_PATCH_BYTES {
        return Err(PatchError::parse(format!(
            "the patch has {} bytes; at most {MAX_PATCH_BYTES} are read. Send it in parts",
            input.len()
        )));
    }
    let operations = if input.trim_start().starts_with(['{', '[']) {
        json::parse(input)?
    } else {
        envelope::parse(input)?
    };
    if operations.is_empty() {
        return Err(PatchError::parse("the patch has no file operation"));
    }
    Ok(operations)
}

/// Text from a model or a file inside a message: one line, not too long.
fn quoted(text: &str) -> String {
    const LONGEST: usize = 160;
    let mut shown: String =
        text.chars().take(LONGEST).map(|c| if c < ' ' { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}
