//! Many texts looked for in a stream at once, across the borders of its pieces.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use zeroize::Zeroizing;

use super::SecretProblem;

/// What is done where a text is found.
#[derive(Clone)]
pub(super) enum Action {
    /// Another text takes its place, and the secret of that number has been put in or taken out.
    Replace(Zeroizing<Vec<u8>>, usize),
    /// The stream ends.
    Stop(SecretProblem),
}

/// Texts to look for, and what to do about each. Of those that begin at one place, the longest.
/// Holds forms of values for as long as it lives, and the automaton's own copies of them are not
/// overwritten at its end; it is never shown.
pub(super) struct Texts {
    automaton: AhoCorasick,
    entries: Vec<(Zeroizing<Vec<u8>>, Action)>,
    longest: usize,
}

impl Texts {
    /// `None`: there is nothing to look for, or too much of it.
    pub(super) fn new(entries: Vec<(Zeroizing<Vec<u8>>, Action)>) -> Option<Self> {
        let entries: Vec<_> = entries.into_iter().filter(|(text, _)| !text.is_empty()).collect();
        let longest = entries.iter().map(|(text, _)| text.len()).max()?;
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            // A table of all transitions would be megabytes for each host.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(entries.iter().map(|(text, _)| text.as_slice()))
            .ok()?;
        Some(Self { automaton, entries, longest })
    }

    /// The first byte from `from` on at which a text may have begun that has not ended yet.
    fn begun(&self, bytes: &[u8], from: usize) -> usize {
        let earliest = bytes.len().saturating_sub(self.longest - 1).max(from);
        let may_begin = |at: &usize| {
            let rest = bytes.get(*at..).unwrap_or_default();
            self.entries.iter().any(|(text, _)| text.len() > rest.len() && text.starts_with(rest))
        };
        (earliest..bytes.len()).find(may_begin).unwrap_or(bytes.len())
    }
}

/// One stream in which texts are looked for. Holds back only what may be the beginning of one.
#[derive(Clone)]
pub(super) struct Rewriter {
    texts: Option<Arc<Texts>>,
    held: Zeroizing<Vec<u8>>,
    /// Numbers of the secrets that were put in or taken out.
    pub(super) used: Vec<usize>,
}

impl Rewriter {
    pub(super) fn new(texts: Option<Arc<Texts>>) -> Self {
        Self { texts, held: Zeroizing::default(), used: Vec::new() }
    }

    /// Whether there is anything to look for.
    pub(super) fn has_texts(&self) -> bool {
        self.texts.is_some()
    }

    /// Takes a piece, gives what is certain.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, SecretProblem> {
        self.run(piece, false)
    }

    /// Gives the rest.
    pub(super) fn finish(&mut self) -> Result<Vec<u8>, SecretProblem> {
        self.run(&[], true)
    }

    fn run(&mut self, piece: &[u8], is_end: bool) -> Result<Vec<u8>, SecretProblem> {
        let Some(texts) = self.texts.clone() else { return Ok(piece.to_vec()) };
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(piece);
        let mut out = Vec::with_capacity(bytes.len());
        let mut done = 0;
        let begun = |from: usize| if is_end { bytes.len() } else { texts.begun(&bytes, from) };
        let mut certain = begun(0);
        // What begins before the first unfinished text cannot become longer any more.
        while let Some(found) =
            texts.automaton.find(aho_corasick::Input::new(&*bytes).range(done..))
        {
            if found.start() >= certain {
                break;
            }
            out.extend_from_slice(bytes.get(done..found.start()).unwrap_or_default());
            match texts.entries.get(found.pattern().as_usize()) {
                Some((_, Action::Replace(other, secret))) => {
                    out.extend_from_slice(other);
                    if !self.used.contains(secret) {
                        self.used.push(*secret);
                    }
                }
                Some((_, Action::Stop(problem))) => return Err(problem.clone()),
                None => {}
            }
            done = found.end();
            if done > certain {
                certain = begun(done);
            }
        }
        out.extend_from_slice(bytes.get(done..certain.max(done)).unwrap_or_default());
        self.held.extend_from_slice(bytes.get(certain.max(done)..).unwrap_or_default());
        Ok(out)
    }
}
