//! Known secret values become placeholders where bytes enter the harness: before anything is
//! shown to the model, written down or appended, so that there is one text everywhere.

use moat_core::{Epoch, EventBody, EventHeader, KnownSecrets, RunId, Seq, TenantId};

/// Replaces known secrets in bytes that come in pieces.
///
/// A placeholder is as long as its secret, so that offsets into an output stay what the guest says.
pub(crate) struct Redactor {
    known: KnownSecrets,
}

const PLACEHOLDER: &[u8] = b"[redacted]";

impl Redactor {
    pub(crate) fn new(known: KnownSecrets) -> Self {
        Self { known }
    }

    /// Redacts `carry` followed by `bytes`. What may be the beginning of a secret stays in `carry`
    /// for the next piece, unless this is the last one.
    pub(crate) fn push(&self, carry: &mut Vec<u8>, bytes: Vec<u8>, last: bool) -> Vec<u8> {
        let known = self.known.each();
        // What was held back while there were secrets is not lost when there are none.
        if known.is_empty() && carry.is_empty() {
            return bytes;
        }
        let mut text = std::mem::take(carry);
        text.extend(bytes);
        for secret in known.iter() {
            mask(&mut text, secret.expose().as_bytes());
        }
        if !last {
            let held = known.iter().map(|s| overlap(&text, s.expose().as_bytes())).max();
            *carry = text.split_off(text.len() - held.unwrap_or(0));
        }
        text
    }

    /// Redacts a whole text.
    pub(crate) fn redact(&self, text: String) -> String {
        let mut text = text;
        for secret in self.known.each().iter() {
            if text.contains(secret.expose()) {
                text = text.replace(secret.expose(), "[redacted]");
            }
        }
        text
    }
}

impl Redactor {
    /// Redacts everything that an event says.
    pub(crate) fn redact_event(&self, body: EventBody) -> EventBody {
        let Ok(text) = body.encode().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        else {
            return body;
        };
        if !self.known.each().iter().any(|secret| text.contains(secret.expose())) {
            return body;
        }
        let text = self.redact(text);
        let header = EventHeader {
            tenant: TenantId::local(),
            run: RunId::from_bytes([0; 16]),
            seq: Seq(0),
            epoch: Epoch(0),
            at: 0,
            actor: String::new(),
            kind: body.kind().to_owned(),
            version: body.version(),
            must_understand: body.must_understand(),
        };
        EventBody::decode(&header, text.as_bytes()).unwrap_or(body)
    }
}

fn mask(text: &mut [u8], secret: &[u8]) {
    let Some(first) = secret.first() else { return };
    let mut from = 0;
    while let Some(rest) = text.get_mut(from..) {
        let Some(at) = rest.iter().position(|byte| byte == first) else { return };
        match rest.get_mut(at..at + secret.len()) {
            Some(found) if found == secret => {
                let placeholder = PLACEHOLDER.iter().copied().chain(std::iter::repeat(b'*'));
                found.iter_mut().zip(placeholder).for_each(|(byte, mark)| *byte = mark);
                from += at + secret.len();
            }
            Some(_) => from += at + 1,
            None => return,
        }
    }
}

/// The longest end of `text` that is a beginning of `secret`, and not all of it.
fn overlap(text: &[u8], secret: &[u8]) -> usize {
    let longest = secret.len().saturating_sub(1).min(text.len());
    (1..=longest)
        .rev()
        .find(|length| text.ends_with(secret.get(..*length).unwrap_or_default()))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use moat_core::Secret;

    use super::*;

    #[test]
    fn a_secret_is_found_however_the_output_is_cut() {
        let redactor = Redactor::new(KnownSecrets::from_iter([Secret::new("sk-planted-12345")]));
        let text = b"key=sk-planted-12345; again sk-planted-12345 and sk-plante".to_vec();
        for size in 1..text.len() {
            let (mut carry, mut out) = (Vec::new(), Vec::new());
            let pieces: Vec<_> = text.chunks(size).collect();
            for (at, piece) in pieces.iter().enumerate() {
                let last = at + 1 == pieces.len();
                out.extend(redactor.push(&mut carry, piece.to_vec(), last));
            }
            assert_eq!(out.len(), text.len());
            let out = String::from_utf8(out).unwrap();
            assert!(!out.contains("sk-planted"), "{out}");
            assert_eq!(out.matches("[redacted]").count(), 2);
            assert!(out.ends_with("sk-plante"));
        }
    }
}
