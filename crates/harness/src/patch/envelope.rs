use super::{Action, Operation, PatchError, quoted};

const BEGIN: &str = "*** Begin Patch";
pub(super) const END: &str = "*** End Patch";
const ADD: &str = "*** Add File: ";
const DELETE: &str = "*** Delete File: ";
const UPDATE: &str = "*** Update File: ";
const MOVE: &str = "*** Move to: ";

/// Reads the freeform envelope, also within a heredoc.
pub(super) fn parse(input: &str) -> Result<Vec<Operation>, PatchError> {
    let all: Vec<&str> =
        input.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let mut reader = Reader { lines: &all, next: 0 };
    reader.skip_blank_ends();
    reader.open_heredoc()?;
    reader.open_envelope()?;
    let mut operations = Vec::new();
    while let Some((number, line)) = reader.take() {
        operations.push(reader.operation(number, line)?);
    }
    Ok(operations)
}

/// The lines that are left to read; `next` is the index of the first of them in the input.
struct Reader<'a> {
    lines: &'a [&'a str],
    next: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.lines.first().copied()
    }

    /// The next line with its number in the input, counted from 1.
    fn take(&mut self) -> Option<(usize, &'a str)> {
        let (first, rest) = self.lines.split_first()?;
        self.lines = rest;
        self.next += 1;
        Some((self.next, first))
    }

    fn skip_blank_ends(&mut self) {
        while self.peek().is_some_and(|line| line.trim().is_empty()) {
            self.take();
        }
        while let [rest @ .., last] = self.lines
            && last.trim().is_empty()
        {
            self.lines = rest;
        }
    }

    fn drop_last(&mut self, wanted: &str) -> bool {
        match self.lines {
            [rest @ .., last] if *last == wanted => {
                self.lines = rest;
                true
            }
            _ => false,
        }
    }

    /// Takes a heredoc's first and last line away, if the input is one.
    fn open_heredoc(&mut self) -> Result<(), PatchError> {
        let Some(word) = self.peek().and_then(heredoc_word) else { return Ok(()) };
        self.take();
        if !self.drop_last(word) {
            return Err(PatchError::parse(format!(
                "the heredoc is not closed: the last line has to be {}",
                quoted(word)
            )));
        }
        self.skip_blank_ends();
        Ok(())
    }

    fn open_envelope(&mut self) -> Result<(), PatchError> {
        match self.take() {
            Some((_, BEGIN)) => {}
            Some((number, line)) => {
                return Err(PatchError::parse(format!(
                    "line {number} is {}; a patch begins with `{BEGIN}`",
                    quoted(line)
                )));
            }
            None => return Err(PatchError::parse("the patch is empty")),
        }
        if !self.drop_last(END) {
            let last = self.lines.last().map_or(BEGIN, |line| line);
            return Err(PatchError::parse(format!(
                "the last line is {}; a patch ends with `{END}`",
                quoted(last)
            )));
        }
        Ok(())
    }

    fn operation(&mut self, number: usize, line: &str) -> Result<Operation, PatchError> {
        if let Some(path) = line.strip_prefix(ADD) {
            self.add(path_of(number, path)?)
        } else if let Some(path) = line.strip_prefix(UPDATE) {
            self.update(path_of(number, path)?)
        } else if let Some(path) = line.strip_prefix(DELETE) {
            self.delete(path_of(number, path)?)
        } else {
            Err(PatchError::parse(format!(
                "line {number} is {}; expected `{ADD}PATH`, `{UPDATE}PATH` or `{DELETE}PATH`",
                quoted(line)
            )))
        }
    }

    fn add(&mut self, path: String) -> Result<Operation, PatchError> {
        let diff_line = Some(self.next + 1);
        let body = self.body(|number, line| {
            if line.starts_with('+') {
                return Ok(());
            }
            Err(PatchError::parse(format!(
                "line {number} is {}; every line of an added file begins with `+`",
                quoted(line)
            )))
        })?;
        if body.is_empty() {
            return Err(PatchError::parse(format!(
                "nothing is added to {}; send at least one line that begins with `+`",
                quoted(&path)
            )));
        }
        Ok(Operation { path, action: Action::Create { diff: body }, diff_line })
    }

    fn update(&mut self, path: String) -> Result<Operation, PatchError> {
        let mut move_to = None;
        if let Some(target) = self.peek().and_then(|line| line.strip_prefix(MOVE)) {
            self.take();
            move_to = Some(path_of(self.next, target)?);
        }
        let diff_line = Some(self.next + 1);
        let diff = self.body(|number, line| {
            if line.trim_end() != END {
                return Ok(());
            }
            Err(PatchError::parse(format!("line {number} is `{END}`, but more lines follow it")))
        })?;
        if diff.is_empty() {
            return Err(PatchError::parse(format!(
                "the update of {} has no hunk; to only move a file, use `mv`",
                quoted(&path)
            )));
        }
        Ok(Operation { path, action: Action::Update { diff, move_to }, diff_line })
    }

    fn delete(&mut self, path: String) -> Result<Operation, PatchError> {
        if let Some(line) = self.peek().filter(|line| !is_header(line)) {
            return Err(PatchError::parse(format!(
                "line {} is {}; nothing follows `{DELETE}PATH`",
                self.next + 1,
                quoted(line)
            )));
        }
        Ok(Operation { path, action: Action::Delete, diff_line: None })
    }

    /// The lines up to the next header, each checked and ended by LF.
    fn body(
        &mut self,
        check: impl Fn(usize, &str) -> Result<(), PatchError>,
    ) -> Result<String, PatchError> {
        let mut body = String::new();
        while self.peek().is_some_and(|line| !is_header(line)) {
            let Some((number, line)) = self.take() else { break };
            check(number, line)?;
            body.push_str(line);
            body.push('\n');
        }
        Ok(body)
    }
}

fn is_header(line: &str) -> bool {
    [ADD, DELETE, UPDATE].iter().any(|header| line.starts_with(header))
}

fn path_of(number: usize, text: &str) -> Result<String, PatchError> {
    match text.trim() {
        "" => Err(PatchError::parse(format!("line {number} has no path after the colon"))),
        path => Ok(path.to_owned()),
    }
}

/// The word of `<<WORD`, `<<'WORD'` or `<<"WORD"`, with `apply_patch ` before it or not.
fn heredoc_word(line: &str) -> Option<&str> {
    let line = line.trim_end();
    let line = line.strip_prefix("apply_patch ").map_or(line, str::trim_start);
    let word = line.strip_prefix("<<")?.trim_start();
    let unquoted = |quote: char| word.strip_prefix(quote)?.strip_suffix(quote);
    let word = unquoted('\'').or_else(|| unquoted('"')).unwrap_or(word);
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!word.is_empty() && word.chars().all(is_word)).then_some(word)
}
