//! `verify` and `erase`.

use std::collections::BTreeSet;
use std::io::Write as _;

use anyhow::Context as _;
use moat_core::{BlobId, Event, EventBody, RunErased, RunId};
use moat_harness::network::forget_authority;
use moat_journal::{NewEvent, RunReport};
use serde_json::{Value, json};

use super::show::events_of;
use super::snapshots::collect_after_erasure;
use crate::cli::{EraseArgs, VerifyArgs};
use crate::engine::{Engine, local_provider};
use crate::escape::escape;
use crate::exit::Exit;

pub(crate) async fn verify(engine: &Engine, args: &VerifyArgs) -> anyhow::Result<Exit> {
    let run = match &args.run {
        Some(text) => Some(engine.find_by_text(text).await?),
        None => None,
    };
    let report = engine.journal.verify(&engine.tenant, run).await?;
    let sound = report.runs.iter().all(|run| run.problems.is_empty());
    let mut out = std::io::stdout().lock();
    if args.json {
        let rows: Vec<Value> = report.runs.iter().map(row).collect();
        writeln!(out, "{}", json!({ "v": 1, "sound": sound, "runs": rows }))?;
    } else {
        for run in &report.runs {
            print(&mut out, run)?;
        }
        if report.runs.is_empty() {
            writeln!(out, "there are no runs")?;
        }
    }
    Ok(if sound { Exit::Success } else { Exit::TaskFailed })
}

fn row(run: &RunReport) -> Value {
    let problems = run.problems.iter();
    let problems: Vec<_> =
        problems.map(|problem| json!({ "seq": problem.seq, "message": problem.message })).collect();
    json!({
        "run": run.run,
        "head": run.head,
        "anchored": run.anchored,
        "erased": run.erased,
        "sound": run.problems.is_empty(),
        "problems": problems,
    })
}

fn print(out: &mut impl std::io::Write, run: &RunReport) -> std::io::Result<()> {
    let anchored = match run.anchored {
        Some(seq) if seq >= run.head => "all anchored".to_owned(),
        Some(seq) => format!("anchored up to {seq}, consistent after it"),
        None => "not anchored, consistent".to_owned(),
    };
    let erased = if run.erased { ", erased" } else { "" };
    if run.problems.is_empty() {
        return writeln!(out, "{}  ok  {} events, {anchored}{erased}", run.run, run.head);
    }
    writeln!(out, "{}  BAD  {} events, {anchored}{erased}", run.run, run.head)?;
    for problem in &run.problems {
        let place = problem.seq.map(|seq| format!("event {seq}: ")).unwrap_or_default();
        writeln!(out, "    {place}{}", escape(&problem.message))?;
    }
    Ok(())
}

pub(crate) async fn erase(engine: &Engine, args: &EraseArgs) -> anyhow::Result<Exit> {
    let run = engine.find_by_text(&args.run).await?;
    let mut consent: Vec<RunId> = Vec::new();
    for text in &args.with {
        consent.push(engine.find_by_text(text).await?);
    }
    let body = EventBody::from(RunErased { reason: args.reason.clone() });
    let tombstone = NewEvent {
        actor: "user".to_owned(),
        kind: body.kind().to_owned(),
        version: body.version(),
        must_understand: body.must_understand(),
        at: None,
        body: body.encode()?,
    };
    let outputs = outputs_to_delete(engine, run, &consent).await?;
    engine.journal.erase(&engine.tenant, run, &consent, tombstone).await?;
    for blob in outputs {
        engine.blobs.delete(blob).await?;
    }
    engine.blobs.sync().await?;
    let spool = engine.home.data.join("spool").join(run.to_string());
    if spool.exists() {
        std::fs::remove_dir_all(spool)?;
    }
    for run in consent.iter().chain([&run]) {
        let forgotten = forget_authority(&engine.network()?, *run);
        forgotten.context("cannot remove the run's authority")?;
    }
    // What forks lie over is not sealed.
    let local = local_provider(&engine.home)?;
    local.reap()?;
    local.forget_workspaces()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "run {run} is erased")?;
    if let Some(note) =
        collect_after_erasure(engine).await.context("its files are not collected")?
    {
        writeln!(out, "{note}")?;
    }
    Ok(Exit::Success)
}

/// Whole outputs that only the runs to be erased refer to. Equal outputs are stored once, so every
/// other run is asked; an erasure is rare enough for that.
async fn outputs_to_delete(
    engine: &Engine,
    run: RunId,
    with: &[RunId],
) -> anyhow::Result<BTreeSet<BlobId>> {
    let mut doomed = BTreeSet::new();
    for run in std::iter::once(&run).chain(with) {
        // Of a run that cannot be read nobody can tell; erasing it is still possible.
        doomed.extend(outputs_of(engine, *run).await.unwrap_or_default());
    }
    if doomed.is_empty() {
        return Ok(doomed);
    }
    for listed in engine.journal.list(&engine.tenant, usize::MAX >> 1).await? {
        if listed.run != run && !with.contains(&listed.run) && !listed.erased {
            let kept = outputs_of(engine, listed.run).await;
            for kept in kept.with_context(|| unreadable(listed.run))? {
                doomed.remove(&kept);
            }
        }
    }
    Ok(doomed)
}

fn unreadable(run: RunId) -> String {
    format!(
        "nothing was erased, since run {run} cannot be read, and so not what it shares; put back \
         its key or its journal, or erase it too"
    )
}

async fn outputs_of(engine: &Engine, run: RunId) -> anyhow::Result<BTreeSet<BlobId>> {
    let events = events_of(engine, run).await?;
    let blob = |event: Event| match event.body {
        EventBody::CallFinished(finished) => finished.report.output?.blob,
        _ => None,
    };
    Ok(events.into_iter().filter_map(blob).collect())
}
