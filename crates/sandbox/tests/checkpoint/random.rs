//! Any tree goes through a guest without fences and comes back as it was. Providers show the same
//! by the same checks.

use moat_sandbox::conformance;
use moat_sandbox::plain::PlainProvider;

#[tokio::test]
async fn trees_come_back_from_a_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    let report = conformance::run(&PlainProvider::new(folder.path()), "trees::").await;
    let failed: Vec<_> = report.failed().collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(report.outcomes.len(), 2);
}
