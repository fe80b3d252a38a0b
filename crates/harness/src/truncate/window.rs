use super::{LossyDecoder, Style, Truncated, Whole, budget_of};

/// Which of a command's outputs bytes came from. Their code points are put together apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The head and the tail of an output that arrives in pieces, however long it is.
///
/// Holds at most three times the limit's bytes. What [`OutputWindow::finish`] gives is what
/// [`super::truncate`] would give for the whole text.
#[derive(Clone, Debug)]
pub struct OutputWindow {
    budget: usize,
    style: Style,
    stdout: LossyDecoder,
    stderr: LossyDecoder,
    ends: Ends,
}

impl OutputWindow {
    /// An empty window that will give at most `max_tokens`.
    pub fn new(max_tokens: u32, style: Style) -> Self {
        Self {
            budget: budget_of(i64::from(max_tokens)),
            style,
            stdout: LossyDecoder::new(),
            stderr: LossyDecoder::new(),
            ends: Ends::default(),
        }
    }

    /// Takes the next bytes of one stream.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        let Self { budget, stdout, stderr, ends, .. } = self;
        let decoder = match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        };
        decoder.push(bytes, |text| ends.push(text, *budget));
    }

    /// Takes text that is not the command's, such as a notice.
    pub fn push_text(&mut self, text: &str) {
        self.ends.push(text, self.budget);
    }

    /// Bytes of the text so far, after decoding.
    pub fn bytes(&self) -> u64 {
        self.ends.bytes
    }

    /// Lines of the text so far; a last line without LF counts.
    pub fn lines(&self) -> u64 {
        self.ends.lines()
    }

    /// Bytes at the end of what was pushed that are the beginning of a code point. A caller that
    /// will ask for more output later can leave them for then.
    pub fn undecoded(&self) -> usize {
        self.stdout.pending() + self.stderr.pending()
    }

    /// More text came than the limit has room for.
    pub fn overflowed(&self) -> bool {
        self.ends.bytes > self.budget as u64
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.ends.head.capacity() + self.ends.tail.capacity()
    }

    /// Drops what [`OutputWindow::undecoded`] counts, for a caller that leaves it for later.
    pub fn forget_undecoded(&mut self) {
        self.stdout = LossyDecoder::new();
        self.stderr = LossyDecoder::new();
    }

    /// What the model is given.
    pub fn finish(mut self) -> Truncated {
        let Self { budget, stdout, stderr, ends, .. } = &mut self;
        stdout.finish(|text| ends.push(text, *budget));
        stderr.finish(|text| ends.push(text, *budget));
        if !self.overflowed() {
            return Truncated { text: self.ends.head, original_tokens: None };
        }
        let whole = Whole { bytes: self.ends.bytes, lines: self.ends.lines() };
        whole.cut(&self.ends.head, &self.ends.tail, self.budget, self.style)
    }
}

/// The first `budget` bytes, the last `budget` bytes, and counts of all that came.
#[derive(Clone, Debug, Default)]
struct Ends {
    head: String,
    head_full: bool,
    /// May begin within a code point.
    tail: Vec<u8>,
    bytes: u64,
    newlines: u64,
    ends_with_newline: bool,
}

impl Ends {
    fn push(&mut self, text: &str, budget: usize) {
        if text.is_empty() {
            return;
        }
        self.bytes += text.len() as u64;
        self.newlines += text.bytes().filter(|byte| *byte == b'\n').count() as u64;
        self.ends_with_newline = text.ends_with('\n');
        self.push_head(text, budget);
        self.push_tail(text.as_bytes(), budget);
    }

    fn push_head(&mut self, text: &str, budget: usize) {
        if self.head_full {
            return;
        }
        let fits = super::prefix_within(text, budget - self.head.len());
        self.head.push_str(fits);
        self.head_full = fits.len() < text.len();
    }

    /// Lets the tail grow to twice the budget before its front is dropped, so that each byte is
    /// moved at most once.
    fn push_tail(&mut self, bytes: &[u8], budget: usize) {
        let last = bytes.get(bytes.len().saturating_sub(budget)..).unwrap_or_default();
        if self.tail.len() + last.len() > budget.saturating_mul(2) {
            let keep = budget.saturating_sub(last.len()).min(self.tail.len());
            self.tail.drain(..self.tail.len() - keep);
        }
        self.tail.extend_from_slice(last);
    }

    fn lines(&self) -> u64 {
        self.newlines + u64::from(self.bytes > 0 && !self.ends_with_newline)
    }
}
