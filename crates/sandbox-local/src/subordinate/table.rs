//! The tables `/etc/subuid` and `/etc/subgid`, as `subuid(5)` describes them: lines of
//! `OWNER:FIRST:COUNT`, whose owner is a name or a number.

use std::ops::Range;

/// Ranges of one user that are looked at.
const MAX_RANGES: usize = 64;
/// Lines without sense that are named.
const MAX_ODD: usize = 16;

/// Below are the host's own users, whatever a table says.
const FIRST: u32 = 65_536;

/// Whose ranges are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    pub(super) uid: u32,
    pub(super) name: Option<&'a str>,
}

/// What a table says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The owner's ranges, in the table's order.
    pub(super) ranges: Vec<Range<u64>>,
    /// Numbers of lines that make no sense.
    pub(super) odd: Vec<usize>,
}

/// Finds the owner's ranges.
pub(super) fn parse(table: &[u8], owner: Owner<'_>) -> Found {
    let mut found = Found::default();
    for (number, line) in (1..).zip(table.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match understand(line) {
            Some((whose, range)) if is_owner(whose, owner) && found.ranges.len() < MAX_RANGES => {
                found.ranges.push(range);
            }
            Some(_) => {}
            None if found.odd.len() < MAX_ODD => found.odd.push(number),
            None => {}
        }
    }
    found
}

fn understand(line: &[u8]) -> Option<(&str, Range<u64>)> {
    let mut parts = std::str::from_utf8(line).ok()?.split(':');
    let (whose, first, count) = (parts.next()?, number(parts.next()?)?, number(parts.next()?)?);
    let is_one = parts.next().is_none() && !whose.is_empty() && count > 0;
    is_one.then(|| (whose, u64::from(first)..u64::from(first) + u64::from(count)))
}

/// Digits only: no sign, which the standard library would take.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn is_owner(whose: &str, owner: Owner<'_>) -> bool {
    Some(whose) == owner.name || number(whose) == Some(owner.uid)
}

/// What of the ranges can be used, in order, apart from each other: without the host's own users,
/// without the caller himself, without the number that stands for nobody.
pub(super) fn usable(ranges: &[Range<u64>], own: u32) -> Vec<Range<u32>> {
    let mut cut: Vec<Range<u32>> = Vec::new();
    for range in ranges {
        let end = u32::try_from(range.end).unwrap_or(u32::MAX);
        let start = u32::try_from(range.start).unwrap_or(u32::MAX).max(FIRST);
        let halves = [start..end.min(own), start.max(own.saturating_add(1))..end];
        let whole = [start..end, 0..0];
        let inside = (start..end).contains(&own);
        cut.extend(if inside { halves } else { whole }.into_iter().filter(|half| !half.is_empty()));
    }
    cut.sort_by_key(|range| range.start);
    let mut apart: Vec<Range<u32>> = Vec::new();
    for range in cut {
        match apart.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

/// What a user is called by `passwd`.
pub(super) fn name_of(uid: u32, passwd: &[u8]) -> Option<String> {
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let mut parts = std::str::from_utf8(line).ok()?.split(':');
        let (name, _password, number_of) = (parts.next()?, parts.next()?, parts.next()?);
        (number(number_of) == Some(uid) && !name.is_empty()).then(|| name.to_owned())
    })
}
