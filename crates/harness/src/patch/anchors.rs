use std::collections::HashMap;

use super::find::trim;
use super::hunk::Hunk;

/// Where the lines stand that hunks name in their headers.
pub(super) struct Anchors<'d> {
    exact: HashMap<&'d str, Vec<usize>>,
    trimmed: HashMap<&'d str, Vec<usize>>,
}

impl<'d> Anchors<'d> {
    /// One pass over the file for all hunks.
    pub(super) fn index<'h>(lines: &[&str], hunks: impl Iterator<Item = &'h Hunk<'d>>) -> Self
    where
        'd: 'h,
    {
        let mut index = Self { exact: HashMap::new(), trimmed: HashMap::new() };
        for anchor in hunks.flat_map(|hunk| &hunk.anchors) {
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
            let Some(places) = index.trimmed.get_mut(trimmed) else { continue };
            places.push(number);
            if let Some(places) = index.exact.get_mut(*line) {
                places.push(number);
            }
        }
        index
    }

    /// Moves the cursor behind the lines that the hunk's headers name. A first header whose line
    /// was passed before does not move it. A single header that is nowhere is only advice; of several,
    /// the first that is nowhere is the error.
    pub(super) fn advance(&self, hunk: &Hunk<'d>, cursor: usize) -> Result<usize, &'d str> {
        let mut at = cursor;
        for (index, anchor) in hunk.anchors.iter().enumerate() {
            match self.find(anchor, index == 0, at) {
                Some(next) => at = next,
                None if hunk.headers > 1 => return Err(anchor),
                None => {}
            }
        }
        Ok(at)
    }

    /// Behind the line that a header names, from `at` on; `at` itself if it was passed before and
    /// the header is the outermost.
    fn find(&self, anchor: &str, is_first: bool, at: usize) -> Option<usize> {
        let lists = [self.exact.get(anchor), self.trimmed.get(trim(anchor))];
        lists.into_iter().flatten().find_map(|places| {
            if is_first && places.first().is_some_and(|first| *first < at) {
                return Some(at);
            }
            places.get(places.partition_point(|place| *place < at)).map(|place| place + 1)
        })
    }
}
