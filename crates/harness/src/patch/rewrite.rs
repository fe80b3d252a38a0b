use super::PatchErrorClass;
use super::anchors::Anchors;
use super::closest;
use super::find::Finder;
use super::hunk::{self, Hunk};
use super::lines::Lines;
use super::quoted;

/// Why a diff does not fit a text.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) class: PatchErrorClass,
    /// The line of the diff, counted from 0.
    pub(super) line: usize,
    /// What is wrong, to be read after "line N of the patch:".
    pub(super) message: String,
}

/// The text after all hunks of `diff`.
pub(super) fn rewrite(text: &str, diff: &str) -> Result<String, Misfit> {
    let (hunks, bad_line) = hunk::parse(diff);
    let lines = Lines::of(text);
    let unread = bad_line.as_ref().and_then(|bad| bad.within.as_deref());
    let places = place(&lines, &hunks, unread)?;
    // What is wrong further down counts only if all before it fits, as if it had not been read.
    if let Some(bad) = bad_line {
        return Err(Misfit { class: PatchErrorClass::Diff, line: bad.line, message: bad.message });
    }
    let mut output = Output {
        lines: &lines,
        inserted_ending: lines.inserted_ending(diff),
        copied: 0,
        text: String::with_capacity(text.len() + diff.len()),
        ending: "",
    };
    for (hunk, place) in hunks.iter().zip(places) {
        for edit in &hunk.edits {
            output.copy_up_to(place + edit.at);
            output.copied += edit.delete;
            edit.insert.iter().for_each(|line| output.insert(line));
        }
    }
    Ok(output.finish())
}

/// Where each hunk's context begins. Of one that could not be read to its end only the headers have
/// to fit.
fn place(
    lines: &Lines<'_>,
    hunks: &[Hunk<'_>],
    unread: Option<&Hunk<'_>>,
) -> Result<Vec<usize>, Misfit> {
    let count = hunks.len() + usize::from(unread.is_some());
    let anchors = Anchors::index(&lines.contents, hunks.iter().chain(unread));
    let finder = Finder::new(lines);
    let mut places = Vec::with_capacity(hunks.len());
    let mut cursor = 0;
    let mut edited = 0;
    for (index, hunk) in hunks.iter().chain(unread).enumerate() {
        let misfit = |message: String| Misfit {
            class: PatchErrorClass::Context,
            line: hunk.line,
            message: format!("hunk {} of {count} does not fit: {message}", index + 1),
        };
        let after_anchors = anchors.advance(hunk, cursor).map_err(|anchor| {
            misfit(format!(
                "no line from line {} on is {}, which its header names. Give the whole line as it \
                 is in the file, or fewer headers",
                cursor + 1,
                quoted(anchor)
            ))
        })?;
        if index == hunks.len() {
            break;
        }
        let place = finder.locate(hunk, after_anchors, edited).ok_or_else(|| {
            misfit(closest::describe(&lines.contents, &hunk.context, after_anchors))
        })?;
        cursor = place + hunk.context.len();
        edited = hunk.edits.last().map_or(edited, |edit| place + edit.at + edit.delete);
        places.push(place);
    }
    Ok(places)
}

/// The text that is being written. An ending is written only when another line follows, since the
/// last line has none.
struct Output<'l, 't> {
    lines: &'l Lines<'t>,
    inserted_ending: &'static str,
    /// Lines of the old text that are copied or left out.
    copied: usize,
    text: String,
    ending: &'t str,
}

impl Output<'_, '_> {
    fn copy_up_to(&mut self, to: usize) {
        if to <= self.copied {
            return;
        }
        let (text, ending) = self.lines.slice(self.copied, to);
        self.text.push_str(self.ending);
        self.text.push_str(text);
        // The old last line has no ending; it needs one if it is not the last any more.
        self.ending = if ending.is_empty() { self.inserted_ending } else { ending };
        self.copied = to;
    }

    fn insert(&mut self, line: &str) {
        self.text.push_str(self.ending);
        self.text.push_str(line);
        self.ending = self.inserted_ending;
    }

    fn finish(mut self) -> String {
        self.copy_up_to(self.lines.contents.len());
        self.text
    }
}
