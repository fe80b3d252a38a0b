//! Where the strings of a JSON text stand, so that one can be replaced and every other byte kept.

use std::ops::Range;

/// How deep values may be nested.
const MAX_DEPTH: usize = 64;

/// Every string of a JSON text that is a value: its path (names of members, `.` between; elements
/// of lists have no name) and where it stands, without its quotes. `None`: it is not JSON, or
/// nested too deeply.
pub(super) fn string_fields(json: &[u8]) -> Option<Vec<(String, Range<usize>)>> {
    // From here on it is known to be valid, and the walk only has to find its way.
    serde_json::from_slice::<serde::de::IgnoredAny>(json).ok()?;
    let mut walk = Walk { json, at: 0, fields: Vec::new() };
    walk.value("", 0)?;
    Some(walk.fields)
}

struct Walk<'a> {
    json: &'a [u8],
    at: usize,
    fields: Vec<(String, Range<usize>)>,
}

impl Walk<'_> {
    fn value(&mut self, path: &str, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            b'"' => {
                let span = self.string()?;
                self.fields.push((path.to_owned(), span));
            }
            b'{' => self.members(path, depth)?,
            b'[' => {
                self.at += 1;
                while self.peek()? != b']' {
                    self.value(path, depth + 1)?;
                    self.skip(b',');
                }
                self.at += 1;
            }
            _ => {
                let is_literal = |byte: &u8| !matches!(byte, b',' | b'}' | b']');
                let rest = self.json.get(self.at..)?;
                let literal =
                    rest.iter().take_while(|byte| is_literal(byte) && !byte.is_ascii_whitespace());
                self.at += literal.count();
            }
        }
        Some(())
    }

    fn members(&mut self, path: &str, depth: usize) -> Option<()> {
        self.at += 1;
        while self.peek()? != b'}' {
            let span = self.string()?;
            let quoted = self.json.get(span.start - 1..span.end + 1)?;
            let name: String = serde_json::from_slice(quoted).ok()?;
            let path = if path.is_empty() { name } else { format!("{path}.{name}") };
            self.skip(b':');
            self.value(&path, depth + 1)?;
            self.skip(b',');
        }
        self.at += 1;
        Some(())
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while self.json.get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        self.json.get(self.at).copied()
    }

    fn skip(&mut self, byte: u8) {
        if self.peek() == Some(byte) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Option<Range<usize>> {
        self.skip(b'"');
        let start = self.at;
        loop {
            match self.json.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(start..self.at - 1)
    }
}
