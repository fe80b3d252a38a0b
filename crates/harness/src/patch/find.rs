use std::collections::HashMap;

use super::hunk::Hunk;

/// How much two lines may differ and still count as the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    Exact,
    TrailingBlanks,
    Blanks,
    /// Also typographic dashes, quotes and spaces against plain ones.
    Punctuation,
}

const RUNGS: [Rung; 3] = [Rung::Exact, Rung::TrailingBlanks, Rung::Blanks];

/// Where a hunk's context stands at or after `cursor`. `lines` is the file with the empty line
/// after a last LF; `count` leaves that one out.
pub(super) fn locate(
    lines: &[&str],
    count: usize,
    hunk: &Hunk<'_>,
    cursor: usize,
) -> Option<usize> {
    let context = hunk.context.as_slice();
    let end = count.saturating_sub(context.len()).max(cursor);
    if context.is_empty() {
        return Some(if hunk.at_end { end } else { cursor });
    }
    let at_end = |rung| if hunk.at_end { search(lines, context, end, rung) } else { None };
    let anywhere = |rung| search(lines, context, cursor, rung);
    RUNGS
        .into_iter()
        .find_map(at_end)
        .or_else(|| RUNGS.into_iter().find_map(anywhere))
        .or_else(|| at_end(Rung::Punctuation))
        .or_else(|| anywhere(Rung::Punctuation))
}

/// The first place at or after `from` where all of `context` stands.
fn search(lines: &[&str], context: &[&str], from: usize, rung: Rung) -> Option<usize> {
    match rung {
        Rung::Exact => search_by(lines, context, from, |a, b| a == b),
        Rung::TrailingBlanks => search_by(lines, context, from, |a, b| trim_end(a) == trim_end(b)),
        Rung::Blanks => search_by(lines, context, from, |a, b| trim(a) == trim(b)),
        Rung::Punctuation => search_by(lines, context, from, |a, b| {
            trim(a).chars().map(plain).eq(trim(b).chars().map(plain))
        }),
    }
}

/// Knuth, Morris and Pratt's search, so that repetitive files cost no more than others.
fn search_by(
    lines: &[&str],
    context: &[&str],
    from: usize,
    same: impl Fn(&str, &str) -> bool,
) -> Option<usize> {
    let borders = borders(context, &same);
    let shorter = |matched: usize| borders.get(matched - 1).copied().unwrap_or(0);
    let mut matched = 0;
    for (index, line) in lines.iter().enumerate().skip(from) {
        while matched > 0 && !context.get(matched).is_some_and(|wanted| same(line, wanted)) {
            matched = shorter(matched);
        }
        if context.get(matched).is_some_and(|wanted| same(line, wanted)) {
            matched += 1;
        }
        if matched == context.len() {
            return Some(index + 1 - matched);
        }
    }
    None
}

/// For each prefix of `context`, the length of the longest shorter one that it ends with.
fn borders(context: &[&str], same: &impl Fn(&str, &str) -> bool) -> Vec<usize> {
    let mut borders: Vec<usize> = Vec::with_capacity(context.len());
    let mut length = 0;
    for (index, line) in context.iter().enumerate() {
        let fits = |length: usize| context.get(length).is_some_and(|wanted| same(line, wanted));
        while length > 0 && !fits(length) {
            length = borders.get(length - 1).copied().unwrap_or(0);
        }
        if index > 0 && fits(length) {
            length += 1;
        }
        borders.push(length);
    }
    borders
}

/// Where the lines stand that hunks name in their headers.
pub(super) struct Anchors<'d> {
    exact: HashMap<&'d str, Vec<usize>>,
    trimmed: HashMap<&'d str, Vec<usize>>,
}

impl<'d> Anchors<'d> {
    /// One pass over the file for all hunks.
    pub(super) fn index(lines: &[&str], hunks: &[Hunk<'d>]) -> Self {
        let mut index = Self { exact: HashMap::new(), trimmed: HashMap::new() };
        for anchor in hunks.iter().flat_map(|hunk| &hunk.anchors) {
            index.exact.entry(anchor).or_default();
            index.trimmed.entry(trim(anchor)).or_default();
        }
        if index.exact.is_empty() {
            return index;
        }
        // Most lines are told apart by their length, without hashing them.
        let mut lengths: Vec<usize> = index.trimmed.keys().map(|anchor| anchor.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        for (number, line) in lines.iter().enumerate() {
            let trimmed = trim(line);
            if lengths.binary_search(&trimmed.len()).is_err() {
                continue;
            }
            if let Some(places) = index.trimmed.get_mut(trimmed) {
                places.push(number);
            }
            if let Some(places) = index.exact.get_mut(*line) {
                places.push(number);
            }
        }
        index
    }

    /// Moves the cursor behind the lines that the hunk's headers name. A header whose line was
    /// passed before does not move it. A single header that is nowhere is only advice; of several,
    /// the first that is nowhere is the error.
    pub(super) fn advance(&self, hunk: &Hunk<'d>, cursor: usize) -> Result<usize, &'d str> {
        let mut at = cursor;
        for anchor in &hunk.anchors {
            let found = self.find(anchor, cursor, at);
            match found {
                Some(next) => at = next,
                None if hunk.headers > 1 => return Err(anchor),
                None => {}
            }
        }
        Ok(at)
    }

    fn find(&self, anchor: &str, hunk_start: usize, at: usize) -> Option<usize> {
        let lists = [self.exact.get(anchor), self.trimmed.get(trim(anchor))];
        lists.into_iter().flatten().find_map(|places| {
            let was_passed = places.first().is_some_and(|first| *first < hunk_start);
            if was_passed && at == hunk_start {
                return Some(at);
            }
            places.get(places.partition_point(|place| *place < at)).map(|place| place + 1)
        })
    }
}

/// Blanks as the peer's `strip` knows them: Unicode white space and the four separators.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

pub(super) fn trim(line: &str) -> &str {
    line.trim_matches(is_blank)
}

fn trim_end(line: &str) -> &str {
    line.trim_end_matches(is_blank)
}

/// The plain character that a model is likely to write for a typographic one.
fn plain(c: char) -> char {
    match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        other => other,
    }
}
