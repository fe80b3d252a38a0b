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
        assert_eq!(one_line("a\nb\u{1b}", 40), "a b\\u{1b}");
        assert_eq!(one_line("abcdef", 4), "abc…");
    }
}
