//! `export` and `import`: a whole run as one file, a tar archive of what the harness writes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use moat_archive::{Archive, ArchiveLimits, ExtractError, Rules, extract};
use moat_harness::OpenRunError;
use moat_harness::transfer::{Dropped, Exported, Imported, TransferError, Trust};
use serde_json::json;

use super::take_up::{explain, no_model};
use crate::cli::{ExportArgs, ImportArgs};
use crate::engine::Engine;
use crate::escape::escape;
use crate::exit::{Exit, usage};

pub(crate) async fn export(engine: &Engine, args: &ExportArgs) -> anyhow::Result<Exit> {
    let run = engine.find(&args.which).await?;
    let to_stdout = args.output == Path::new("-");
    if to_stdout && args.moves {
        return Err(usage("a move needs a file: standard output may be lost on its way"));
    }
    let harness = engine.harness(no_model(), Default::default(), &[])?;
    let folder = scratch(engine)?;
    let exported = harness.export(run, folder.path(), args.moves).await;
    let exported = exported.map_err(|error| told(run, error))?;
    if to_stdout {
        write_archive(folder.path(), std::io::stdout().lock())?;
    } else {
        write_file(folder.path(), &args.output)?;
    }
    report(engine, args, &exported)?;
    let moves = args.moves;
    exported.seal().await.map_err(|error| told(run, error))?;
    if moves && !engine.quiet && !args.json {
        let note =
            format!("run {run} goes on where it is imported; here it can be read and forked");
        writeln!(std::io::stderr().lock(), "{note}")?;
    }
    Ok(Exit::Success)
}

fn report(engine: &Engine, args: &ExportArgs, exported: &Exported) -> anyhow::Result<()> {
    let Exported { run, head, events, contents, bytes, .. } = exported;
    if args.json && args.output != Path::new("-") {
        let line = json!({
            "v": 1, "run": run, "head": head, "file": args.output, "moved": args.moves,
            "events": events, "contents": contents, "bytes": bytes,
        });
        writeln!(std::io::stdout().lock(), "{line}")?;
    } else if !engine.quiet {
        let mut err = std::io::stderr().lock();
        writeln!(err, "run {run}: {events} events, {contents} files and outputs of {bytes} bytes")?;
        writeln!(err, "the file is not encrypted: whoever has it can read all of the run")?;
    }
    Ok(())
}

pub(crate) async fn import(engine: &Engine, args: &ImportArgs) -> anyhow::Result<Exit> {
    let folder = scratch(engine)?;
    unpack(&args.file, folder.path())?;
    let harness = engine.harness(no_model(), Default::default(), &[])?;
    let trust = if args.trust { Trust::Own } else { Trust::Nobody };
    let imported = harness.import(folder.path(), trust).await.map_err(|error| match error {
        TransferError::Malformed(_) | TransferError::TooNew(_) | TransferError::Inconsistent(_) => {
            usage(error)
        }
        error => error.into(),
    })?;
    let Imported { run, source, head, moved, dropped } = &imported;
    if args.json {
        let words: Vec<_> = dropped.iter().map(|what| what.as_str()).collect();
        let line = json!({
            "v": 1, "run": run, "source": source, "head": head, "moved": moved, "dropped": words,
        });
        writeln!(std::io::stdout().lock(), "{line}")?;
        return Ok(Exit::Success);
    }
    writeln!(std::io::stdout().lock(), "{run}")?;
    if !engine.quiet {
        let mut err = std::io::stderr().lock();
        if run != source {
            writeln!(err, "a copy of run {source}, which may still go on where it is")?;
        }
        for what in dropped {
            writeln!(err, "not taken over: {}", in_words(*what))?;
        }
        writeln!(err, "next: moat show {run}, moat resume {run}")?;
    }
    Ok(Exit::Success)
}

fn in_words(what: Dropped) -> &'static str {
    match what {
        Dropped::Folder => {
            "the folder that its changes go back to (`moat apply --to DIR` names one)"
        }
        Dropped::Network => "its network and secrets (`--trust` takes them over)",
        Dropped::Mounts => "its mounts and shared folders (`--trust` takes them over)",
        Dropped::Fences => "its leave to run without some fences (`--trust` takes it over)",
        Dropped::Labels => "its labels (`--trust` takes them over)",
        Dropped::Sandboxes => {
            "where its sandboxes are made (`moat resume --sandbox` says where; `--trust` takes it \
             over)"
        }
    }
}

fn told(run: moat_core::RunId, error: TransferError) -> anyhow::Error {
    match error {
        TransferError::Open(error) => explain(run, error),
        TransferError::Claim(error) => explain(run, OpenRunError::Claim(error)),
        error => error.into(),
    }
}

/// A folder that goes with the command, on the file system of the data.
fn scratch(engine: &Engine) -> anyhow::Result<tempfile::TempDir> {
    let scratch = engine.home.data.join("scratch");
    crate::home::make_private(&scratch)?;
    tempfile::tempdir_in(&scratch)
        .with_context(|| format!("cannot make a folder in `{}`", scratch.display()))
}

/// All of it or nothing, and durable when it is there.
fn write_file(folder: &Path, path: &Path) -> anyhow::Result<()> {
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let beside = beside.unwrap_or(Path::new("."));
    let failed = || format!("cannot write `{}`", path.display());
    // Readable by nobody else: it holds everything that was said.
    let mut file = tempfile::NamedTempFile::new_in(beside).with_context(failed)?;
    write_archive(folder, &mut file).with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    file.persist(path).with_context(failed)?;
    File::open(beside).and_then(|folder| folder.sync_all()).with_context(failed)
}

fn write_archive(folder: &Path, out: impl Write) -> anyhow::Result<()> {
    let mut archive = tar::Builder::new(BufWriter::new(out));
    archive.mode(tar::HeaderMode::Deterministic);
    archive.follow_symlinks(false);
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().into());
    }
    names.sort();
    for name in names {
        let path = folder.join(&name);
        if path.is_dir() {
            archive.append_dir_all(&name, &path)?;
        } else {
            archive.append_path_with_name(&path, &name)?;
        }
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

/// Checks the whole archive, then takes it out into a folder that is ours alone.
fn unpack(path: &Path, folder: &Path) -> anyhow::Result<()> {
    let file = File::open(path)
        .map_err(|error| usage(format!("cannot read `{}`: {error}", path.display())))?;
    if file.metadata()?.is_dir() {
        return Err(usage(format!("`{}` is a folder and no export of a run", path.display())));
    }
    let limits = ArchiveLimits {
        members: 16_000_000,
        extracted_bytes: 1 << 50,
        input_bytes: 1 << 50,
        ..ArchiveLimits::default()
    };
    let refused = |error: &dyn std::fmt::Display| {
        let text = format!("`{}` is no export of a run: {error}", path.display());
        usage(escape(&text))
    };
    let rules = Rules { limits, ..Rules::import() };
    let mut archive = Archive::open(file, &rules).map_err(|error| refused(&error))?;
    let into = File::open(folder)?;
    extract(&mut archive, &into.into()).map_err(|error| match error {
        // Of this machine, not of the archive.
        ExtractError::Write { .. } => anyhow::Error::from(error).context(format!(
            "cannot unpack `{}` in `{}`, in the data folder",
            path.display(),
            folder.display()
        )),
        refusal => refused(&refusal),
    })?;
    match folder.join("run.json").exists() {
        true => Ok(()),
        false => Err(refused(&"it has no `run.json`")),
    }
}
