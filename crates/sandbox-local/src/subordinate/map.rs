//! Which ids of a slice stand for those inside of one sandbox.
//!
//! A slice is smaller than what numbers there are inside, so that a user's range serves several
//! sandboxes. The small numbers (the system's, and those that are given out) are mapped as they are;
//! behind them the slice has room for the few large ones that somebody really has.

use std::ops::Range;

/// Ids of a slice.
pub(crate) const SLICE: u32 = 2048;
/// Numbers inside that are mapped as they are; the rest of the slice is for larger ones.
const PLAIN: u32 = 1536;
/// Large numbers that are mapped one by one. The kernel takes 340 lines.
const MAX_LARGE: usize = 300;

/// `nobody` and `nogroup` of every system.
const NOBODY: u32 = 65_534;

/// A line of a `uid_map`: so many numbers from `inside` on are those of the host from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
}

/// Who is in a sandbox: whom commands run as, who is the caller himself, and others who may need
/// room, the more important ones first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct People {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) uids: Vec<u32>,
    pub(crate) gids: Vec<u32>,
}

/// The map of a slice that begins at `base`; `own` is the caller: inside, and on the host.
pub(super) fn lines(base: u32, own: (u32, u32), others: &[u32]) -> Vec<Line> {
    let (inside, outside) = own;
    let mut lines = vec![Line { inside, outside, count: 1 }];
    let plain = if inside < PLAIN { [0..inside, inside + 1..PLAIN] } else { [0..PLAIN, 0..0] };
    lines.extend(plain.into_iter().filter(|part| !part.is_empty()).map(|part| Line {
        inside: part.start,
        outside: base + part.start,
        count: part.end - part.start,
    }));
    let mut outside = base + PLAIN;
    let mut large: Vec<u32> = Vec::new();
    for number in [NOBODY].into_iter().chain(others.iter().copied()) {
        if number >= PLAIN && number != inside && !large.contains(&number) {
            if large.len() == MAX_LARGE {
                break;
            }
            large.push(number);
            lines.push(Line { inside: number, outside, count: 1 });
            outside += 1;
        }
    }
    lines
}

/// All of the ranges one behind the other from 1 on; the caller is 0.
pub(super) fn all(own: u32, ranges: &[Range<u32>]) -> Vec<Line> {
    let mut lines = vec![Line { inside: 0, outside: own, count: 1 }];
    let mut inside: u32 = 1;
    for range in ranges {
        // Together they are fewer than all numbers that there are.
        let count = (range.end - range.start).min(u32::MAX - 1 - inside);
        if count > 0 {
            lines.push(Line { inside, outside: range.start, count });
            inside += count;
        }
    }
    lines
}

/// Whether somebody inside is anybody.
pub(crate) fn has(lines: &[Line], number: u32) -> bool {
    lines.iter().any(|line| number >= line.inside && number - line.inside < line.count)
}
