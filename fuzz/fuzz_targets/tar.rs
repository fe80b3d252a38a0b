//! Any bytes are members of an archive or an error: `cargo +nightly fuzz run tar`.
//!
//! What is held stays within what the reader says of itself, no content is read past the archive's
//! end, and reading in pieces gives the same as reading at once.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use moat_guest::{MAX_TAR_EXTENSIONS, MAX_TAR_NAME, TarMember, TarReader};

/// Gives one byte at a time.
struct Drops<'a>(&'a [u8]);

impl Read for Drops<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let length = into.len().min(1);
        self.0.read(&mut into[..length])
    }
}

fn members(source: impl Read) -> Vec<(TarMember, usize)> {
    let mut reader = TarReader::new(source);
    let mut found = Vec::new();
    while let Ok(Some(member)) = reader.next_member() {
        let mut content = Vec::new();
        let whole = reader.content().read_to_end(&mut content).is_ok();
        assert!(!whole || content.len() as u64 == member.size);
        assert!((1..=MAX_TAR_NAME).contains(&member.path.len()));
        assert!(member.link.len() <= MAX_TAR_NAME && member.mode <= 0o7777);
        let held: usize = member.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(held as u64 <= MAX_TAR_EXTENSIONS);
        found.push((member, content.len()));
        if !whole {
            break;
        }
    }
    found
}

fuzz_target!(|bytes: &[u8]| {
    assert_eq!(members(bytes), members(Drops(bytes)));
});
