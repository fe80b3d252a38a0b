use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use moat_blobs::{CollectOptions, Collected};
use moat_core::{BlobId, ByteSize, EventBody, RunId, Seq, SnapshotId};
use serde_json::json;

use super::{Taken, living, taken_by};
use crate::cli::SnapshotsGcArgs;
use crate::commands::show::events_of;
use crate::engine::Engine;
use crate::escape::escape;
use crate::exit::{Exit, usage};

/// Minutes that packs of buckets stay after nothing needs them: leases there are as exact as the
/// clocks of those who write.
const BUCKET_GRACE: u64 = 60;

/// Which snapshots of a run stay.
#[derive(Clone, Copy)]
struct Retention {
    last: Option<usize>,
    /// Those that were taken from this moment on stay too: milliseconds since the Unix epoch.
    since: u64,
}

pub(super) async fn gc(engine: &Engine, args: &SnapshotsGcArgs) -> anyhow::Result<Exit> {
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
    let days = args.keep_days.map(|days| u64::from(days) * 86_400_000);
    let since = days.map_or(u64::MAX, |days| now.saturating_sub(days));
    let retention = Retention { last: args.keep_last, since };
    let grace = args.grace.unwrap_or(if engine.packs.is_near() { 0 } else { BUCKET_GRACE });
    let options = CollectOptions {
        grace: Duration::from_secs(grace * 60),
        dry_run: args.dry_run,
        leave_nothing: false,
    };
    let mut others = others(engine).await?;
    if let Some(name) = args.forget.iter().find(|name| !others.contains(name)) {
        return Err(usage(format!("no other data folder `{}` stores here", escape(name))));
    }
    others.retain(|other| !args.forget.contains(other));
    if let Some(refused) = refused(&others) {
        return Err(usage(refused));
    }
    let done = collect(engine, retention, options).await?;
    for name in &args.forget {
        engine.packs.forget_user(name).await?;
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        let line = json!({
            "v": 1, "dry_run": args.dry_run, "removed_packs": done.removed_packs,
            "removed_bytes": done.removed_bytes, "later_bytes": done.doomed_bytes,
            "moved_bytes": done.moved_bytes, "kept_bytes": done.kept_bytes,
            "waited_for_writers": done.waited_for_writers,
        });
        writeln!(out, "{line}")?;
        return Ok(Exit::Success);
    }
    let later = ByteSize(done.doomed_bytes);
    if args.dry_run {
        writeln!(out, "would remove {later}, and keep {}", ByteSize(done.kept_bytes))?;
        return Ok(Exit::Success);
    }
    let (removed, kept) = (ByteSize(done.removed_bytes), ByteSize(done.kept_bytes));
    writeln!(out, "removed {removed}, kept {kept}")?;
    if done.waited_for_writers {
        writeln!(out, "{later} more can go once the runs that are being driven now have ended")?;
    } else if done.doomed_bytes > 0 {
        writeln!(out, "{later} more can go in {grace} minutes")?;
    }
    Ok(Exit::Success)
}

/// After runs were erased: what only they needed goes. Says what could not go yet.
pub(crate) async fn collect_after_erasure(engine: &Engine) -> anyhow::Result<Option<String>> {
    if let Some(refused) = refused(&others(engine).await?) {
        return Ok(Some(format!("its files stay where they are stored: {refused}")));
    }
    let all = Retention { last: None, since: 0 };
    let options = CollectOptions { grace: Duration::ZERO, dry_run: false, leave_nothing: true };
    let done = collect(engine, all, options).await?;
    let note = "its files go once the runs that are being driven now have ended: \
                `moat snapshots gc`";
    Ok(done.waited_for_writers.then(|| note.to_owned()))
}

/// Other data folders that store in the same place.
async fn others(engine: &Engine) -> anyhow::Result<Vec<String>> {
    let users = engine.packs.users().await?.into_iter();
    Ok(users.filter(|user| !engine.users.contains(user)).collect())
}

fn refused(others: &[String]) -> Option<String> {
    let named = escape(&others.join(", "));
    (!others.is_empty()).then(|| {
        format!(
            "{} other data folders store snapshots in the same place ({named}), and only they know \
             what they need; one that is no longer there, or that has another path by now, is left \
             out with `moat snapshots gc --forget {}`",
            others.len(),
            others.first().map(|name| escape(name)).unwrap_or_default(),
        )
    })
}

async fn collect(
    engine: &Engine,
    retention: Retention,
    options: CollectOptions,
) -> anyhow::Result<Collected> {
    let live = async || -> anyhow::Result<HashSet<BlobId>> {
        let roots = kept(engine, retention).await?;
        Ok(engine.snapshots.needed_by(&roots).await?)
    };
    engine.packs.collect(live, options).await
}

