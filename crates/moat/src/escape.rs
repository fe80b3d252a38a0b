//! Everything that a model, a tool or a sandbox produced passes through here on its way to a
//! terminal: no byte of it may move the cursor, change a title or hide a line.

/// Shows control characters instead of sending them; line feeds and tabs stay.
pub(crate) fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            // A carriage return before a line feed is a line end; alone it would overwrite the line.
            '\r' => shown.push('␍'),
            c if c.is_control() || is_invisible(c) => {
                shown.extend(c.escape_unicode());
            }
            c => shown.push(c),
        }
    }
    shown.replace("␍\n", "\n")
}

/// The same for what comes in pieces, which may end within a character or a line's end.
#[derive(Debug, Default)]
pub(crate) struct Escaping {
    /// The beginning of a character, or a carriage return; at most three bytes.
    rest: Vec<u8>,
}

impl Escaping {
    /// What can be shown by now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.len() - unfinished(&self.rest);
        let later = self.rest.split_off(whole);
        let now = std::mem::replace(&mut self.rest, later);
        escape(&String::from_utf8_lossy(&now))
    }

    /// What never became whole.
    pub(crate) fn finish(&mut self) -> String {
        escape(&String::from_utf8_lossy(&std::mem::take(&mut self.rest)))
    }
}

/// Bytes at the end whose meaning depends on what follows.
fn unfinished(bytes: &[u8]) -> usize {
    if bytes.ends_with(b"\r") {
        return 1;
    }
    let tail = bytes.get(bytes.len().saturating_sub(3)..).unwrap_or_default();
    match std::str::from_utf8(tail) {
        Ok(_) => 0,
        // The tail may begin within a character: only what is unfinished at its very end counts.
        Err(_) => (1..=tail.len())
            .find(|count| {
                let end = tail.get(tail.len() - count..).unwrap_or_default();
                std::str::from_utf8(end)
                    .is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
            })
            .unwrap_or_default(),
    }
}

/// The same on one line, cut to a width in characters.
pub(crate) fn one_line(text: &str, width: usize) -> String {
    let line: String =
        escape(text).chars().map(|c| if c == '\n' || c == '\t' { ' ' } else { c }).collect();
    if line.chars().count() <= width {
        return line;
    }
    let mut cut: String = line.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Characters that change the direction or the look of text around them without being seen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_as_a_command() {
        let hostile = "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m a\rb\r\nc\td \u{202e}txt";
        let shown = escape(hostile);
        assert!(
            shown.chars().all(|c| c == '\n' || c == '\t' || !(c.is_control() || is_invisible(c)))
        );
        assert!(shown.contains("\\u{1b}"), "{shown}");
        assert!(shown.contains("\nc\td"), "{shown}");
        let mut pieces = Escaping::default();
        for text in [hostile, "\u{fffd}é日\u{1f600}\r\n\r"] {
            let mut shown = String::new();
            text.as_bytes().iter().for_each(|byte| shown.push_str(&pieces.push(&[*byte])));
            shown.push_str(&pieces.finish());
            assert_eq!(shown, escape(text));
        }
        assert_eq!(pieces.push(b"\xff\xe2\x82") + &pieces.finish(), "\u{fffd}\u{fffd}");
        assert_eq!(one_line("a\nb\u{1b}", 40), "a b\\u{1b}");
        assert_eq!(one_line("abcdef", 4), "abc…");
    }
}
