/// Turns bytes that arrive in pieces into text. Each maximal part that is not UTF-8 becomes
/// U+FFFD; a code point that is split between two pieces stays whole.
#[derive(Clone, Debug, Default)]
pub struct LossyDecoder {
    /// The beginning of a code point whose end has not come; at most three bytes.
    pending: Vec<u8>,
}

impl LossyDecoder {
    /// A decoder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and hands their text, in pieces, to `sink`.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(&str)) {
        if self.pending.is_empty() {
            return self.decode(bytes, &mut sink);
        }
        let mut joined = std::mem::take(&mut self.pending);
        joined.extend_from_slice(bytes);
        self.decode(&joined, &mut sink);
    }

    /// Nothing more comes: what is left of an unfinished code point becomes U+FFFD.
    pub fn finish(&mut self, mut sink: impl FnMut(&str)) {
        if !std::mem::take(&mut self.pending).is_empty() {
            sink("\u{FFFD}");
        }
    }

    /// Bytes that were taken and whose text has not been handed out, because their code point is
    /// not complete.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    fn decode(&mut self, bytes: &[u8], sink: &mut impl FnMut(&str)) {
        let mut rest = bytes.len();
        for chunk in bytes.utf8_chunks() {
            if !chunk.valid().is_empty() {
                sink(chunk.valid());
            }
            rest -= chunk.valid().len() + chunk.invalid().len();
            match chunk.invalid() {
                [] => {}
                unfinished if rest == 0 && is_unfinished(unfinished) => {
                    self.pending = unfinished.to_vec();
                }
                _ => sink("\u{FFFD}"),
            }
        }
    }
}

fn is_unfinished(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
