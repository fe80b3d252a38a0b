use std::cell::OnceCell;
use std::hash::{DefaultHasher, Hasher as _};

use super::hunk::Hunk;
use super::lines::Lines;

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

/// Finds the places of hunks in one file.
pub(super) struct Finder<'f> {
    /// With the empty line after a last LF.
    lines: &'f [&'f str],
    /// Without that one.
    ended: &'f [&'f str],
    /// Made when a hunk first fails to stand exactly as it says: then every later search would
    /// read the rest of the file several times.
    index: OnceCell<LineIndex>,
}

impl<'f> Finder<'f> {
    pub(super) fn new(lines: &'f Lines<'f>) -> Self {
        let ended = lines.contents.get(..lines.count()).unwrap_or_default();
        Self { lines: &lines.contents, ended, index: OnceCell::new() }
    }

    /// Where a hunk's context stands at or after `cursor`. A hunk that belongs to the end of the
    /// file is looked for there first, also before the cursor (where hunks share kept lines), if
    /// that is behind the line `edited` up to which the file is changed already.
    pub(super) fn locate(&self, hunk: &Hunk<'_>, cursor: usize, edited: usize) -> Option<usize> {
        let context = hunk.context.as_slice();
        // The empty line after a last LF is no line that a hunk at the end could mean.
        let lines = if hunk.at_end { self.ended } else { self.lines };
        let end = self.ended.len().saturating_sub(context.len());
        if context.is_empty() {
            return Some(if hunk.at_end { end.max(edited) } else { cursor });
        }
        let first_edit = hunk.edits.first().map_or(context.len(), |edit| edit.at);
        let at_end = |rung| {
            let place = hunk.at_end.then(|| search(lines, context, end, rung)).flatten();
            place.filter(|place| place + first_edit >= edited)
        };
        let anywhere = |rung| self.anywhere(lines, context, cursor, rung);
        RUNGS
            .into_iter()
            .find_map(at_end)
            .or_else(|| RUNGS.into_iter().find_map(anywhere))
            .or_else(|| at_end(Rung::Punctuation))
            .or_else(|| anywhere(Rung::Punctuation))
    }

    fn anywhere(
        &self,
        lines: &[&str],
        context: &[&str],
        cursor: usize,
        rung: Rung,
    ) -> Option<usize> {
        if rung == Rung::Exact && self.index.get().is_none() {
            return search(lines, context, cursor, rung);
        }
        let index = self.index.get_or_init(|| LineIndex::of(self.lines));
        let rarest = index.rarest(context)?;
        if rarest.count > MOST_CANDIDATES {
            return search(lines, context, cursor, rung);
        }
        let places = index.places(rarest.hash);
        let places = places.filter_map(|number| number.checked_sub(rarest.offset));
        places.filter(|place| *place >= cursor).find(|place| {
            let rest = lines.get(*place..).unwrap_or_default();
            rest.len() >= context.len()
                && rest.iter().zip(context).all(|(line, wanted)| same(line, wanted, rung))
        })
    }
}

/// Places that are looked at one by one. With more, a search in linear time is quicker, whatever
/// the file holds.
const MOST_CANDIDATES: usize = 64;

/// Numbers of lines by a hash of what the loosest comparison sees of them: a table of chains, each
/// in the order of the file.
struct LineIndex {
    hashes: Vec<u64>,
    /// The first line of each chain, one more than lines, so that zero is none.
    heads: Vec<usize>,
    /// The next line of the same chain, likewise.
    next: Vec<usize>,
}

impl LineIndex {
    fn of(lines: &[&str]) -> Self {
        let hashes: Vec<u64> = lines.iter().map(|line| loose_hash(line)).collect();
        let mut heads = vec![0; lines.len().next_power_of_two()];
        let mut next = vec![0; lines.len()];
        for (number, hash) in hashes.iter().enumerate().rev() {
            let chain = chain(*hash, heads.len());
            if let (Some(head), Some(next)) = (heads.get_mut(chain), next.get_mut(number)) {
                *next = std::mem::replace(head, number + 1);
            }
        }
        Self { hashes, heads, next }
    }

    /// Which line of `context` stands in the fewest places. More than [`MOST_CANDIDATES`] are not
    /// counted.
    fn rarest(&self, context: &[&str]) -> Option<Rarest> {
        let counted = context.iter().enumerate().map(|(offset, line)| {
            let hash = loose_hash(line);
            let count = self.places(hash).take(MOST_CANDIDATES + 1).count();
            Rarest { offset, hash, count }
        });
        counted.min_by_key(|line| line.count)
    }

    fn places(&self, hash: u64) -> impl Iterator<Item = usize> {
        let head = self.heads.get(chain(hash, self.heads.len())).copied();
        let after = |one_more: &usize| self.next.get(one_more.checked_sub(1)?).copied();
        let numbers = std::iter::successors(head, after).map_while(|number| number.checked_sub(1));
        numbers.filter(move |number| self.hashes.get(*number) == Some(&hash))
    }
}

/// A line of a context, and in how many places of the file it stands.
struct Rarest {
    offset: usize,
    hash: u64,
    count: usize,
}

/// `chains` is a power of two.
fn chain(hash: u64, chains: usize) -> usize {
    hash as usize & (chains - 1)
}

fn loose_hash(line: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let line = trim(line);
    if line.is_ascii() {
        hasher.write(line.as_bytes());
    } else {
        let plain: String = line.chars().map(plain).collect();
        hasher.write(plain.as_bytes());
    }
    hasher.finish()
}

fn same(line: &str, wanted: &str, rung: Rung) -> bool {
    match rung {
        Rung::Exact => line == wanted,
        Rung::TrailingBlanks => trim_end(line) == trim_end(wanted),
        Rung::Blanks => trim(line) == trim(wanted),
        Rung::Punctuation => trim(line).chars().map(plain).eq(trim(wanted).chars().map(plain)),
    }
}

/// The first place at or after `from` where all of `context` stands.
fn search(lines: &[&str], context: &[&str], from: usize, rung: Rung) -> Option<usize> {
    // Apart, so that the usual case compiles to comparisons of bytes.
    if rung == Rung::Exact {
        return search_by(lines, context, from, |line, wanted| line == wanted);
    }
    search_by(lines, context, from, |line, wanted| same(line, wanted, rung))
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

/// Blanks as the peer's `strip` knows them: Unicode white space and the four separators.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

pub(super) fn trim(line: &str) -> &str {
    let visible = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    if visible(line.as_bytes().first()) && visible(line.as_bytes().last()) {
        return line;
    }
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
