//! The published description of the protocol is made from the types.

use moat_guest::{ClientMessage, GuestMessage};

const PUBLISHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/protocol.schema.json");

/// With `MOAT_BLESS=1` the file is written instead of compared.
#[test]
fn the_description_of_the_protocol_is_up_to_date() {
    let mut generator = schemars::SchemaGenerator::default();
    let client = generator.subschema_for::<ClientMessage>();
    let guest = generator.subschema_for::<GuestMessage>();
    let description = serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Headers of the guest protocol's frames; PROTOCOL.md says the rest",
        "$defs": generator.take_definitions(true),
        "properties": { "from_the_harness": client, "from_the_guest": guest },
    });
    let text = serde_json::to_string_pretty(&description).unwrap() + "\n";
    if std::env::var_os("MOAT_BLESS").is_some() {
        std::fs::write(PUBLISHED, &text).unwrap();
    }
    let published = std::fs::read_to_string(PUBLISHED).unwrap_or_default();
    assert!(published == text, "{PUBLISHED} is out of date: run with MOAT_BLESS=1");
}

#[test]
fn the_program_is_a_static_executable_for_this_machine() {
    let program = moat_guest::program();
    assert_eq!(program.get(..4), Some(b"\x7fELF".as_slice()));
    // A dynamic executable names an interpreter, in a program header of type 3.
    let number = |at: usize, bytes: usize| {
        let field = program[at..at + bytes].iter().rev();
        field.fold(0, |sum, byte| (sum << 8) | usize::from(*byte))
    };
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    assert!(count > 0 && (0..count).all(|index| number(table + index * size, 4) != 3));
    assert_eq!(moat_guest::program_arch(), std::env::consts::ARCH);
    assert_eq!(moat_guest::program_hash(), *blake3::hash(program).as_bytes());
    assert!(program.len() < 2 << 20, "{} bytes", program.len());
}
