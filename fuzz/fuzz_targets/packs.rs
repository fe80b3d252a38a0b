//! Any bytes are a pack or an error: its table, its entries, its recipes. The bytes stand behind a
//! table that names them with the store's own key, as whoever may write to the store and has seen
//! packs could not: what is behind the key is tried as well. What is read is what its id says.
#![no_main]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use moat_blobs::{
    BlobStore, Lease, ListedObject, ObjectError, Objects, PackedBlobs, PackedOptions,
};
use moat_core::BlobId;

const KEY: [u8; 32] = [7; 32];
const NAME: &str = "packs/00/00000000000000000000000000000000";
const HEAD: &[u8] = b"moat-pack\x01\0";
const ROW: usize = 32 + 1 + 4 + 4 + 4;
const MOST: u64 = 1 << 20;

/// One pack, and nothing can be written.
struct OnePack(Vec<u8>);

struct Never;

impl Lease for Never {
    fn began(&self) -> u64 {
        0
    }
}

impl OnePack {
    fn part(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        if name != NAME {
            return Err(ObjectError::Missing { place: self.place(), name: name.to_owned() });
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(self.0.len() - start);
        Ok(Bytes::copy_from_slice(&self.0[start..start + length]))
    }
}

#[async_trait]
impl Objects for OnePack {
    fn place(&self) -> String {
        "memory".to_owned()
    }
    fn is_near(&self) -> bool {
        true
    }
    async fn create(&self, _: &str, _: Bytes) -> Result<bool, ObjectError> {
        Err(ObjectError::Full { place: self.place() })
    }
    async fn get(&self, name: &str, _: u64) -> Result<Bytes, ObjectError> {
        self.part(name, 0, u64::MAX)
    }
    async fn read(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        self.part(name, offset, length)
    }
    async fn list(&self, folder: &str) -> Result<Vec<ListedObject>, ObjectError> {
        let pack = ListedObject { name: NAME.to_owned(), size: self.0.len() as u64 };
        Ok(if folder == "packs" { vec![pack] } else { Vec::new() })
    }
    async fn remove(&self, _: &str) -> Result<bool, ObjectError> {
        Ok(false)
    }
    async fn lease(&self) -> Result<Box<dyn Lease>, ObjectError> {
        Ok(Box::new(Never))
    }
    async fn leases(&self) -> Result<Vec<u64>, ObjectError> {
        Ok(Vec::new())
    }
    async fn free_bytes(&self) -> Result<Option<u64>, ObjectError> {
        Ok(None)
    }
}

/// Puts right what only the key's holder could: ids and macs that are zeroes.
fn with_key(mut stored: Vec<u8>, mut table: Vec<u8>) -> (Vec<u8>, Vec<BlobId>) {
    let recipes = blake3::derive_key("moat 2026 recipes v1", &KEY);
    let mut ids = Vec::new();
    for row in table.get_mut(4..).unwrap_or_default().chunks_exact_mut(ROW) {
        let number =
            |at: usize| u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
        let start = (number(33) as usize).checked_sub(HEAD.len());
        let range = start.map(|start| start..start.saturating_add(number(37) as usize));
        if let Some(bytes) = range.and_then(|range| stored.get_mut(range)) {
            if row[..32] == [0; 32] {
                row[..32].copy_from_slice(blake3::keyed_hash(&KEY, bytes).as_bytes());
            }
            if row[32] == 3 && bytes.len() >= 32 && bytes[..32] == [0; 32] {
                let mut mac = blake3::Hasher::new_keyed(&recipes);
                mac.update(&row[..32]).update(&bytes[32..]);
                bytes[..32].copy_from_slice(mac.finalize().as_bytes());
            }
        }
        ids.push(BlobId(std::array::from_fn(|at| row[at])));
    }
    let mut mac = blake3::Hasher::new_keyed(&blake3::derive_key("moat 2026 pack tables v1", &KEY));
    mac.update(&(NAME.len() as u64).to_le_bytes()).update(NAME.as_bytes()).update(&table);
    let length = (table.len() as u32).to_le_bytes();
    let pack = [HEAD, &stored, &table, mac.finalize().as_bytes(), &length].concat();
    (pack, ids)
}

fuzz_target!(|input: (bool, Vec<u8>, Vec<u8>)| {
    let (is_keyed, stored, table) = input;
    let (pack, ids) = match is_keyed {
        true => with_key(stored, table),
        false => ([stored, table].concat(), vec![BlobId([0; 32])]),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let store = PackedBlobs::new(Arc::new(OnePack(pack)), KEY, PackedOptions::default());
        let _ = store.check().await;
        for id in ids.into_iter().take(8) {
            let _ = store.verify(id).await;
            if let Ok(bytes) = store.get(id, MOST).await {
                assert!(bytes.len() as u64 <= MOST);
                assert_eq!(*blake3::keyed_hash(&KEY, &bytes).as_bytes(), id.0);
            }
            if let Ok(bytes) = store.read(id, 3, 100).await {
                assert!(bytes.len() <= 100);
            }
        }
    });
});
