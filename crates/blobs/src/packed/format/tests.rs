use super::*;
use crate::packed::recipe::{Part, Recipe};

fn head(sealed: bool) -> Vec<u8> {
    let mut pack = Vec::new();
    begin(&mut pack, sealed);
    pack
}

fn keys(sealed: bool) -> Keys {
    Keys::new([7; 32], sealed.then(|| SealingKey::new(&[8; 32])))
}

/// A pack with one of everything. Its bytes are the format: if this changes, nothing that was ever
/// stored can be read any more.
fn sample(keys: &Keys) -> (Vec<u8>, Vec<Row>) {
    let mut pack = head(keys.sealing.is_some());
    let mut rows = Vec::new();
    let chunk = keys.id_of(b"short");
    let other = keys.id_of(b"another");
    let parts = vec![Part { chunk: Some(chunk), size: 5 }, Part { chunk: Some(other), size: 7 }];
    let whole = BlobId([5; 32]);
    let recipe = Recipe { parts }.encode(keys, whole);
    for (id, is_recipe, raw) in [
        (chunk, false, &b"short"[..]),
        (keys.id_of(&[1; 5000]), false, &[1; 5000]),
        (whole, true, &recipe),
    ] {
        let (kind, stored) = encode_entry(keys, id, is_recipe, raw).unwrap();
        let (offset, length) = (pack.len() as u32, stored.len() as u32);
        rows.push(Row { id, kind, offset, stored: length, raw: raw.len() as u32 });
        pack.extend(stored);
    }
    finish(keys, "packs/a", &mut pack, &rows).unwrap();
    (pack, rows)
}

fn read(keys: &Keys, name: &str, pack: &[u8]) -> Result<Vec<Row>, FormatError> {
    let length = table_length(pack)?;
    let tail = pack.get(pack.len().saturating_sub(length)..).unwrap_or_default();
    read_table(keys, name, pack.len() as u64, tail)
}

#[test]
fn the_format_is_fixed() {
    let keys = keys(false);
    let kinds = sample(&keys).1.iter().map(|row| row.kind.byte()).collect::<Vec<_>>();
    assert_eq!(kinds, [1, 2, 3]);
    // Without what the library compressed: that may change, as long as it can be read.
    let mut pack = head(false);
    let id = keys.id_of(b"short");
    let recipe = Recipe {
        parts: vec![Part { chunk: Some(id), size: 5 }, Part { chunk: None, size: 1 << 40 }],
    };
    let stored = recipe.encode(&keys, BlobId([5; 32]));
    let kind = Kind { recipe: true, compressed: false };
    let (offset, raw) = (pack.len() as u32, stored.len() as u32);
    pack.extend(&stored);
    let row = Row { id: BlobId([5; 32]), kind, offset, stored: raw, raw };
    finish(&keys, "packs/a", &mut pack, &[row]).unwrap();
    assert_eq!(blake3::hash(&pack).to_hex().as_str(), FIXTURE, "the stored format changed");
}

const FIXTURE: &str = "e2f652c8ce544c23013a19ef3842aa4334d15f0835699b4a10b3e4972cbcfe3d";

#[test]
fn reads_back_what_it_wrote_and_nothing_else() {
    for sealed in [false, true] {
        let keys = keys(sealed);
        let (pack, rows) = sample(&keys);
        check_head(&keys, &pack).unwrap();
        assert_eq!(read(&keys, "packs/a", &pack).unwrap(), rows);
        assert!(read(&keys, "packs/b", &pack).is_err(), "the table of another pack");
        let other = Keys::new([9; 32], sealed.then(|| SealingKey::new(&[8; 32])));
        assert!(read(&other, "packs/a", &pack).is_err(), "another tenant's");
        for row in &rows {
            let stored = &pack[row.offset as usize..][..row.stored as usize];
            let raw = decode_entry(&keys, row, stored).unwrap();
            assert_eq!(raw.len(), row.raw as usize);
            if row.kind.recipe {
                let recipe = Recipe::decode(&keys, row.id, &raw).unwrap();
                assert_eq!(recipe.size(), 12);
                assert!(Recipe::decode(&keys, BlobId([6; 32]), &raw).is_none());
            }
        }
        for length in 0..pack.len() {
            assert!(read(&keys, "packs/a", &pack[..length]).is_err(), "cut at {length}");
        }
        let table = pack.len() - table_length(&pack).unwrap();
        for bit in table * 8..pack.len() * 8 {
            let mut damaged = pack.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&keys, "packs/a", &damaged).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn what_is_sealed_cannot_be_read_without_its_key() {
    let keys = keys(true);
    let (pack, rows) = sample(&keys);
    let holds = |needle: &[u8]| pack.windows(needle.len()).any(|window| window == needle);
    assert!(!holds(b"short") && !holds(&rows[0].id.0), "neither contents nor ids are readable");
    let stranger = Keys::new([7; 32], Some(SealingKey::new(&[9; 32])));
    let stored = &pack[rows[0].offset as usize..][..rows[0].stored as usize];
    assert!(decode_entry(&keys, &rows[0], stored).is_some());
    assert!(decode_entry(&stranger, &rows[0], stored).is_none());
    let moved = Row { id: rows[1].id, ..rows[0] };
    assert!(decode_entry(&keys, &moved, stored).is_none(), "bound to its id");
}

#[test]
fn claims_of_a_table_are_bounded() {
    let keys = keys(false);
    let (_, rows) = sample(&keys);
    for wrong in [
        Row { offset: 3, ..rows[0] },
        Row { stored: u32::MAX, ..rows[0] },
        Row { raw: u32::MAX, ..rows[0] },
    ] {
        let mut pack = head(false);
        pack.extend([0; 64]);
        finish(&keys, "packs/a", &mut pack, &[wrong]).unwrap();
        assert_eq!(read(&keys, "packs/a", &pack), Err(FormatError::Damaged), "{wrong:?}");
    }
    let bomb = zstd::bulk::compress(&vec![0; 1 << 20], 1).unwrap();
    let row = Row { raw: 10, stored: bomb.len() as u32, kind: rows[1].kind, ..rows[1] };
    assert!(decode_entry(&keys, &row, &bomb).is_none(), "it takes no more than it said");
}
