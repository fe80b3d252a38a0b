//! `diff`: what a run changed in its files.

use std::io::{IsTerminal as _, Write as _};

use moat_core::{EventBody, RunId, Seq, SnapshotId};
use moat_harness::machine::State;
use moat_snapshot::{Change, ContentKind, Entry, Node, RootName};
use serde_json::{Value, json};

use super::ignored::Ignored;
use super::show::events_of;
use super::take_up::state_of;
use crate::cli::DiffArgs;
use crate::engine::Engine;
use crate::escape::escape;
use crate::exit::{Exit, usage};

/// Files up to this size are shown line by line.
const MAX_DIFFED: u64 = 1 << 20;

pub(crate) async fn diff(engine: &Engine, args: &DiffArgs) -> anyhow::Result<Exit> {
    let run = engine.find(&args.which).await?;
    let state = state_of(engine, run).await?;
    let (from, to) = ends(engine, run, &state, args.range.as_deref()).await?;
    let changes = engine.snapshots.diff(from, to).await?;
    let all = changes.len();
    let changes = shown_changes(engine, &state, changes, args.all).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let rows: Vec<Value> = changes.iter().map(row).collect();
        writeln!(
            out,
            "{}",
            json!({ "v": 1, "run": run, "from": from, "to": to, "changes": rows })
        )?;
        return Ok(Exit::Success);
    }
    for change in &changes {
        if args.stat {
            writeln!(out, "{:<9} {}", change.kind.as_str(), name(change))?;
        } else {
            print_change(engine, &mut out, change).await?;
        }
    }
    let hidden = all - changes.len();
    if hidden > 0 && !engine.quiet {
        let note = format!("not shown (home folder, or ignored by git; see --all): {hidden}");
        writeln!(std::io::stderr().lock(), "{note}")?;
    }
    Ok(Exit::Success)
}

/// Without `--all` only the project itself, without what it ignores.
async fn shown_changes(
    engine: &Engine,
    state: &State,
    mut changes: Vec<Change>,
    all: bool,
) -> anyhow::Result<Vec<Change>> {
    if let Some(base) = state.first_checkpoint().filter(|_| !all) {
        let ignored = Ignored::at(engine, base).await?;
        let in_git =
            |change: &Change| change.path.components().any(|part| part.as_os_str() == ".git");
        changes.retain(|change| {
            change.root == RootName::Workspace && !in_git(change) && !ignored.hides(&change.path)
        });
    }
    Ok(changes)
}

/// The snapshots that are compared: `A..B` by event, else the first and the last.
async fn ends(
    engine: &Engine,
    run: RunId,
    state: &State,
    range: Option<&str>,
) -> anyhow::Result<(SnapshotId, SnapshotId)> {
    let none = || usage(format!("run {run} has no files"));
    let first = state.first_checkpoint().ok_or_else(none)?;
    let (_, last) = state.checkpoint().ok_or_else(none)?;
    let Some(range) = range else { return Ok((first, last)) };
    let wrong = || usage(format!("`{range}` is no range of events; write A..B, such as 1..42"));
    let (from, to) = range.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().map(Seq).map_err(|_| wrong());
    let checkpoints: Vec<_> = events_of(engine, run)
        .await?
        .into_iter()
        .filter_map(|event| match event.body {
            EventBody::Checkpointed(checkpoint) => Some((event.header.seq, checkpoint.snapshot)),
            _ => None,
        })
        .collect();
    let at = |seq: Seq| checkpoints.iter().rev().find(|(at, _)| *at <= seq).map_or(first, |c| c.1);
    let from = if from.is_empty() { first } else { at(number(from)?) };
    let to = if to.is_empty() { last } else { at(number(to)?) };
    Ok((from, to))
}

fn name(change: &Change) -> String {
    let path = escape(&change.path.to_string_lossy());
    match change.root {
        RootName::Workspace => path,
        RootName::Home => format!("~/{path}"),
    }
}

fn row(change: &Change) -> Value {
    let mode = |entry: &Option<Entry>| entry.as_ref().map(|entry| format!("{:o}", entry.meta.mode));
    json!({
        "root": if change.root == RootName::Home { "home" } else { "workspace" },
        "path": change.path.to_string_lossy(),
        "kind": change.kind.as_str(),
        "content": change.content,
        "mode_before": mode(&change.before),
        "mode_after": mode(&change.after),
    })
}

async fn print_change(
    engine: &Engine,
    out: &mut impl std::io::Write,
    change: &Change,
) -> anyhow::Result<()> {
    let name = name(change);
    let (before, after) = (&change.before, &change.after);
    let text = change.content == Some(ContentKind::Text);
    let small = [before, after].into_iter().flatten().all(|entry| match entry.node {
        Node::File { size, .. } => size <= MAX_DIFFED,
        _ => false,
    });
    if !text || !small {
        let what = if text { "" } else { " (not text)" };
        writeln!(out, "{} {name}{what}", change.kind.as_str())?;
        return Ok(());
    }
    let (old, new) = (text_of(engine, before).await?, text_of(engine, after).await?);
    let labels = (
        if before.is_some() { format!("a/{name}") } else { "/dev/null".to_owned() },
        if after.is_some() { format!("b/{name}") } else { "/dev/null".to_owned() },
    );
    if old == new {
        let mode = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry.meta.mode);
        writeln!(
            out,
            "{} {name} (mode {:o} → {:o})",
            change.kind.as_str(),
            mode(before),
            mode(after)
        )?;
        return Ok(());
    }
    let difference = similar::TextDiff::from_lines(&old, &new);
    let shown = difference.unified_diff().header(&labels.0, &labels.1).to_string();
    // On a terminal nothing in a file may act; in a pipe the diff stays exact.
    let shown = if std::io::stdout().is_terminal() { escape(&shown) } else { shown };
    write!(out, "{shown}")?;
    Ok(())
}

async fn text_of(engine: &Engine, entry: &Option<Entry>) -> anyhow::Result<String> {
    let Some(Entry { node: Node::File { content, .. }, .. }) = entry else {
        return Ok(String::new());
    };
    let bytes = engine.snapshots.read_file(*content, MAX_DIFFED).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
