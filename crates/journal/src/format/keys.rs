use moat_core::{RunId, SealingKey, TenantId, TenantKey};
use zeroize::Zeroizing;

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
pub(crate) struct DataKey(SealingKey);

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
        let wrapping = Self(SealingKey::new(&keys.wrapping));
        let wrapped = wrapping.seal(&[], &aad(tenant, scope), key.as_slice())?;
        Ok((Self(SealingKey::new(&key)), wrapped))
    }

    /// Takes the stored form; `None`: another tenant's key, another scope, or destroyed.
    pub(crate) fn unwrap(
        keys: &Keys,
        tenant: &TenantId,
        scope: RunId,
        wrapped: &[u8],
    ) -> Option<Self> {
        let wrapping = Self(SealingKey::new(&keys.wrapping));
        let plain = Zeroizing::new(wrapping.open(&aad(tenant, scope), wrapped)?);
        let key = Zeroizing::new(<[u8; 32]>::try_from(plain.as_slice()).ok()?);
        Some(Self(SealingKey::new(&key)))
    }

    pub(crate) fn seal(
        &self,
        prefix: &[u8],
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, getrandom::Error> {
        self.0.seal(prefix, aad, plain)
    }

    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.open(aad, sealed)
    }
}

fn aad(tenant: &TenantId, scope: RunId) -> Vec<u8> {
    [tenant.as_str().as_bytes(), &[0], scope.as_bytes()].concat()
}
