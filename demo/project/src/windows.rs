//! Tiles a stretch of time with windows.

use crate::span::Span;

/// The windows of `width` seconds that hold every second of `whole`, oldest first.
///
/// Windows begin at multiples of their width, so that the reports of two days have the same
/// windows; the first and the last one may therefore reach beyond `whole`.
pub fn tile(whole: Span, width: u64) -> Vec<Span> {
    let width = width.max(1);
    let mut windows = Vec::new();
    let mut start = whole.start - whole.start % width;
    while start < whole.end {
        windows.push(Span { start, end: start + width - 1 });
        start += width;
    }
    windows
}
