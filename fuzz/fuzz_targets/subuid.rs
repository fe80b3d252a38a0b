//! Any bytes are a table of lent ids: what is used of it are ranges apart from each other, none of
//! them the host's own users or the caller.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/sandbox-local/src/subordinate/table.rs"]
mod table;

use table::{Owner, name_of, parse, usable};

fuzz_target!(|input: (u32, Vec<u8>)| {
    let (uid, bytes) = input;
    let name = name_of(uid, &bytes);
    let found = parse(&bytes, Owner { uid, name: name.as_deref().or(Some("moat")) });
    let ranges = usable(&found.ranges, uid);
    for range in &ranges {
        assert!(range.start >= 65_536 && range.start < range.end && !range.contains(&uid));
        let last = u64::from(range.end - 1);
        for id in [u64::from(range.start), last] {
            assert!(found.ranges.iter().any(|lent| lent.contains(&id)), "nobody lent {id}");
        }
    }
    assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
});
