use moat_core::{BlobId, Hash};

use super::keys::{DataKey, Keys};

const SEALED: u8 = 1;
const IN_BLOB: u8 = 2;
const MARK: u8 = 3;

/// A body as it is stored in a row, and its hash.
pub(crate) struct Stored {
    pub(crate) bytes: Vec<u8>,
    pub(crate) hash: Hash,
}

impl Stored {
    fn new(bytes: Vec<u8>) -> Self {
        Self { hash: Hash::of(&bytes), bytes }
    }

    /// The form that says where a large body is.
    pub(crate) fn in_blob(id: BlobId, size: u64) -> Self {
        let mut bytes = vec![IN_BLOB];
        bytes.extend_from_slice(&id.0);
        bytes.extend_from_slice(&size.to_le_bytes());
        Self::new(bytes)
    }
}

/// Seals a body. What is large goes into the blob store instead of the row.
pub(crate) fn seal_small(
    key: &DataKey,
    header: &[u8],
    plain: &[u8],
) -> Result<Stored, getrandom::Error> {
    key.seal(&[SEALED], header, plain).map(Stored::new)
}

/// A body that stays readable and is authenticated all the same.
pub(crate) fn seal_mark(keys: &Keys, header: &[u8], plain: &[u8]) -> Stored {
    let mut bytes = vec![MARK];
    bytes.extend_from_slice(keys.mark_mac(header, plain).as_bytes());
    bytes.extend_from_slice(plain);
    Stored::new(bytes)
}

/// What a stored body holds.
pub(crate) enum Body {
    /// The bytes that were appended.
    Plain(Vec<u8>),
    /// The sealed form is in the blob store.
    InBlob(BlobId),
    /// It is not what the key holder wrote for this header.
    Forged,
}

/// Opens a stored body. Without a data key only what stays readable opens.
pub(crate) fn unseal(keys: &Keys, key: Option<&DataKey>, header: &[u8], stored: &[u8]) -> Body {
    let opened = match stored.split_first() {
        Some((&SEALED, sealed)) => key.and_then(|key| key.open(header, sealed)).map(Body::Plain),
        Some((&IN_BLOB, place)) => place_in_blob(place),
        Some((&MARK, rest)) => rest.split_first_chunk::<32>().and_then(|(mac, plain)| {
            let is_ours = keys.mark_mac(header, plain) == blake3::Hash::from_bytes(*mac);
            is_ours.then(|| Body::Plain(plain.to_vec()))
        }),
        _ => None,
    };
    opened.unwrap_or(Body::Forged)
}

fn place_in_blob(place: &[u8]) -> Option<Body> {
    let (id, size) = place.split_first_chunk::<32>()?;
    (size.len() == 8).then_some(Body::InBlob(BlobId(*id)))
}
