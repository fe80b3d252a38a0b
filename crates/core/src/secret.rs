use std::fmt;

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
