use std::collections::BTreeSet;

use super::table::{ALLOWED, REFUSED};
use super::*;

#[test]
fn filters_compile_within_what_the_kernel_takes() {
    let filters = compile().unwrap();
    for filter in &filters.0 {
        assert!(filter.len() / 8 <= 4096, "{} instructions", filter.len() / 8);
        assert_eq!(filter.len() % 8, 0);
    }
}

#[test]
fn no_call_is_listed_twice_or_both_allowed_and_always_refused() {
    let mut seen = BTreeSet::new();
    for call in ALLOWED.iter().flat_map(|group| group.calls) {
        assert!(seen.insert(*call), "call {call} is allowed twice");
    }
    for refusal in REFUSED.iter().filter(|refusal| refusal.when.is_empty()) {
        for call in refusal.calls {
            assert!(!seen.contains(call), "call {call} is allowed and refused");
        }
    }
}

#[test]
fn clone3_is_unknown_and_not_refused() {
    let named = |call: i64| {
        ALLOWED.iter().any(|group| group.calls.contains(&call))
            || REFUSED.iter().any(|refusal| refusal.calls.contains(&call))
    };
    assert!(!named(libc::SYS_clone3));
}
