//! Files that commands have mapped are seen in containers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod support;

#[path = "../../sandbox/tests/shared/mapped.rs"]
mod mapped;

use support::SYSTEM;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mapped_files_are_named_with_runc() {
    named("mapped_files_are_named_with_runc", "runc").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mapped_files_are_named_with_runsc() {
    named("mapped_files_are_named_with_runsc", "runsc").await;
}

async fn named(test: &str, runtime: &str) {
    let Some(endpoint) = support::engine_with(test, runtime).await else { return };
    support::images(&endpoint).await;
    let top = tempfile::tempdir().unwrap();
    let provider = support::provider(&endpoint, top.path(), SYSTEM, |options| {
        options.runtime = Some(runtime.to_owned());
    });
    mapped::mapped_files_are_named(&provider).await;
}
