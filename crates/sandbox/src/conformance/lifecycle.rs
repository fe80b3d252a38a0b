use std::collections::BTreeMap;
use std::time::Duration;

use moat_core::Epoch;
use serde_json::{Value, json};

use super::Verdict;
use super::bench::{Bench, Lab, Problem};
use crate::{GuestError, SandboxError};

/// The sandbox is found again, or that is the problem.
async fn again(
    bench: &Bench<'_>,
    run: moat_core::RunId,
    handle: &Value,
    epoch: u64,
) -> Result<Lab, Problem> {
    let found = bench.reattach(run, handle, epoch).await?;
    found.ok_or_else(|| Problem("the sandbox is gone".to_owned()))
}

pub(super) async fn boots_differ(bench: &Bench<'_>) -> Verdict {
    let (one, other) = (bench.sandbox().await?, bench.sandbox().await?);
    ensure!(one.guest.nonce() != other.guest.nonce(), "two boots have one nonce");
    ensure!(one.sandbox.handle() != other.sandbox.handle(), "two sandboxes have one handle");
    one.ask("echo x > file").await?;
    let there = other.sh("test -e file").await?;
    ensure!(there.exit.code != 0, "two sandboxes share a workspace");
    Ok(())
}

pub(super) async fn found_again(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let (run, handle, nonce) = (lab.run, lab.sandbox.handle(), lab.guest.nonce().clone());
    let size = handle.to_string().len();
    ensure!(size < 4096, "a handle of {size} bytes");
    let script = "echo before; while test ! -e go; do sleep 0.01; done; echo after; exit 5";
    let key = lab.start(script).await?;
    drop(lab);
    let lab = again(bench, run, &handle, 2).await?;
    ensure!(*lab.guest.nonce() == nonce, "another boot answers");
    let listed = lab.guest.processes().await?;
    ensure!(listed.iter().any(|s| s.key == key && s.exit.is_none()), "not running: {listed:?}");
    lab.ask("touch go").await?;
    let finished = lab.collect(key, 0).await?;
    ensure!(finished.text() == "before\nafter\n", "it said {:?}", finished.text());
    ensure!(finished.exit.code == 5, "it ended with {}", finished.exit.code);
    Ok(())
}

pub(super) async fn earlier_owners_are_refused(bench: &Bench<'_>) -> Verdict {
    let old = bench.sandbox().await?;
    let (run, handle) = (old.run, old.sandbox.handle());
    let new = again(bench, run, &handle, 7).await?;
    let late = bench.provider.reattach(&handle, Epoch(6)).await;
    ensure!(
        matches!(late, Err(SandboxError::Guest(GuestError::Superseded))),
        "an earlier owner came in: {:?}",
        late.err()
    );
    let command = old.shell("echo x > /workspace/late");
    let started = old.guest.start(&command).await;
    ensure!(
        matches!(started, Err(GuestError::Superseded | GuestError::Disconnected(_))),
        "an earlier owner's command: {started:?}"
    );
    let planted = new.sh("test -e late").await?;
    ensure!(planted.exit.code != 0, "an earlier owner changed the workspace");
    drop(new);
    let same = again(bench, run, &handle, 7).await?;
    same.ask("true").await?;
    Ok(())
}

pub(super) async fn shutdown_is_final(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let handle = lab.sandbox.handle();
    lab.start("sleep 300").await?;
    lab.guest.shutdown().await?;
    ensure!(bench.gone(&handle, Duration::from_millis(20)).await?, "it is still there");
    Ok(())
}

pub(super) async fn destroyed_is_gone(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let handle = lab.sandbox.handle();
    lab.start("mkdir -p deep/er; echo x > deep/er/file; chmod 0 deep/er deep; sleep 300").await?;
    lab.until("test -e deep").await?;
    bench.provider.destroy(&handle).await?;
    ensure!(bench.provider.reattach(&handle, Epoch(9)).await?.is_none(), "it is still there");
    bench.provider.destroy(&handle).await?;
    Ok(())
}

pub(super) async fn ends_with_its_connection(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox_with(Duration::ZERO, BTreeMap::new()).await?;
    let handle = lab.sandbox.handle();
    lab.start("sleep 300").await?;
    drop(lab);
    ensure!(bench.gone(&handle, Duration::from_millis(50)).await?, "it is still there");
    Ok(())
}

pub(super) async fn ends_after_its_grace(bench: &Bench<'_>) -> Verdict {
    let grace = Duration::from_millis(300);
    let lab = bench.sandbox_with(grace, BTreeMap::new()).await?;
    let (run, handle) = (lab.run, lab.sandbox.handle());
    lab.start("sleep 300").await?;
    drop(lab);
    drop(again(bench, run, &handle, 2).await?);
    // Each look is a connection, after which the grace begins anew.
    ensure!(bench.gone(&handle, grace * 4).await?, "it is still there");
    Ok(())
}

pub(super) async fn strange_handles(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let mut changed = lab.sandbox.handle();
    if let Some(fields) = changed.as_object_mut() {
        fields.insert("unknown".to_owned(), json!("field"));
    }
    for handle in [json!(null), json!({}), json!("x"), json!({ "id": "../.." }), changed] {
        let found = bench.provider.reattach(&handle, Epoch(2)).await;
        ensure!(!matches!(found, Ok(Some(_))), "found by the handle {handle}");
        // Refusing and finding nothing are both fine; ending what is not named is not.
        let _ = bench.provider.destroy(&handle).await;
    }
    lab.ask("true").await?;
    Ok(())
}
