//! Says what is wrong with YAML in words for the person who wrote it.

use serde_saphyr::Error;

use super::error::Position;
use super::front_matter::Fault;
use super::suggest::closest;

/// The fault behind an error of the YAML reader. Lines count from the file's first line, which is
/// the fence before the YAML.
pub(super) fn explain(error: &Error, yaml: &str) -> Fault {
    let error = error.without_snippet();
    let place = Place::of(error, yaml);
    let (place, message) = match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            (place.of_key(field), unknown("member", field, expected))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            (place.of_text(variant), unknown("choice", variant, expected))
        }
        Error::SerdeMissingField { field, .. } => (place, format!("`{field}` is missing")),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            (place, format!("`{key}` stands twice"))
        }
        Error::InvalidScalar { ty, .. } => (place, place.wrong_scalar(ty)),
        Error::Unexpected { expected, .. } => (place, place.unexpected(expected)),
        Error::NullIntoString { .. } => (place, "a text is missing here".to_owned()),
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            // In a manifest's entries the reader knows only where the outermost entry begins.
            let value = quoted_part(unexpected).unwrap_or(unexpected);
            (place.of_text(value), format!("expected {}, found `{value}`", plain(expected)))
        }
        Error::InvalidBooleanStrict { .. } => (place, place.wrong_scalar("bool")),
        Error::Budget { .. } => (place, "the front matter is too deep or too long".to_owned()),
        Error::Message { msg, .. } => (place, place.with_text(msg)),
        other => (place, without_place(&other.to_string())),
    };
    Fault { position: place.in_file(), message }
}

fn unknown(what: &str, given: &str, known: &[&'static str]) -> String {
    let given: String = given.chars().take(80).collect();
    match closest(&given, known) {
        Some(meant) => format!("unknown {what} `{given}`; did you mean `{meant}`?"),
        None => format!("unknown {what} `{given}`; there are `{}`", known.join("`, `")),
    }
}

/// What the reader calls kinds of values, for people.
fn plain(kind: &str) -> &str {
    match kind {
        "mapping start" => "members (`name: value`)",
        "sequence start" => "a list",
        "string scalar" | "a string" => "a text",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i32" | "i64" => "a whole number",
        "f32" | "f64" | "floating point" => "a number",
        "bool" | "boolean" | "a boolean" => "`true` or `false`",
        other => other,
    }
}

/// The part of `string "x"` or `` integer `3` `` that stands in the text.
fn quoted_part(found: &str) -> Option<&str> {
    let inner = |quote: char| found.split_once(quote)?.1.rsplit_once(quote).map(|parts| parts.0);
    inner('"').or_else(|| inner('`'))
}

fn without_place(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    message.get(..end).unwrap_or(message).replace('\n', " ")
}

/// A place in the YAML, and what stands there.
#[derive(Clone, Copy)]
struct Place<'y> {
    yaml: &'y str,
    /// Counted from 0.
    line: usize,
    /// Counted from 0, in characters.
    column: usize,
}

impl<'y> Place<'y> {
    fn of(error: &Error, yaml: &'y str) -> Self {
        let index = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
        let (line, column) = match error.location() {
            Some(location) => (index(location.line()), index(location.column())),
            None => (0, 0),
        };
        // The reader may stand behind the last line, which is then the closing fence.
        Self { yaml, line: line.min(yaml.lines().count()), column }
    }

    fn in_file(self) -> Position {
        Position { line: self.line.saturating_add(2), column: self.column.saturating_add(1) }
    }

    /// The nearest `key:` from here on; here, if there is none.
    fn of_key(self, key: &str) -> Self {
        self.nearest(|rest| {
            let rest = rest.trim_start_matches(['"', '\'']);
            rest.strip_prefix(key).is_some_and(|after| {
                after.trim_start_matches(['"', '\'']).trim_start().starts_with(':')
            })
        })
    }

    /// The nearest `text` from here on; here, if there is none.
    fn of_text(self, text: &str) -> Self {
        if text.is_empty() { self } else { self.nearest(|rest| rest.starts_with(text)) }
    }

    fn nearest(self, is_it: impl Fn(&str) -> bool) -> Self {
        for (line, text) in self.yaml.lines().enumerate().skip(self.line) {
            let from = if line == self.line { self.column } else { 0 };
            let mut starts = text.char_indices().enumerate().skip(from).filter(|(_, (at, _))| {
                let before = text.get(..*at).and_then(|head| head.chars().next_back());
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-')
            });
            let found = starts.find(|(_, (at, _))| text.get(*at..).is_some_and(&is_it));
            if let Some((column, _)) = found {
                return Self { line, column, ..self };
            }
        }
        self
    }

    /// The plain or quoted value that stands here, if it is on one line.
    fn text(self) -> Option<String> {
        let line = self.yaml.lines().nth(self.line)?;
        let rest: String = line.chars().skip(self.column).collect();
        let end = rest.find([',', '}', ']']).into_iter().chain(rest.find(" #")).min();
        let text = rest.get(..end.unwrap_or(rest.len())).unwrap_or(&rest).trim();
        (!text.is_empty()).then(|| text.chars().take(80).collect())
    }

    fn wrong_scalar(self, kind: &str) -> String {
        match self.text() {
            Some(text) => format!("expected {}, found `{text}`", plain(kind)),
            None => format!("expected {}", plain(kind)),
        }
    }

    fn unexpected(self, expected: &str) -> String {
        self.wrong_scalar(expected)
    }

    /// A check's own message, with the value it is about.
    fn with_text(self, message: &str) -> String {
        match self.text() {
            Some(text) if !message.contains('`') => format!("`{text}`: {message}"),
            _ => message.to_owned(),
        }
    }
}
