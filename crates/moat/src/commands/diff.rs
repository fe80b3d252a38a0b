//! `diff`: what a run changed in its files, and what was said meanwhile.

mod conversation;
mod size;

use std::io::{IsTerminal as _, Write as _};

use moat_core::{RunId, Seq, SnapshotId};
use moat_harness::history::History;
use moat_harness::machine::State;
use moat_snapshot::{Change, ContentKind, Entry, Node, RootName};
use serde_json::{Value, json};

use self::conversation::Said;
use super::ignored::Ignored;
use super::take_up::{history_of, state_of};
use crate::cli::DiffArgs;
use crate::engine::Engine;
use crate::escape::escape;
use crate::exit::{Exit, usage};

pub(super) use size::{DiffSize, size_of};

/// Files up to this size are shown line by line.
const MAX_DIFFED: u64 = 1 << 20;

pub(crate) async fn diff(engine: &Engine, args: &DiffArgs) -> anyhow::Result<Exit> {
    let run = engine.find(&args.which).await?;
    let state = state_of(engine, run).await?;
    let history = history_of(engine, run).await?;
    let range = args.range.as_deref().map(range).transpose()?;
    let said = match (args.files, args.conversation || args.json, range) {
        (true, ..) | (_, false, None) => Vec::new(),
        (_, _, range) => {
            let (from, to) = range.unwrap_or_default();
            conversation::between(
                history.own_events(),
                from.unwrap_or(Seq(0)),
                to.unwrap_or(Seq(u64::MAX)),
            )
        }
    };
    let (from, to) = ends(&history, run, &state, range)?;
    let changes = engine.snapshots.diff(from, to).await?;
    let all = changes.len();
    let changes = shown_changes(engine, &state, changes, args.all).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let rows: Vec<Value> = changes.iter().map(row).collect();
        writeln!(
            out,
            "{}",
            json!({
                "v": 1, "run": run, "from": from, "to": to, "changes": rows,
                "conversation": said.iter().map(Said::row).collect::<Vec<_>>(),
            })
        )?;
        return Ok(Exit::Success);
    }
    for said in &said {
        said.print(&mut out)?;
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
pub(super) async fn shown_changes(
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

/// `A..B`; either may be left out.
fn range(text: &str) -> anyhow::Result<(Option<Seq>, Option<Seq>)> {
    let wrong = || usage(format!("`{text}` is no range of events; write A..B, such as 1..42"));
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| match text {
        "" => Ok(None),
        text => text.parse::<u64>().map(|number| Some(Seq(number))).map_err(|_| wrong()),
    };
    Ok((number(from)?, number(to)?))
}

/// The snapshots that are compared: those at or before the events, else the first and the last.
fn ends(
    history: &History,
    run: RunId,
    state: &State,
    range: Option<(Option<Seq>, Option<Seq>)>,
) -> anyhow::Result<(SnapshotId, SnapshotId)> {
    let none = || usage(format!("run {run} has no files"));
    let first = state.first_checkpoint().ok_or_else(none)?;
    let (_, last) = state.checkpoint().ok_or_else(none)?;
    let Some((from, to)) = range else { return Ok((first, last)) };
    let at = |seq: Option<Seq>, otherwise| match seq {
        None => otherwise,
        Some(seq) => history.files_at(Some(seq)).map_or(first, |(_, snapshot)| snapshot),
    };
    Ok((at(from, first), at(to, last)))
}

pub(super) fn name(change: &Change) -> String {
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
