//! Files that commands have mapped are seen as root and as an ordinary user.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod support;

#[path = "../../sandbox/tests/shared/mapped.rs"]
mod mapped;

#[test]
fn mapped_files_are_named_as_root() {
    support::as_root("mapped_files_are_named_as_root", named);
}

#[test]
fn mapped_files_are_named_as_ordinary_user() {
    support::as_ordinary_user("mapped_files_are_named_as_ordinary_user", named);
}

fn named() {
    let top = tempfile::tempdir().unwrap();
    let provider = support::provider(top.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(mapped::mapped_files_are_named(&provider));
}
