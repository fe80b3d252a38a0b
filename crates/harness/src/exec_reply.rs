//! What `exec_command` and `write_stdin` take and answer.
//!
//! Names, defaults and the layout of the reply are those that models were trained on; where Moat
//! adds something (`timeout_ms`, the lines `Full output:` and `Limit reached:`) it stands where a
//! model that does not know it is not confused by it. Nothing here runs anything.

mod arguments;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt::Write as _;

pub use arguments::{ExecArguments, InvalidArguments, StdinArguments};
pub use wire::{exec_command_tool, write_stdin_tool};

/// The name of the tool that runs a command.
pub const EXEC_COMMAND: &str = "exec_command";
/// The name of the tool that types into a running command, or waits for it.
pub const WRITE_STDIN: &str = "write_stdin";

/// Tokens of output that a reply has when the model does not say how many it wants.
pub const DEFAULT_OUTPUT_TOKENS: u32 = 10_000;
/// Tokens of output that a model can ask for at most. The whole is readable in the sandbox.
pub const MAX_OUTPUT_TOKENS: u32 = 100_000;

/// The reply to a call, before it is text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reply<'a> {
    /// Six hexadecimal digits that name this piece of output.
    pub chunk_id: &'a str,
    /// Seconds from the call to the reply.
    pub wall_seconds: f64,
    /// The command's exit code, or -N if signal N ended it; absent: it runs, or timed out.
    pub exit_code: Option<i32>,
    /// The limit that ended the command.
    pub limit: Option<&'a str>,
    /// What the network refused meanwhile, and what would allow it.
    pub denied: &'a [String],
    /// The number by which `write_stdin` reaches the command that runs on.
    pub session_id: Option<i64>,
    /// Tokens of the whole output, if `output` was cut.
    pub original_tokens: Option<u64>,
    /// Where in the sandbox the whole output can be read, if `output` is not all of it.
    pub full_output: Option<&'a str>,
    /// The output, cut to its limit.
    pub output: &'a str,
}

impl Reply<'_> {
    /// The text for the model.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(self.output.len() + 256);
        // Writing to a `String` cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "Chunk ID: {}", self.chunk_id)?;
        writeln!(text, "Wall time: {:.4} seconds", self.wall_seconds)?;
        if let Some(code) = self.exit_code {
            writeln!(text, "Process exited with code {code}")?;
        }
        if let Some(limit) = self.limit {
            writeln!(text, "Limit reached: {limit}")?;
        }
        for denied in self.denied {
            writeln!(text, "Network denied: {denied}")?;
        }
        if let Some(id) = self.session_id {
            writeln!(text, "Process running with session ID {id}")?;
        }
        if let Some(tokens) = self.original_tokens {
            writeln!(text, "Original token count: {tokens}")?;
        }
        if let Some(path) = self.full_output {
            writeln!(text, "Full output: {path}")?;
        }
        write!(text, "Output:\n{}", self.output)
    }
}

/// The first line of the output of a command that was stopped because its time was up; what it
/// had written follows.
pub fn timeout_notice(limit_ms: u64) -> String {
    // Exact in a double up to 2^53 ms, which is longer than anything runs.
    format!("Command timed out after {:.3} seconds.", limit_ms as f64 / 1000.0)
}

/// The output for a command that timed out: the notice, then what it wrote.
pub fn timed_out_output(limit_ms: u64, partial: &str) -> String {
    let notice = timeout_notice(limit_ms);
    if partial.is_empty() { notice } else { format!("{notice}\n{partial}") }
}

/// The output for a session that does not exist, or does no more. Its exit code is 1.
pub fn unknown_session(session_id: i64) -> String {
    format!("write_stdin failed: PTY session not found: {session_id}")
}

/// The output for input to a command without a terminal. Its exit code is 1.
pub const STDIN_CLOSED: &str = "stdin is not available for this process. Start the command with \
     `tty=true` in `exec_command` before using `write_stdin`.";

/// Standard output and standard error as one text: the second begins on a line of its own.
pub fn join_streams(stdout: &[u8], stderr: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(stdout).into_owned();
    let stderr = String::from_utf8_lossy(stderr);
    if !text.is_empty() && !stderr.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&stderr);
    text
}
