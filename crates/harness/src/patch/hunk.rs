use super::{envelope::END, quoted};

const END_OF_FILE: &str = "*** End of File";

/// One hunk of an update: where it belongs and what it does there.
#[derive(Debug, Default)]
pub(super) struct Hunk<'d> {
    /// The line of the diff on which its first header or line stands, counted from 0.
    pub(super) line: usize,
    /// Texts of its `@@ …` headers, outermost first; bare headers left out.
    pub(super) anchors: Vec<&'d str>,
    /// How many headers it has, bare ones included.
    pub(super) headers: usize,
    /// The lines that must be there: those kept and those deleted.
    pub(super) context: Vec<&'d str>,
    /// What happens to them, in order.
    pub(super) edits: Vec<Edit<'d>>,
    /// It belongs to the end of the file.
    pub(super) at_end: bool,
}

/// Lines of a hunk's context that are replaced.
#[derive(Debug)]
pub(super) struct Edit<'d> {
    /// Index in the context of the first line that is deleted, or before which lines are inserted.
    pub(super) at: usize,
    pub(super) delete: usize,
    pub(super) insert: Vec<&'d str>,
}

/// A line that no hunk can have. Hunks before it are good.
#[derive(Debug)]
pub(super) struct BadLine<'d> {
    /// Counted from 0.
    pub(super) line: usize,
    pub(super) message: String,
    /// The hunk that it is in, as far as it was read: its headers.
    pub(super) within: Option<Box<Hunk<'d>>>,
}

/// The lines of a diff, without their endings.
pub(super) fn diff_lines(diff: &str) -> impl Iterator<Item = &str> {
    let body = diff.strip_suffix('\n').unwrap_or(diff);
    let lines = if diff.is_empty() { None } else { Some(body.split('\n')) };
    lines.into_iter().flatten().map(|line| line.trim_end_matches('\r'))
}

/// The content of a file that a diff of only `+` lines makes. It ends with a line ending, unless
/// it is empty.
pub(super) fn created_content(diff: &str) -> Result<String, BadLine<'_>> {
    let ending = if diff.contains("\r\n") { "\r\n" } else { "\n" };
    let mut content = String::with_capacity(diff.len());
    let lines: Vec<&str> = diff_lines(diff).collect();
    let lines = trim_end_of_patch(&lines);
    for (index, line) in lines.iter().enumerate() {
        let Some(added) = line.strip_prefix('+') else {
            let message =
                format!("{} does not begin with `+`, as lines of a new file do", quoted(line));
            return Err(BadLine { line: index, message, within: None });
        };
        if index > 0 {
            content.push_str(ending);
        }
        content.push_str(added);
    }
    if !content.is_empty() && !content.ends_with('\n') {
        content.push_str(ending);
    }
    Ok(content)
}

/// Reads the hunks of an update up to its end, or to the first line that cannot be.
pub(super) fn parse(diff: &str) -> (Vec<Hunk<'_>>, Option<BadLine<'_>>) {
    let lines: Vec<&str> = diff_lines(diff).collect();
    let mut reader = Reader { lines: trim_end_of_patch(&lines), next: 0 };
    let mut hunks = Vec::new();
    loop {
        match reader.hunk(hunks.is_empty()) {
            Ok(Some(hunk)) => hunks.push(hunk),
            Ok(None) => return (hunks, None),
            Err(bad) => return (hunks, Some(bad)),
        }
    }
}

/// Models end the diff of a JSON operation with the envelope's last line, and blank ones behind it;
/// they mean nothing there.
fn trim_end_of_patch<'a, 'd>(lines: &'a [&'d str]) -> &'a [&'d str] {
    let last = lines.iter().rposition(|line| !line.trim_end().is_empty());
    match last.and_then(|last| lines.split_at_checked(last)) {
        Some((rest, [end, ..])) if end.trim_end() == END => rest,
        _ => lines,
    }
}

struct Reader<'a, 'd> {
    lines: &'a [&'d str],
    next: usize,
}

impl<'d> Reader<'_, 'd> {
    fn peek(&self) -> Option<&'d str> {
        self.lines.get(self.next).copied()
    }

    fn hunk(&mut self, is_first: bool) -> Result<Option<Hunk<'d>>, BadLine<'d>> {
        while self.peek().is_some_and(is_end_of_file) {
            self.next += 1;
        }
        let Some(line) = self.peek() else { return Ok(None) };
        let mut hunk = Hunk { line: self.next, ..Hunk::default() };
        self.read_headers(&mut hunk);
        if hunk.headers == 0 && !is_first {
            return Err(
                self.bad(format!("{} stands outside a hunk; begin it with `@@`", quoted(line)))
            );
        }
        let body = self.next;
        let read = self.read_body(&mut hunk).and_then(|()| match self.peek() {
            _ if self.next > body => Ok(()),
            Some(line) => {
                Err(self.bad(format!("a hunk needs lines, but {} follows", quoted(line))))
            }
            None => Err(self.bad("the hunk has no lines".to_owned())),
        });
        match read {
            Ok(()) => Ok(Some(hunk)),
            Err(bad) => Err(BadLine { within: Some(Box::new(hunk)), ..bad }),
        }
    }

    fn read_headers(&mut self, hunk: &mut Hunk<'d>) {
        while let Some(line) = self.peek() {
            match line.strip_prefix("@@ ") {
                Some(anchor) if !anchor.trim().is_empty() => hunk.anchors.push(anchor),
                Some(_) => {}
                None if line == "@@" => {}
                None => return,
            }
            hunk.headers += 1;
            self.next += 1;
        }
    }

    fn read_body(&mut self, hunk: &mut Hunk<'d>) -> Result<(), BadLine<'d>> {
        let mut edit: Option<Edit<'d>> = None;
        while let Some(line) = self.peek().filter(|line| !line.starts_with("@@")) {
            if is_end_of_file(line) {
                self.next += 1;
                hunk.at_end = true;
                break;
            }
            // It ends the hunk, and is no line of the next.
            if line == "***" {
                break;
            }
            if line.starts_with("***") {
                return Err(self.bad(format!("{} is no line of a hunk", quoted(line))));
            }
            let at = hunk.context.len();
            let fresh = || Edit { at, delete: 0, insert: Vec::new() };
            if let Some(added) = line.strip_prefix('+') {
                edit.get_or_insert_with(fresh).insert.push(added);
            } else if let Some(deleted) = line.strip_prefix('-') {
                edit.get_or_insert_with(fresh).delete += 1;
                hunk.context.push(deleted);
            } else if let Some(kept) = line.strip_prefix(' ').or(line.is_empty().then_some("")) {
                hunk.edits.extend(edit.take());
                hunk.context.push(kept);
            } else {
                return Err(
                    self.bad(format!("{} begins with neither a blank, `+` nor `-`", quoted(line)))
                );
            }
            self.next += 1;
        }
        hunk.edits.extend(edit);
        Ok(())
    }

    fn bad(&self, message: String) -> BadLine<'d> {
        let line = self.next.min(self.lines.len().saturating_sub(1));
        BadLine { line, message, within: None }
    }
}

fn is_end_of_file(line: &str) -> bool {
    line.trim_end() == END_OF_FILE
}
