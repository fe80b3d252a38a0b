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
    /// Bytes that there may ever be.
    cap: Option<u64>,
    /// Bytes that were too many.
    excess: u64,
}

impl Spool {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            runs: VecDeque::new(),
            start: 0,
            limit,
            cap: None,
            excess: 0,
        }
    }

    /// Takes no more than so many bytes in all.
    pub(crate) fn with_cap(self, cap: Option<u64>) -> Self {
        Self { cap, ..self }
    }

    /// If there were more bytes than there may be: how many may be, and were.
    pub(crate) fn exceeded(&self) -> Option<(u64, u64)> {
        let cap = self.cap.filter(|_| self.excess > 0)?;
        Some((cap, cap.saturating_add(self.excess)))
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
        let room = self.cap.map_or(u64::MAX, |cap| cap.saturating_sub(self.end()));
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let (bytes, excess) = bytes.split_at_checked(fits).unwrap_or((bytes, &[]));
        self.excess = self.excess.saturating_add(excess.len() as u64);
        if bytes.is_empty() {
            return;
        }
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
    fn what_is_too_much_is_counted_and_not_kept() {
        let mut spool = Spool::new(1000).with_cap(Some(5));
        spool.push(Stdout, b"abc");
        spool.drop_before(3);
        spool.push(Stderr, b"de");
        assert_eq!(spool.exceeded(), None);
        spool.push(Stderr, b"fgh");
        assert_eq!(spool.exceeded(), Some((5, 8)));
        assert_eq!((read(&spool, 3, 100), spool.end()), (Some((Stderr, b"de".to_vec())), 5));
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
