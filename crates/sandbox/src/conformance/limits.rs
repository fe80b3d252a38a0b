//! A provider that makes a sandbox with a limit holds its commands to it. One that cannot refuses
//! to make it, with the typed error.

use std::time::Duration;

use moat_core::{Epoch, LimitName, RunId, SandboxLimits};

use super::Verdict;
use super::bench::{Bench, LONG, Lab, Problem};
use crate::{GuestError, SandboxError, SandboxSpec};

/// A sandbox with these limits; `None` if the provider says that it holds nobody to one of them.
async fn limited(bench: &Bench<'_>, limits: SandboxLimits) -> Result<Option<Lab>, Problem> {
    let run = RunId::generate();
    let spec = SandboxSpec { orphan_grace: LONG, limits, ..SandboxSpec::new(run, Epoch(1)) };
    match bench.make(&spec).await {
        Ok(lab) => Ok(Some(lab)),
        Err(SandboxError::Guest(GuestError::Unsupported(_))) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The script reaches the limit, and is ended for it; what comes after it is not.
async fn ends(
    bench: &Bench<'_>,
    limits: SandboxLimits,
    script: &str,
    limit: LimitName,
    allowed: u64,
) -> Verdict {
    let Some(lab) = limited(bench, limits).await? else { return Ok(()) };
    let exit = lab.sh(script).await?.exit;
    let Some(reached) = exit.limit else {
        ensure!(false, "`{script}` ended with {} and without a limit", exit.code);
        return Ok(());
    };
    ensure!(reached.limit == limit && reached.allowed == allowed, "it reached {reached:?}");
    ensure!(reached.ended && exit.code != 0, "it went on: {} {reached:?}", exit.code);
    let after = lab.ask("echo well").await?;
    ensure!(after == "well\n", "the next command said {after:?}");
    Ok(())
}

pub(super) async fn output(bench: &Bench<'_>) -> Verdict {
    let limits = SandboxLimits { output_bytes: Some(10_000), ..SandboxLimits::default() };
    let Some(lab) = limited(bench, limits).await? else { return Ok(()) };
    let finished = lab.sh("while :; do echo y; done").await?;
    let reached = finished.exit.limit;
    ensure!(
        reached.as_ref().is_some_and(|reached| reached.limit == LimitName::Output && reached.ended),
        "it reached {reached:?}"
    );
    let said = finished.stdout.len() + finished.stderr.len();
    ensure!(said == 10_000, "{said} bytes came instead of 10000");
    Ok(())
}

pub(super) async fn time(bench: &Bench<'_>) -> Verdict {
    let limits = SandboxLimits { wall_ms: Some(400), ..SandboxLimits::default() };
    ends(bench, limits, "sleep 100", LimitName::WallTime, 400).await
}

pub(super) async fn processor_time(bench: &Bench<'_>) -> Verdict {
    let limits = SandboxLimits { cpu_time_ms: Some(300), ..SandboxLimits::default() };
    // Of a child as well.
    let script = "(while :; do :; done) & wait";
    ends(bench, limits, script, LimitName::CpuTime, 300).await
}

pub(super) async fn memory(bench: &Bench<'_>) -> Verdict {
    let limits = SandboxLimits { memory_bytes: Some(64 << 20), ..SandboxLimits::default() };
    ends(bench, limits, "exec tail /dev/zero", LimitName::Memory, 64 << 20).await
}

pub(super) async fn disk(bench: &Bench<'_>) -> Verdict {
    let limits = SandboxLimits { disk_bytes: Some(8 << 20), ..SandboxLimits::default() };
    let script = "i=0; while :; do head -c 100000 /dev/zero > f$i; i=$((i+1)); done";
    ends(bench, limits, script, LimitName::Disk, 8 << 20).await
}

pub(super) async fn one_file(bench: &Bench<'_>) -> Verdict {
    let limits = SandboxLimits { file_bytes: Some(50_000), ..SandboxLimits::default() };
    let script = "exec head -c 100000 /dev/zero > file";
    ends(bench, limits, script, LimitName::FileSize, 50_000).await
}

pub(super) async fn processes(bench: &Bench<'_>) -> Verdict {
    let limits = SandboxLimits { pids: Some(32), ..SandboxLimits::default() };
    let Some(lab) = limited(bench, limits).await? else { return Ok(()) };
    let finished =
        lab.sh("i=0; while [ $i -lt 200 ]; do sleep 60 & i=$((i+1)); done; wait").await?;
    let reached = finished.exit.limit;
    let right = |reached: &moat_core::SandboxLimitReached| {
        reached.limit == LimitName::Pids && reached.allowed == 32
    };
    ensure!(reached.as_ref().is_some_and(right), "it reached {reached:?}");
    Ok(())
}

pub(super) async fn metered(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    match lab.sandbox.metered().await {
        Err(SandboxError::Guest(GuestError::Unsupported(_))) => return Ok(()),
        first => drop(first?),
    }
    let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done & wait";
    let of_command = lab.sh(script).await?.exit.metered.unwrap_or_default();
    ensure!(of_command.cpu_ms > 20, "a command used {of_command:?}");
    let of_all = lab.sandbox.metered().await?;
    ensure!(of_all.cpu_ms >= of_command.cpu_ms, "all used {of_all:?}, one {of_command:?}");
    Ok(())
}

pub(super) async fn paused(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let key = lab.start("while :; do echo x >> beats; sleep 0.02; done").await?;
    lab.until("test -s beats").await?;
    match lab.sandbox.pause().await {
        Err(SandboxError::Guest(GuestError::Unsupported(_))) => return Ok(()),
        done => done?,
    }
    let size = || async {
        let stat = lab.guest.stat(crate::Root::Workspace, "beats".as_ref()).await;
        stat.map(|stat| stat.map_or(0, |stat| stat.size))
    };
    let before = size().await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure!(size().await? == before, "it went on while it was paused");
    let refused = lab.guest.start(&lab.shell("true")).await;
    ensure!(matches!(refused, Err(GuestError::Unsupported(_))), "a command began: {refused:?}");
    lab.sandbox.resume().await?;
    lab.until(&format!("test $(wc -c < beats) -gt {before}")).await?;
    lab.guest.signal(key, 9).await?;
    lab.collect(key, 0).await?;
    Ok(())
}
