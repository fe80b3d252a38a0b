//! Stopping this process at a chosen append, for tests of crashes. Only in builds with the feature
//! `failpoints`, which no program that is given to anyone has.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// The first append of this process, counted from 1, at which it stops. It stops at every one from
/// there on, until somebody continues or kills it.
const VARIABLE: &str = "MOAT_FAILPOINT_STOP_FROM_APPEND";

static FIRST: LazyLock<Option<u64>> = LazyLock::new(|| std::env::var(VARIABLE).ok()?.parse().ok());
static APPENDS: AtomicU64 = AtomicU64::new(0);

/// An append is durable and nothing that depends on it was begun.
pub(super) fn after_append() {
    let this = APPENDS.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    if FIRST.is_some_and(|first| this >= first) {
        // A process may always stop itself.
        let _ = kill_process(getpid(), Signal::STOP);
    }
}
