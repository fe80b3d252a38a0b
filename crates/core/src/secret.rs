use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use zeroize::Zeroize;

/// A value that must never be shown, logged or stored: an API key, a data key, a password.
///
/// `Debug` prints a fixed text, there is no `Display` and no `Serialize`, and the bytes are
/// overwritten when the value is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a value into custody.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself. Every call of this is a place to review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Values that are replaced wherever they come in. Copies share one set, which only grows: a key
/// that was rotated away is still a key that must not be shown.
#[derive(Clone, Default)]
pub struct KnownSecrets(Arc<RwLock<Vec<Secret>>>);

/// Shorter values are not looked for: they would be found by chance.
const SHORTEST_KNOWN: usize = 8;
/// More values than any program uses; the oldest stay known.
const MOST_KNOWN: usize = 1024;

impl KnownSecrets {
    /// Adds a value, unless it is known or too short to be looked for (under 8 bytes).
    pub fn add(&self, secret: Secret) {
        if secret.expose().len() < SHORTEST_KNOWN || self.each().contains(&secret) {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOST_KNOWN && !known.contains(&secret) {
            known.push(secret);
        }
    }

    /// All of them, for the moment of a look.
    pub fn each(&self) -> impl std::ops::Deref<Target = Vec<Secret>> + '_ {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FromIterator<Secret> for KnownSecrets {
    fn from_iter<T: IntoIterator<Item = Secret>>(secrets: T) -> Self {
        let known = Self::default();
        secrets.into_iter().for_each(|secret| known.add(secret));
        known
    }
}

impl fmt::Debug for KnownSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KnownSecrets({} redacted)", self.each().len())
    }
}

/// A tenant's master key, from which every other key is derived. It lives outside the data folder.
#[derive(Clone)]
pub struct TenantKey(zeroize::Zeroizing<[u8; 32]>);

impl TenantKey {
    /// Takes a key into custody.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(zeroize::Zeroizing::new(bytes))
    }

    /// The key for one purpose. `purpose` is a constant that names project, purpose and version,
    /// such as `moat 2026 blob ids v1`.
    pub fn derive(&self, purpose: &str) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(blake3::derive_key(purpose, self.0.as_slice()))
    }
}

impl fmt::Debug for TenantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TenantKey(redacted)")
    }
}
