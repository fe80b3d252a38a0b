//! Stretches of time.

/// A stretch of time in whole seconds: `start` is in it, `end` is the first second after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first second.
    pub start: u64,
    /// The first second after it.
    pub end: u64,
}

impl Span {
    /// The shortest span that holds all of the given moments; none for no moments.
    pub fn covering(moments: impl IntoIterator<Item = u64>) -> Option<Self> {
        moments.into_iter().fold(None, |span: Option<Self>, at| {
            let span = span.unwrap_or(Self { start: at, end: at + 1 });
            Some(Self { start: span.start.min(at), end: span.end.max(at + 1) })
        })
    }

    /// Whether a moment lies in it.
    pub fn contains(self, at: u64) -> bool {
        self.start <= at && at < self.end
    }

    /// How many seconds it has.
    pub fn seconds(self) -> u64 {
        self.end - self.start + 1
    }

    /// How often something happens in it, per second.
    pub fn rate(self, count: usize) -> f64 {
        count as f64 / self.seconds() as f64
    }
}
