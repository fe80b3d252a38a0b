//! Any bytes are an archive or an error: `cargo +nightly fuzz run archive`.
//!
//! What is accepted is what was checked: relative paths of ordinary parts, each once, contents as
//! long as they say, and no more than allowed.
#![no_main]

use std::collections::HashSet;
use std::io::Cursor;
use std::path::Component;

use libfuzzer_sys::fuzz_target;
use moat_archive::{Archive, ArchiveLimits, Kind, Rules, Trust};

fuzz_target!(|bytes: &[u8]| {
    let limits = ArchiveLimits { members: 1000, extracted_bytes: 1 << 20, ..Default::default() };
    for trust in [Trust::Import { allow_links: false }, Trust::Import { allow_links: true }] {
        let Ok(mut archive) = Archive::open(Cursor::new(bytes), &Rules { trust, limits }) else {
            continue;
        };
        let mut paths = HashSet::new();
        for member in archive.members() {
            let plain = |part| matches!(part, Component::Normal(_));
            assert!(member.path.components().all(plain) && paths.insert(member.path.clone()));
        }
        let mut total = 0;
        archive
            .read(|member, content| {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes)?;
                total += bytes.len();
                assert_eq!(member.kind, Kind::File { size: bytes.len() as u64 });
                Ok::<_, std::io::Error>(())
            })
            .expect("what was checked can be read");
        assert!(total <= 1 << 20);
    }
});
