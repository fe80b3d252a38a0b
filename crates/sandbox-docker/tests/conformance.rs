//! The Docker provider does what every provider has to do: with the engine's usual runtime, through
//! the socket and through bridges, and with gVisor's.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod support;

use bollard::query_parameters::ListContainersOptions;
use moat_sandbox::conformance;
use moat_sandbox_docker::DockerOptions;
use support::SYSTEM;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_runc() {
    conforms("conforms_with_runc", "runc", |_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_runc_through_bridges() {
    conforms("conforms_with_runc_through_bridges", "runc", |options| options.bridge = true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_runsc() {
    let with_runsc = |options: &mut DockerOptions| options.runtime = Some("runsc".to_owned());
    conforms("conforms_with_runsc", "runsc", with_runsc).await;
}

async fn conforms(test: &str, runtime: &str, change: impl FnOnce(&mut DockerOptions)) {
    let Some(endpoint) = support::engine_with(test, runtime).await else { return };
    support::images(&endpoint).await;
    let top = tempfile::tempdir().unwrap();
    let provider = support::provider(&endpoint, top.path(), SYSTEM, change);
    let filter = std::env::var("MOAT_CHECK").unwrap_or_default();
    let report = conformance::run(&provider, &filter).await;
    for outcome in &report.outcomes {
        let verdict = outcome.problem.as_deref().unwrap_or("ok");
        println!("{:<48} {:>6} ms  {verdict}", outcome.name, outcome.took.as_millis());
    }
    let failed: Vec<_> = report.failed().map(|outcome| outcome.name).collect();
    assert!(failed.is_empty(), "these failed: {failed:?}");
    assert!(!report.outcomes.is_empty(), "no check is named `{filter}`");

    provider.reap().await.unwrap();
    let owner = std::fs::read_to_string(top.path().join("docker/owner")).unwrap();
    let label = format!("dev.moat.data-folder={}", owner.trim());
    let options = ListContainersOptions {
        all: true,
        filters: Some([("label".to_owned(), vec![label])].into()),
        ..ListContainersOptions::default()
    };
    let left = support::docker(&endpoint).await.list_containers(Some(options)).await.unwrap();
    assert!(left.is_empty(), "still there: {left:?}");
}
