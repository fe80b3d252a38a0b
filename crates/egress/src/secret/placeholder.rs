//! What a sandbox holds instead of a secret.

use std::fmt;

use zeroize::Zeroizing;

/// What every placeholder begins with.
const PREFIX: &str = "moatsecret";
/// Characters after it: 160 bits.
const LENGTH: usize = 32;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The key of a run and of all that was forked or continued from it, of which placeholders are
/// made: the same secret has the same placeholder all along, and nobody can guess another's.
#[derive(Clone)]
pub struct LineageKey(Zeroizing<[u8; 32]>);

impl LineageKey {
    /// Takes a key into custody.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for LineageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LineageKey(redacted)")
    }
}

/// What a sandbox holds instead of a secret: lower-case letters and digits only, so that it looks
/// the same in a header, a query, a form and JSON. It depends on the secret's name, not its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placeholder(String);

impl Placeholder {
    /// The placeholder of a secret in a lineage of runs.
    pub fn derive(key: &LineageKey, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&key.0);
        hasher.update(b"moat 2026 secret placeholder v1");
        hasher.update(name.as_bytes());
        let mut bits = hasher.finalize_xof();
        let mut bytes = [0; LENGTH];
        bits.fill(&mut bytes);
        let character = |byte: &u8| ALPHABET.get(usize::from(byte & 31)).copied().map(char::from);
        Self(PREFIX.chars().chain(bytes.iter().filter_map(character)).collect())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