/// The snapshots that stay: of each living run the first, the last ones and those that forks began
/// from; and what was imported.
async fn kept(engine: &Engine, retention: Retention) -> anyhow::Result<Vec<SnapshotId>> {
    let mut runs: HashMap<RunId, Vec<Taken>> = HashMap::new();
    let mut forks: Vec<(RunId, Seq)> = Vec::new();
    let mut seeds: Vec<SnapshotId> = Vec::new();
    for run in living(engine).await? {
        let read = taken_by(engine, run).await;
        let (taken, forked_from) = read.with_context(|| {
            format!(
                "nothing was removed, since run {run} cannot be read, and so not what it needs; \
                 put back its key or its journal, or erase it"
            )
        })?;
        forks.extend(forked_from);
        runs.insert(run, taken);
        seeds.extend(seed_of(engine, run).await?);
    }
    let mut kept: HashSet<SnapshotId> =
        engine.packs.pins().await?.into_iter().map(|BlobId(id)| SnapshotId(id)).collect();
    kept.extend(seeds);
    for taken in runs.values() {
        let last = retention.last.unwrap_or(usize::MAX).max(1);
        let skipped = taken.len().saturating_sub(last);
        let stays = |(index, one): &(usize, &Taken)| {
            *index == 0 || *index >= skipped || one.at >= retention.since
        };
        let staying = taken.iter().enumerate().filter(stays);
        kept.extend(staying.map(|(_, one)| one.snapshot));
    }
    for (source, seq) in forks {
        let taken = runs.get(&source).map(Vec::as_slice).unwrap_or_default();
        kept.extend(taken.iter().rev().find(|one| one.seq <= seq).map(|one| one.snapshot));
    }
    Ok(kept.into_iter().collect())
}

/// What a fresh sandbox of the run has where checkpoints leave something out.
async fn seed_of(engine: &Engine, run: RunId) -> anyhow::Result<Option<SnapshotId>> {
    let started = events_of(engine, run).await?.into_iter().find_map(|event| match event.body {
        EventBody::RunStarted(started) => Some(started),
        _ => None,
    });
    Ok(started.and_then(|started| started.sandbox.ephemeral).map(|ephemeral| ephemeral.snapshot))
}

pub(super) async fn verify(engine: &Engine, as_json: bool) -> anyhow::Result<Exit> {
    let damage = engine.packs.check().await?;
    let mut missing = Vec::new();
    let mut checked = 0;
    let mut unreadable = Vec::new();
    for run in living(engine).await? {
        let taken = match taken_by(engine, run).await {
            Ok((taken, _)) => taken,
            Err(error) => {
                unreadable.push((run, format!("{error:#}")));
                continue;
            }
        };
        for one in taken {
            checked += 1;
            if let Err(error) = engine.snapshots.verify(one.snapshot).await {
                missing.push((one, error.to_string()));
            }
        }
    }
    let sound = damage.is_empty() && missing.is_empty() && unreadable.is_empty();
    let mut out = std::io::stdout().lock();
    if as_json {
        let packs = damage
            .iter()
            .map(|one| json!({ "pack": one.pack, "blob": one.blob, "reason": one.reason }));
        let snapshots = missing.iter().map(|(one, error)| {
            json!({ "run": one.run, "seq": one.seq, "snapshot": one.snapshot, "error": error })
        });
        let line = json!({
            "v": 1, "sound": sound, "snapshots": checked,
            "packs_damaged": packs.collect::<Vec<_>>(),
            "snapshots_damaged": snapshots.collect::<Vec<_>>(),
            "runs_unreadable": unreadable
                .iter()
                .map(|(run, error)| json!({ "run": run, "error": error }))
                .collect::<Vec<_>>(),
        });
        writeln!(out, "{line}")?;
    } else {
        for one in &damage {
            let blob = one.blob.map(|blob| format!(", blob {blob}")).unwrap_or_default();
            writeln!(out, "BAD  {}{blob}: {}", one.pack, one.reason)?;
        }
        for (one, error) in &missing {
            writeln!(out, "BAD  {}@{}: {}", one.run, one.seq.0, escape(error))?;
        }
        for (run, error) in &unreadable {
            writeln!(out, "BAD  {run}: its snapshots are not known: {}", escape(error))?;
        }
        let bad = missing.len();
        writeln!(
            out,
            "{checked} snapshots, {bad} of them damaged; {} damaged places in packs",
            damage.len()
        )?;
        if !sound {
            writeln!(
                out,
                "put the packs back from a copy, or go on from a whole snapshot: \
                 `moat fork RUN --at SEQ`, `moat restore RUN FOLDER --at SEQ`"
            )?;
        }
    }
    Ok(if sound { Exit::Success } else { Exit::TaskFailed })
}
