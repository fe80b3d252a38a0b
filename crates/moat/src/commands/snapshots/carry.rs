use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::str::FromStr as _;

use anyhow::Context as _;
use moat_core::{BlobId, SnapshotId};
use moat_snapshot::{ImportLimits, RootName};
use serde_json::json;

use super::meant;
use crate::cli::{SnapshotsExportArgs, SnapshotsForgetArgs, SnapshotsImportArgs};
use crate::engine::Engine;
use crate::exit::{Exit, usage};

pub(super) async fn export(engine: &Engine, args: &SnapshotsExportArgs) -> anyhow::Result<Exit> {
    let mut ids = Vec::new();
    for text in &args.snapshots {
        let id = meant(engine, text).await?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let path = &args.output;
    let one = match (args.tar, ids.as_slice()) {
        (true, [one]) => Some(*one),
        (true, _) => return Err(usage("with --tar give one snapshot")),
        (false, _) => None,
    };
    let at = || format!("cannot write `{}`", path.display());
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.with_context(at)?;
    let mut out = BufWriter::new(&file);
    let written = match one {
        Some(one) => engine.snapshots.export_tar(one, RootName::Workspace, &mut out).await,
        None => engine.snapshots.export(&ids, &mut out).await,
    };
    let written = written.map_err(anyhow::Error::from).and_then(|()| {
        out.flush()?;
        drop(out);
        Ok(file.sync_all()?)
    });
    if let Err(error) = written {
        // Half an archive is none.
        let _ = std::fs::remove_file(path);
        return Err(error.context(at()));
    }
    if !engine.quiet {
        for id in &ids {
            writeln!(std::io::stdout().lock(), "{id}")?;
        }
    }
    Ok(Exit::Success)
}

pub(super) async fn import(engine: &Engine, args: &SnapshotsImportArgs) -> anyhow::Result<Exit> {
    let at = || format!("cannot import `{}`", args.file.display());
    let mut file = File::open(&args.file).with_context(at)?;
    let imported = engine.snapshots.import(&mut file, ImportLimits::default()).await;
    let imported = imported.with_context(at)?;
    let mut out = std::io::stdout().lock();
    for one in &imported {
        engine.packs.pin(BlobId(one.snapshot.0)).await?;
        if args.json {
            writeln!(out, "{}", json!({ "v": 1, "snapshot": one.snapshot, "from": one.from }))?;
        } else {
            writeln!(out, "{}", one.snapshot)?;
        }
    }
    Ok(Exit::Success)
}

pub(super) async fn forget(engine: &Engine, args: &SnapshotsForgetArgs) -> anyhow::Result<Exit> {
    let id = SnapshotId::from_str(&args.snapshot).map_err(|error| usage(error.to_string()))?;
    if !engine.packs.unpin(BlobId(id.0)).await? {
        return Err(usage(format!(
            "{id} was not imported; `moat snapshots ls` lists those that were"
        )));
    }
    Ok(Exit::Success)
}
