//! Cutting long output to what a model is given: the head, a marker, the tail.
//!
//! One token counts as four bytes, rounded up. The rules are those of the peer's sandbox tools, so
//! that a model meets the layout that it was trained on:
//!
//! - The result, with everything that is added, has at most four bytes per token of the limit.
//! - `Total output lines: N` and an empty line stand before it, unless there is no room. Lines
//!   are counted by LF; a last line without one counts.
//! - The left half of the room is the smaller one; both cuts fall on code points. The room is
//!   computed with a marker that shows the count of the whole text.
//! - Where not even the marker has room, the marker is cut.
//!
//! [`truncate`] takes a text that is there; [`OutputWindow`] takes a text that arrives in pieces,
//! holds at most twice the limit of it, and gives the same answer.

mod lossy;
mod window;

#[cfg(test)]
mod tests;

pub use lossy::LossyDecoder;
pub use window::{OutputWindow, Stream};

/// How many bytes count as one token.
pub const BYTES_PER_TOKEN: u64 = 4;

/// Whether a cut text begins with its number of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// `Total output lines: N` stands first: for the output of tools.
    #[default]
    Tool,
    /// Head, marker and tail only.
    Plain,
}

/// A text that fits its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// What the model is given.
    pub text: String,
    /// Tokens of the whole text, if it was cut.
    pub original_tokens: Option<u64>,
}

/// Tokens that a text of this many bytes counts as.
pub fn tokens_of(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// Cuts `text` to `max_tokens`; `None` is no limit, and a limit below zero is zero.
pub fn truncate(text: &str, max_tokens: Option<i64>, style: Style) -> Truncated {
    let budget = match max_tokens {
        Some(tokens) => budget_of(tokens),
        None => usize::MAX,
    };
    if text.len() <= budget {
        return Truncated { text: text.to_owned(), original_tokens: None };
    }
    let whole = Whole { bytes: text.len() as u64, lines: count_lines(text) };
    whole.cut(text, text.as_bytes(), budget, style)
}

/// Bytes that a limit in tokens allows.
fn budget_of(tokens: i64) -> usize {
    let bytes = u64::try_from(tokens).unwrap_or(0).saturating_mul(BYTES_PER_TOKEN);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn count_lines(text: &str) -> u64 {
    let complete = text.bytes().filter(|byte| *byte == b'\n').count() as u64;
    complete + u64::from(!text.is_empty() && !text.ends_with('\n'))
}

/// What is known about a text of which perhaps only the ends are there.
#[derive(Clone, Copy, Debug)]
struct Whole {
    bytes: u64,
    lines: u64,
}

impl Whole {
    /// Cuts to `budget` bytes. `head` is at least the first `budget` bytes of the text, or all of
    /// it; `tail` at least the last `budget` bytes, and may begin within a code point.
    fn cut(self, head: &str, tail: &[u8], budget: usize, style: Style) -> Truncated {
        let tokens = tokens_of(self.bytes);
        let widest_marker = marker(tokens);
        let mut prefix = match style {
            Style::Tool => format!("Total output lines: {}\n\n", self.lines),
            Style::Plain => String::new(),
        };
        if prefix.len() + widest_marker.len() > budget {
            prefix.clear();
        }
        let original_tokens = Some(tokens);
        let Some(room) = budget.checked_sub(prefix.len() + widest_marker.len()) else {
            let text = prefix_within(&widest_marker, budget).to_owned();
            return Truncated { text, original_tokens };
        };
        let left = room / 2;
        let head = prefix_within(head, left);
        let tail = suffix_within(tail, room - left);
        let removed = self.bytes.saturating_sub((head.len() + tail.len()) as u64);
        let text = format!("{prefix}{head}{}{tail}", marker(tokens_of(removed)));
        Truncated { text, original_tokens }
    }
}

fn marker(tokens: u64) -> String {
    format!("…{tokens} tokens truncated…")
}

/// The longest prefix of whole code points within `bytes`.
fn prefix_within(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The text from the first code point that begins within the last `bytes` bytes.
fn suffix_within(text: &[u8], bytes: usize) -> std::borrow::Cow<'_, str> {
    let suffix = text.get(text.len().saturating_sub(bytes)..).unwrap_or_default();
    let is_continuation = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    let start = suffix.iter().take_while(|byte| is_continuation(byte)).count();
    String::from_utf8_lossy(suffix.get(start..).unwrap_or_default())
}
