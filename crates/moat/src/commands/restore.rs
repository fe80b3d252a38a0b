//! `restore`: a run's files, as they were, in a folder of their own.

use std::io::Write as _;

use anyhow::Context as _;
use moat_core::Seq;
use moat_snapshot::RootName;
use moat_writeback::{WriteBackError, restore as restore_into};
use serde_json::json;

use super::take_up::history_of;
use crate::cli::RestoreArgs;
use crate::engine::Engine;
use crate::escape::escape;
use crate::exit::{Exit, usage};

pub(crate) async fn restore(engine: &Engine, args: &RestoreArgs) -> anyhow::Result<Exit> {
    let run = engine.find_by_text(&args.run).await?;
    let history = history_of(engine, run).await?;
    let none = || match args.at {
        Some(at) => usage(format!("run {run} has no checkpoint at or before event {at}")),
        None => usage(format!("run {run} has no files")),
    };
    let (seq, snapshot) = history.files_at(args.at.map(Seq)).ok_or_else(none)?;
    let folder = std::path::absolute(&args.folder)
        .with_context(|| format!("cannot make `{}`", args.folder.display()))?;
    let root = if args.home { RootName::Home } else { RootName::Workspace };
    let restored = restore_into(&engine.snapshots, snapshot, root, &folder).await;
    let restored = restored.map_err(|error| match error {
        WriteBackError::Occupied { .. } => usage(error),
        error => error.into(),
    })?;
    if args.json {
        let line = json!({
            "v": 1, "run": run, "seq": seq, "snapshot": snapshot, "folder": folder,
            "files": restored.files, "bytes": restored.bytes,
            "special_bits_left_out": restored.special_bits,
            "attributes_lost": restored.lost_attributes,
        });
        writeln!(std::io::stdout().lock(), "{line}")?;
        return Ok(Exit::Success);
    }
    let mut err = std::io::stderr().lock();
    if !engine.quiet {
        let place = escape(&folder.to_string_lossy());
        let when = if seq.0 == 0 { "at its start".to_owned() } else { format!("at event {seq}") };
        writeln!(err, "{} files of run {run} {when} are in {place}", restored.files)?;
    }
    if restored.special_bits > 0 {
        writeln!(err, "left out: {} set-uid and set-gid bits", restored.special_bits)?;
    }
    if restored.lost_attributes > 0 {
        let lost = restored.lost_attributes;
        writeln!(
            err,
            "not kept here: {lost} extended attributes (this file system, or your rights)"
        )?;
    }
    Ok(Exit::Success)
}
