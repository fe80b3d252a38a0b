//! Which keys of an SSH agent are meant.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// A key, by the fingerprint that `ssh-add -l` prints: `SHA256:` and 43 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SshKey([u8; 32]);

impl SshKey {
    /// The key of a public key's blob, as the agent lists it.
    pub fn of_blob(blob: &[u8]) -> Self {
        let mut fingerprint = [0; 32];
        let digest = ring::digest::digest(&ring::digest::SHA256, blob);
        fingerprint.copy_from_slice(digest.as_ref());
        Self(fingerprint)
    }
}

impl fmt::Display for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", STANDARD_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is `SHA256:` and 43 characters, as `ssh-add -l` prints it")]
pub struct SshKeyError;

impl FromStr for SshKey {
    type Err = SshKeyError;

    fn from_str(text: &str) -> Result<Self, SshKeyError> {
        let encoded = text.trim().strip_prefix("SHA256:").ok_or(SshKeyError)?;
        let bytes = STANDARD_NO_PAD.decode(encoded).map_err(|_| SshKeyError)?;
        bytes.try_into().map(Self).map_err(|_| SshKeyError)
    }
}
