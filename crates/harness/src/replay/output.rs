//! What of an output has to be the same in a replay.

use moat_core::Item;
use serde_json::Value;

use crate::exec_reply::{EXEC_COMMAND, WRITE_STDIN};

/// An output without what is new whenever a call is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stable {
    /// Lines of the reply's header that say something beside the report: what the network refused.
    pub(super) notes: Vec<String>,
    pub(super) body: String,
}

/// Header lines that are compared. Others name the piece, the time, or what the report has.
const NOTES: &str = "Network denied: ";

impl Stable {
    /// Of the item that a call of this tool put into the conversation.
    pub(super) fn of(tool: &str, item: Option<&Item>) -> Self {
        let output = item.and_then(|item| item.fields().output);
        let text = match output {
            None => return Self::default(),
            Some(Value::String(text)) => text,
            Some(other) => return Self { notes: Vec::new(), body: other.to_string() },
        };
        let reply = tool == EXEC_COMMAND || tool == WRITE_STDIN;
        match header_and_output(&text).filter(|_| reply) {
            None => Self { notes: Vec::new(), body: text },
            Some((header, body)) => {
                let notes = header.lines().filter(|line| line.starts_with(NOTES));
                let mut notes: Vec<String> = notes.map(str::to_owned).collect();
                notes.sort();
                notes.dedup();
                Self { notes, body: body.to_owned() }
            }
        }
    }
}

/// Splits a reply of `exec_command`. A command's own `Output:` is in the output already.
fn header_and_output(text: &str) -> Option<(&str, &str)> {
    text.starts_with("Chunk ID: ").then(|| text.split_once("\nOutput:\n"))?
}

/// The first line that differs, counted from 1, on each side. `None`: nothing differs.
pub(super) fn first_difference(
    recorded: &str,
    replayed: &str,
) -> Option<(usize, Option<String>, Option<String>)> {
    if recorded == replayed {
        return None;
    }
    let (mut old, mut new) = (recorded.lines(), replayed.lines());
    for line in 1.. {
        match (old.next(), new.next()) {
            // Only the last line's end differs.
            (None, None) => return Some((line - 1, last_line(recorded), last_line(replayed))),
            (a, b) if a != b => return Some((line, a.map(str::to_owned), b.map(str::to_owned))),
            _ => {}
        }
    }
    None
}

fn last_line(text: &str) -> Option<String> {
    text.split_inclusive('\n').next_back().map(str::to_owned)
}

/// Whether two texts are the same once every number in them is taken for the same: times, counts,
/// process ids.
pub(super) fn only_numbers_differ(recorded: &str, replayed: &str) -> bool {
    recorded != replayed && without_numbers(recorded).eq(without_numbers(replayed))
}

/// Each run of digits as one `0`.
fn without_numbers(text: &str) -> impl Iterator<Item = char> + '_ {
    let mut in_number = false;
    text.chars().filter_map(move |c| {
        let digit = c.is_ascii_digit();
        let again = digit && std::mem::replace(&mut in_number, digit);
        in_number = digit;
        match (digit, again) {
            (true, true) => None,
            (true, false) => Some('0'),
            (false, _) => Some(c),
        }
    })
}
