//! The local provider does what every provider has to do, as root, as an ordinary user, and as one whom
//! the host lends ids.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod support;

use moat_sandbox::conformance;
use moat_sandbox_local::{LocalOptions, LocalProvider};

#[test]
fn conforms_as_root() {
    support::as_root("conforms_as_root", conforms);
}

#[test]
fn conforms_as_ordinary_user() {
    support::as_ordinary_user("conforms_as_ordinary_user", conforms);
}

#[test]
fn conforms_as_user_with_subuids() {
    support::as_user_with_subuids("conforms_as_user_with_subuids", || {
        conforms();
        support::assert_lent();
    });
}

fn conforms() {
    let top = tempfile::tempdir().unwrap();
    let state = support::state_folder(top.path());
    let provider = LocalProvider::new(LocalOptions::new(&state)).unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let filter = std::env::var("MOAT_CHECK").unwrap_or_default();
    let report = runtime.block_on(conformance::run(&provider, &filter));
    for outcome in &report.outcomes {
        let verdict = outcome.problem.as_deref().unwrap_or("ok");
        println!("{:<48} {:>6} ms  {verdict}", outcome.name, outcome.took.as_millis());
    }
    let failed: Vec<_> = report.failed().map(|outcome| outcome.name).collect();
    assert!(failed.is_empty(), "these failed: {failed:?}");
    assert!(!report.outcomes.is_empty(), "no check is named `{filter}`");

    provider.reap().unwrap();
    let left: Vec<_> = std::fs::read_dir(state.join("sandboxes")).unwrap().collect();
    assert!(left.is_empty(), "still there: {left:?}");
}
