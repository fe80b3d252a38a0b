//! The resolver of a sandbox: an answer belongs to its query, is bounded, and holds no address but
//! a synthetic one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_egress::dns::{MAX_QUERY, answer_for_fuzzing};

fuzz_target!(|data: &[u8]| {
    let Some(answer) = answer_for_fuzzing(data) else { return };
    assert!(answer.len() >= 12 && answer.len() <= 2 * MAX_QUERY);
    assert_eq!(answer[..2], data[..2]);
    assert_eq!(answer[2] & 0x80, 0x80);
});
