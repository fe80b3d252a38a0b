use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};

/// Bytes of the random number in front of what was sealed.
const NONCE: usize = 24;
/// Bytes of the proof behind it.
const TAG: usize = 16;

/// Seals bytes for storage: XChaCha20-Poly1305 with a random nonce.
pub struct SealingKey(XChaCha20Poly1305);

impl SealingKey {
    /// Bytes that sealing adds.
    pub const OVERHEAD: usize = NONCE + TAG;

    /// Takes a key into custody.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(&(*key).into()))
    }

    /// `prefix nonce sealed tag`, in one allocation. `aad` is what the bytes are bound to.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn seal(
        &self,
        prefix: &[u8],
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, getrandom::Error> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce)?;
        let mut sealed = Vec::with_capacity(prefix.len() + Self::OVERHEAD + plain.len());
        sealed.extend_from_slice(prefix);
        sealed.extend_from_slice(&nonce);
        let start = sealed.len();
        sealed.extend_from_slice(plain);
        let text = sealed.get_mut(start..).unwrap_or_default();
        // Fails beyond 256 GiB only, and what is sealed is bounded far below that.
        let tag = self.0.encrypt_inout_detached(&XNonce::from(nonce), aad, text.into());
        sealed.extend_from_slice(&tag.map_err(|_| getrandom::Error::UNEXPECTED)?);
        Ok(sealed)
    }

    /// Reads `nonce sealed tag`; `None`: it was not sealed under this key with this `aad`.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
        let (text, tag) = rest.split_last_chunk::<TAG>()?;
        let mut plain = text.to_vec();
        let opened = self.0.decrypt_inout_detached(
            &XNonce::from(*nonce),
            aad,
            plain.as_mut_slice().into(),
            &Tag::from(*tag),
        );
        opened.ok().map(|()| plain)
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(redacted)")
    }
}
