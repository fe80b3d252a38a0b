//! Output that was read from a process and is not yet acknowledged.

use std::collections::VecDeque;

use moat_guest::OutputStream;

/// What a change between the streams costs beside its bytes, so that a process that alternates
/// between them byte by byte cannot make the list of changes grow past the limit.
const SWITCH_COST: usize = 32;

/// A bounded queue of bytes with offsets that count from the start of the process.
pub(crate) struct Spool {
    bytes: VecDeque<u8>,
    /// Where each run of bytes of one stream begins. The first is at or before the first byte.
    runs: VecDeque<(u64, OutputStream)>,
    start: u64,
    limit: usize,
}

impl Spool {
    pub(crate) fn new(limit: usize) -> Self {
        Self { bytes: VecDeque::new(), runs: VecDeque::new(), start: 0, limit }
    }

    /// Bytes that came before the first that is kept.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Bytes of all output so far.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Bytes that may be pushed now.
    pub(crate) fn space(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len() + (self.runs.len() + 1) * SWITCH_COST)
    }

    pub(crate) fn push(&mut self, stream: OutputStream, bytes: &[u8]) {
        if self.runs.back().is_none_or(|(_, last)| *last != stream) {
            self.runs.push_back((self.end(), stream));
        }
        self.bytes.extend(bytes);
    }

    /// Appends up to `limit` bytes of one stream from `offset` on to `out`. Gives the stream and
    /// how many there were; `None` if there is nothing.
    pub(crate) fn read(
        &self,
        offset: u64,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Option<(OutputStream, usize)> {
        let skip = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let after = self.runs.partition_point(|(start, _)| *start <= offset);
        let (_, stream) = self.runs.get(after.checked_sub(1)?)?;
        let run_end = self.runs.get(after).map_or(self.end(), |(start, _)| *start);
        let length = usize::try_from(run_end.checked_sub(offset)?).ok()?.min(limit);
        if length == 0 {
            return None;
        }
        let (front, back) = self.bytes.as_slices();
        let from_front = front.get(skip..).unwrap_or_default();
        let from_front = from_front.get(..length).unwrap_or(from_front);
        out.extend_from_slice(from_front);
        let skip_back = skip.saturating_sub(front.len());
        let rest = length - from_front.len();
        out.extend_from_slice(back.get(skip_back..skip_back + rest)?);
        Some((*stream, length))
    }

    /// Forgets bytes before `offset`.
    pub(crate) fn drop_before(&mut self, offset: u64) {
        let count = offset.saturating_sub(self.start).min(self.bytes.len() as u64);
        let Ok(length) = usize::try_from(count) else { return };
        self.bytes.drain(..length);
        self.start += count;
        let after = self.runs.partition_point(|(start, _)| *start <= self.start);
        self.runs.drain(..after.saturating_sub(1));
        if self.bytes.is_empty() {
            // What a burst needed is not held on to by every process that is kept.
            self.bytes = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutputStream::{Stderr, Stdout};

    fn read(spool: &Spool, offset: u64, limit: usize) -> Option<(OutputStream, Vec<u8>)> {
        let mut out = Vec::new();
        spool.read(offset, limit, &mut out).map(|(stream, _)| (stream, out))
    }

    #[test]
    fn streams_keep_their_order_and_their_offsets() {
        let mut spool = Spool::new(1000);
        spool.push(Stdout, b"ab");
        spool.push(Stdout, b"c");
        spool.push(Stderr, b"de");
        assert_eq!(read(&spool, 0, 100), Some((Stdout, b"abc".to_vec())));
        assert_eq!(read(&spool, 1, 1), Some((Stdout, b"b".to_vec())));
        assert_eq!(read(&spool, 3, 100), Some((Stderr, b"de".to_vec())));
        assert_eq!(read(&spool, 5, 100), None);
        spool.drop_before(4);
        assert_eq!((spool.start(), spool.end()), (4, 5));
        assert_eq!(read(&spool, 3, 100), None);
        assert_eq!(read(&spool, 4, 100), Some((Stderr, b"e".to_vec())));
        spool.push(Stderr, b"f");
        assert_eq!(read(&spool, 4, 100), Some((Stderr, b"ef".to_vec())));
        spool.drop_before(6);
        spool.push(Stdout, b"g");
        assert_eq!(read(&spool, 6, 100), Some((Stdout, b"g".to_vec())));
    }

    #[test]
    fn alternating_streams_use_the_limit_up() {
        let mut spool = Spool::new(330);
        let mut pushed = 0;
        while spool.space() > 0 {
            spool.push(if pushed % 2 == 0 { Stdout } else { Stderr }, b"x");
            pushed += 1;
        }
        assert_eq!(pushed, 10);
    }
}
