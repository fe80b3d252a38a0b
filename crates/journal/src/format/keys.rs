use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use moat_core::{RunId, TenantId, TenantKey};
use zeroize::Zeroizing;

pub(super) const NONCE: usize = 24;
pub(super) const TAG: usize = 16;

/// The keys that a journal derives from the tenant's.
pub(crate) struct Keys {
    wrapping: Zeroizing<[u8; 32]>,
    anchors: Zeroizing<[u8; 32]>,
    marks: Zeroizing<[u8; 32]>,
}

impl Keys {
    pub(crate) fn new(tenant: &TenantKey) -> Self {
        Self {
            wrapping: tenant.derive("moat 2026 journal data keys v1"),
            anchors: tenant.derive("moat 2026 journal anchors v1"),
            marks: tenant.derive("moat 2026 journal tombstones v1"),
        }
    }

    /// Authenticates an anchor's bytes.
    pub(crate) fn anchor_mac(&self, bytes: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.anchors, bytes)
    }

    /// Authenticates a body that stays readable, together with its header.
    pub(super) fn mark_mac(&self, header: &[u8], plain: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.marks);
        hasher.update(&(header.len() as u64).to_le_bytes()).update(header).update(plain);
        hasher.finalize()
    }
}

/// The random key of one erasure scope. Destroying its only copy destroys everything under it.
pub(crate) struct DataKey(XChaCha20Poly1305);

impl DataKey {
    /// A fresh key, and the form of it that is stored: under the tenant's key, and good for this
    /// scope only.
    pub(crate) fn generate(
        keys: &Keys,
        tenant: &TenantId,
        scope: RunId,
    ) -> Result<(Self, Vec<u8>), getrandom::Error> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice())?;
        let wrapping = Self(XChaCha20Poly1305::new(&(*keys.wrapping).into()));
        let wrapped = wrapping.seal(&[], &aad(tenant, scope), key.as_slice())?;
        Ok((Self(XChaCha20Poly1305::new(&(*key).into())), wrapped))
    }

    /// Takes the stored form; `None`: another tenant's key, another scope, or destroyed.
    pub(crate) fn unwrap(
        keys: &Keys,
        tenant: &TenantId,
        scope: RunId,
        wrapped: &[u8],
    ) -> Option<Self> {
        let wrapping = Self(XChaCha20Poly1305::new(&(*keys.wrapping).into()));
        let plain = Zeroizing::new(wrapping.open(&aad(tenant, scope), wrapped)?);
        let key = Zeroizing::new(<[u8; 32]>::try_from(plain.as_slice()).ok()?);
        Some(Self(XChaCha20Poly1305::new(&(*key).into())))
    }

    /// `prefix nonce sealed tag`, in one allocation.
    pub(crate) fn seal(
        &self,
        prefix: &[u8],
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, getrandom::Error> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce)?;
        let mut sealed = Vec::with_capacity(prefix.len() + NONCE + plain.len() + TAG);
        sealed.extend_from_slice(prefix);
        sealed.extend_from_slice(&nonce);
        let start = sealed.len();
        sealed.extend_from_slice(plain);
        let text = sealed.get_mut(start..).unwrap_or_default();
        // Fails beyond 256 GiB only, and bodies are bounded far below that.
        let tag = self.0.encrypt_inout_detached(&XNonce::from(nonce), aad, text.into());
        sealed.extend_from_slice(&tag.map_err(|_| getrandom::Error::UNEXPECTED)?);
        Ok(sealed)
    }

    /// Reads `nonce sealed tag`; `None`: it was not sealed under this key with this `aad`.
    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
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

fn aad(tenant: &TenantId, scope: RunId) -> Vec<u8> {
    [tenant.as_str().as_bytes(), &[0], scope.as_bytes()].concat()
}
