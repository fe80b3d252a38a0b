use super::error::Position;

const FENCE: &str = "---";

/// `AGENT.md` in its two parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts<'t> {
    /// The YAML. It begins on the file's second line.
    pub(super) yaml: &'t str,
    /// The text after it, without blank lines at its ends.
    pub(super) body: &'t str,
}

/// What is wrong with a text, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) position: Position,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(line: usize, column: usize, message: impl Into<String>) -> Self {
        Self { position: Position { line, column }, message: message.into() }
    }
}

/// Splits a file whose line ends are LF.
pub(super) fn split(text: &str) -> Result<Parts<'_>, Fault> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    if first.trim_end() != FENCE {
        return Err(Fault::new(
            1,
            1,
            "the front matter is missing: the first line has to be `---`, then `name: …`, then \
             `---` and the instructions",
        ));
    }
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        if matches!(line.trim_end(), FENCE | "...") {
            let yaml = rest.get(..end).unwrap_or_default();
            let body = rest.get(end + line.len()..).unwrap_or_default();
            return Ok(Parts { yaml, body: trim_blank_lines(body) });
        }
        end += line.len();
    }
    Err(Fault::new(1, 1, "the front matter that begins here is not closed by a line `---`"))
}

/// Keeps the indentation of the first line that is not blank.
fn trim_blank_lines(text: &str) -> &str {
    let mut text = text.trim_end();
    while let Some((line, rest)) = text.split_once('\n') {
        if !line.trim().is_empty() {
            break;
        }
        text = rest;
    }
    text
}
