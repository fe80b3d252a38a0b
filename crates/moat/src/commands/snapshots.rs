//! `snapshots` and `du`: what is kept of files, and what it takes.

mod carry;
mod collect;
mod list;
mod space;

use std::str::FromStr as _;

use moat_core::{Event, EventBody, RunId, Seq, SnapshotId};

use super::show::events_of;
use crate::cli::SnapshotsCommand;
use crate::engine::Engine;
use crate::exit::{Exit, usage};

pub(crate) use collect::collect_after_erasure;
pub(crate) use space::du;

pub(crate) async fn dispatch(engine: &Engine, command: SnapshotsCommand) -> anyhow::Result<Exit> {
    match command {
        SnapshotsCommand::Ls(args) => list::ls(engine, &args).await,
        SnapshotsCommand::Show(args) => list::show(engine, &args).await,
        SnapshotsCommand::Diff(args) => list::diff(engine, &args).await,
        SnapshotsCommand::Export(args) => carry::export(engine, &args).await,
        SnapshotsCommand::Import(args) => carry::import(engine, &args).await,
        SnapshotsCommand::Forget(args) => carry::forget(engine, &args).await,
        SnapshotsCommand::Gc(args) => collect::gc(engine, &args).await,
        SnapshotsCommand::Verify(args) => collect::verify(engine, args.json).await,
    }
}

/// A snapshot of a run, as its journal tells it.
struct Taken {
    run: RunId,
    seq: Seq,
    snapshot: SnapshotId,
    files: u64,
    bytes: u64,
    new_bytes: u64,
    /// Milliseconds since the Unix epoch.
    at: u64,
}

/// The snapshots that a run's own journal names, oldest first, and where it was forked from.
async fn taken_by(
    engine: &Engine,
    run: RunId,
) -> anyhow::Result<(Vec<Taken>, Option<(RunId, Seq)>)> {
    let mut forked_from = None;
    let mut taken = Vec::new();
    for Event { header, body } in events_of(engine, run).await? {
        match body {
            EventBody::RunStarted(started) => {
                forked_from = started.forked_from.map(|fork| (fork.run, fork.seq));
            }
            EventBody::Checkpointed(done) => taken.push(Taken {
                run,
                seq: header.seq,
                snapshot: done.snapshot,
                files: done.files,
                bytes: done.bytes,
                new_bytes: done.new_bytes,
                at: header.at,
            }),
            _ => {}
        }
    }
    Ok((taken, forked_from))
}

/// The snapshot that somebody means by an id, `RUN` or `RUN@SEQ`.
async fn meant(engine: &Engine, text: &str) -> anyhow::Result<SnapshotId> {
    if let Ok(id) = SnapshotId::from_str(text) {
        return Ok(id);
    }
    let (run, until) = match text.split_once('@') {
        None => (text, None),
        Some((run, seq)) => {
            let seq = seq.parse().map(Seq);
            let seq = seq.map_err(|_| usage(format!("`{text}`: what follows `@` is no number")))?;
            (run, Some(seq))
        }
    };
    let (mut run, mut until) = (engine.find_by_text(run).await?, until);
    loop {
        let (taken, forked_from) = taken_by(engine, run).await?;
        let last = taken.iter().rev().find(|one| until.is_none_or(|until| one.seq <= until));
        match (last, forked_from) {
            (Some(last), _) => return Ok(last.snapshot),
            (None, Some((source, seq))) => (run, until) = (source, Some(seq)),
            (None, None) => return Err(usage(format!("there is no snapshot at `{text}`"))),
        }
    }
}

/// Every run that has a journal and was not erased.
async fn living(engine: &Engine) -> anyhow::Result<Vec<RunId>> {
    let listed = engine.journal.list(&engine.tenant, usize::MAX >> 1).await?;
    Ok(listed.into_iter().filter(|listed| !listed.erased).map(|listed| listed.run).collect())
}
