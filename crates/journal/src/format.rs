//! The stored format of an event, the same in every store. Final: later versions only add.
//!
//! ```text
//! header     JSON of `EventHeader`; these bytes are hashed and never serialised again
//! body       01 nonce[24] sealed[…] tag[16]   sealed under the scope's data key, header as AAD
//!            02 blob id[32] size[8, LE]       the form above is in the blob store
//!            03 mac[32] plain[…]              readable for ever: the tombstone of an erasure
//!            00 00 …                          destroyed by an erasure
//! body hash  BLAKE3(body as stored)
//! chain      BLAKE3-derive("moat 2026 journal chain v1")(chain before ‖ header ‖ body hash);
//!            before the first event: the same function of (tenant ‖ 00 ‖ run)
//! ```
//!
//! Because a sealed body authenticates its header, nobody without the tenant's key can forge an
//! event, not even one that no anchor covers and whose chain was computed afresh.

mod body;
mod keys;

use moat_core::{Hash, RunId, TenantId};

pub(crate) use body::{Body, Stored, seal_mark, seal_small, unseal};
pub(crate) use keys::{DataKey, Keys};

const CHAIN: &str = "moat 2026 journal chain v1";

/// The link before a run's first event.
pub(crate) fn genesis(tenant: &TenantId, run: RunId) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key(CHAIN);
    hasher.update(tenant.as_str().as_bytes()).update(&[0]).update(run.as_bytes());
    Hash(*hasher.finalize().as_bytes())
}

/// The link of an event.
pub(crate) fn link(before: Hash, header: &[u8], body_hash: Hash) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key(CHAIN);
    hasher.update(&before.0).update(header).update(&body_hash.0);
    Hash(*hasher.finalize().as_bytes())
}
