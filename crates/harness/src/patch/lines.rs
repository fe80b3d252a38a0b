/// A text and where its lines are. A text that ends with LF has an empty last line, so that every
/// text is its lines joined.
pub(super) struct Lines<'t> {
    text: &'t str,
    /// The lines without LF, and without the CR before it.
    pub(super) contents: Vec<&'t str>,
    /// Where each line begins in the text, and the text's end.
    starts: Vec<usize>,
    has_crlf: bool,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        // Short lines are common in code; one reallocation at most.
        let guess = text.len() / 24 + 2;
        let mut contents = Vec::with_capacity(guess);
        let mut starts = Vec::with_capacity(guess);
        let mut has_crlf = false;
        let mut start = 0;
        for piece in text.split_inclusive('\n') {
            let line = piece.strip_suffix('\n').unwrap_or(piece);
            // A CR is part of the ending only before LF.
            let content = line.strip_suffix('\r').filter(|_| line.len() < piece.len());
            has_crlf |= content.is_some();
            contents.push(content.unwrap_or(line));
            starts.push(start);
            start += piece.len();
        }
        if text.is_empty() || text.ends_with('\n') {
            contents.push("");
            starts.push(start);
        }
        starts.push(start);
        Self { text, contents, starts, has_crlf }
    }

    /// How many lines there are, without the empty one after a last LF.
    pub(super) fn count(&self) -> usize {
        let unended = usize::from(self.contents.last().is_some_and(|line| !line.is_empty()));
        self.contents.len() - 1 + unended
    }

    /// The ending of inserted lines: CRLF if any line has it. A text of one line has none to go
    /// by, so there the diff's is taken.
    pub(super) fn inserted_ending(&self, diff: &str) -> &'static str {
        let crlf = if self.text.contains('\n') { self.has_crlf } else { diff.contains("\r\n") };
        if crlf { "\r\n" } else { "\n" }
    }

    /// The text of lines `from..to`, as it is, and the ending of the last of them apart.
    pub(super) fn slice(&self, from: usize, to: usize) -> (&'t str, &'t str) {
        let start = self.starts.get(from).copied().unwrap_or(self.text.len());
        let end = self.starts.get(to).copied().unwrap_or(self.text.len());
        let whole = self.text.get(start..end).unwrap_or_default();
        let last = to
            .checked_sub(1)
            .and_then(|line| Some((self.starts.get(line)?, self.contents.get(line)?)));
        let ending = last.map_or(end, |(start, content)| start + content.len());
        let split = ending.saturating_sub(start).min(whole.len());
        whole.split_at_checked(split).unwrap_or((whole, ""))
    }
}
