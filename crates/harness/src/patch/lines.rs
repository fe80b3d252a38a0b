/// A text and where its lines are. A text that ends with LF has an empty last line, so that every
/// text is its lines joined.
pub(super) struct Lines<'t> {
    text: &'t str,
    /// The lines without LF, and without the CR before it.
    pub(super) contents: Vec<&'t str>,
    has_crlf: bool,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        // Lines of code are rarely shorter on average; if they are, the list grows.
        let mut contents = Vec::with_capacity(text.len() / 32 + 2);
        let mut has_crlf = false;
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', text.as_bytes()) {
            let line = text.get(start..end).unwrap_or_default();
            let content = line.strip_suffix('\r');
            has_crlf |= content.is_some();
            contents.push(content.unwrap_or(line));
            start = end + 1;
        }
        // A CR is part of an ending only before LF, so here it stays.
        contents.push(text.get(start..).unwrap_or_default());
        Self { text, contents, has_crlf }
    }

    /// How many lines there are, without the empty one after a last LF.
    pub(super) fn count(&self) -> usize {
        let unended = usize::from(self.contents.last().is_some_and(|line| !line.is_empty()));
        self.contents.len() - 1 + unended
    }

    /// The ending of inserted lines: CRLF if any line has it. A text of one line has none to go
    /// by, so there the diff's is taken.
    pub(super) fn inserted_ending(&self, diff: &str) -> &'static str {
        let has_endings = self.contents.len() > 1;
        let crlf = if has_endings { self.has_crlf } else { diff.contains("\r\n") };
        if crlf { "\r\n" } else { "\n" }
    }

    /// The text of lines `from..to`, as it is, and the ending of the last of them apart.
    pub(super) fn slice(&self, from: usize, to: usize) -> (&'t str, &'t str) {
        let Some(last) = to.checked_sub(1).and_then(|index| self.contents.get(index)) else {
            return ("", "");
        };
        let content_end = self.offset(last) + last.len();
        let text = self.text.get(self.start(from)..content_end).unwrap_or_default();
        (text, self.text.get(content_end..self.start(to)).unwrap_or_default())
    }

    /// Where a line begins; the text's end for the one after the last.
    fn start(&self, line: usize) -> usize {
        self.contents.get(line).map_or(self.text.len(), |content| self.offset(content))
    }

    /// Where a line begins in the text that it is part of.
    fn offset(&self, content: &str) -> usize {
        content.as_ptr().addr() - self.text.as_ptr().addr()
    }
}
