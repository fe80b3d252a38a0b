use std::io::Write as _;

use moat_core::ByteSize;
use moat_snapshot::{Entry, Node, RootName};
use serde_json::{Value, json};

use super::{living, meant, taken_by};
use crate::cli::{SnapshotsDiffArgs, SnapshotsLsArgs, SnapshotsShowArgs};
use crate::commands::list::when;
use crate::engine::Engine;
use crate::escape::{escape, one_line};
use crate::exit::{Exit, usage};
use crate::view::count;

pub(super) async fn ls(engine: &Engine, args: &SnapshotsLsArgs) -> anyhow::Result<Exit> {
    let runs = match &args.run {
        Some(text) => vec![engine.find_by_text(text).await?],
        None => living(engine).await?,
    };
    let mut all = Vec::new();
    for run in runs {
        match taken_by(engine, run).await {
            Ok((taken, _)) => all.extend(taken),
            Err(error) if args.run.is_none() => {
                let why = escape(&format!("{error:#}"));
                let mut err = std::io::stderr().lock();
                writeln!(err, "left out: run {run}, which cannot be read: {why}")?;
            }
            Err(error) => return Err(error),
        }
    }
    let pins = if args.run.is_none() { engine.packs.pins().await? } else { Vec::new() };
    let mut out = std::io::stdout().lock();
    if args.json {
        let row = |one: &super::Taken| {
            json!({
                "v": 1, "run": one.run, "seq": one.seq, "snapshot": one.snapshot,
                "files": one.files, "bytes": one.bytes, "new_bytes": one.new_bytes, "at": one.at,
            })
        };
        let imported = pins.iter().map(|id| json!({ "v": 1, "imported": true, "snapshot": id }));
        let rows: Vec<Value> = all.iter().map(row).chain(imported).collect();
        writeln!(out, "{}", Value::Array(rows))?;
        return Ok(Exit::Success);
    }
    for one in &all {
        writeln!(
            out,
            "{}@{:<5} {}  {:>9} files  {:>8}  +{:<8} {}",
            one.run,
            one.seq.0,
            when(one.at),
            count(one.files),
            ByteSize(one.bytes).to_string(),
            ByteSize(one.new_bytes).to_string(),
            one.snapshot,
        )?;
    }
    for id in &pins {
        writeln!(out, "imported  {id}")?;
    }
    if all.is_empty() && pins.is_empty() {
        writeln!(out, "there are no snapshots")?;
    }
    Ok(Exit::Success)
}

pub(super) async fn show(engine: &Engine, args: &SnapshotsShowArgs) -> anyhow::Result<Exit> {
    let snapshot = meant(engine, &args.snapshot).await?;
    let tree = engine.snapshots.load(snapshot).await?;
    let shown = |root: RootName, entry: &Entry| match &args.path {
        None => true,
        Some(path) => {
            let (wanted, below) = match path.strip_prefix("~/").or(path.strip_prefix('~')) {
                Some(rest) => (RootName::Home, rest),
                None => (RootName::Workspace, path.as_str()),
            };
            wanted == root && entry.path.starts_with(below.trim_start_matches("./"))
        }
    };
    let roots = [(RootName::Workspace, &tree.workspace), (RootName::Home, &tree.home)];
    let mut all = roots
        .iter()
        .flat_map(|(root, listing)| listing.entries().iter().filter(|entry| shown(*root, entry)));
    if let Some(path) = args.path.as_deref().filter(|_| all.next().is_none()) {
        return Err(usage(format!("there is no `{}` in {snapshot}", one_line(path, 200))));
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        let entries = roots.iter().flat_map(|(root, listing)| {
            listing
                .entries()
                .iter()
                .filter(|entry| shown(*root, entry))
                .map(|entry| row(*root, entry))
        });
        let line = json!({
            "v": 1, "snapshot": snapshot, "files": tree.files(), "bytes": tree.bytes(),
            "entries": entries.collect::<Vec<_>>(),
        });
        writeln!(out, "{line}")?;
        return Ok(Exit::Success);
    }
    let (files, bytes) = (count(tree.files()), ByteSize(tree.bytes()));
    writeln!(out, "{snapshot}: {files} files, {bytes}")?;
    for (root, listing) in roots {
        for entry in listing.entries().iter().filter(|entry| shown(root, entry)) {
            writeln!(out, "{}", line(root, entry))?;
        }
    }
    Ok(Exit::Success)
}

fn name(root: RootName, entry: &Entry) -> String {
    let home = if root == RootName::Home { "~/" } else { "" };
    format!("{home}{}", one_line(&entry.path.display().to_string(), usize::MAX))
}

fn line(root: RootName, entry: &Entry) -> String {
    let (kind, size, target) = match &entry.node {
        Node::Dir => ('d', String::new(), String::new()),
        Node::File { size, .. } => ('-', size.to_string(), String::new()),
        Node::Symlink(target) => (
            'l',
            String::new(),
            format!(" -> {}", one_line(&target.display().to_string(), usize::MAX)),
        ),
    };
    let meta = &entry.meta;
    let name = name(root, entry);
    format!("{kind}{:04o} {:>5}:{:<5} {size:>12}  {name}{target}", meta.mode, meta.uid, meta.gid)
}

fn row(root: RootName, entry: &Entry) -> Value {
    let meta = &entry.meta;
    let mut row = json!({
        "root": root.as_str(), "path": entry.path.to_string_lossy(),
        "mode": meta.mode, "uid": meta.uid, "gid": meta.gid, "mtime_ns": meta.mtime_ns,
    });
    let more = match &entry.node {
        Node::Dir => json!({ "kind": "dir" }),
        Node::File { content, size, .. } => {
            json!({ "kind": "file", "size": size, "content": content })
        }
        Node::Symlink(target) => json!({ "kind": "symlink", "target": target.to_string_lossy() }),
    };
    if let (Some(row), Value::Object(more)) = (row.as_object_mut(), more) {
        row.extend(more);
    }
    row
}

pub(super) async fn diff(engine: &Engine, args: &SnapshotsDiffArgs) -> anyhow::Result<Exit> {
    let (from, to) = (meant(engine, &args.from).await?, meant(engine, &args.to).await?);
    let changes =
        engine.snapshots.diff(from, to).await.map_err(|error| usage(error.to_string()))?;
    let mut out = std::io::stdout().lock();
    let path = |root: RootName, path: &std::path::Path| {
        let home = if root == RootName::Home { "~/" } else { "" };
        format!("{home}{}", path.display())
    };
    if args.json {
        let rows: Vec<_> = changes
            .iter()
            .map(|one| json!({ "kind": one.kind.as_str(), "path": path(one.root, &one.path) }))
            .collect();
        writeln!(out, "{}", json!({ "v": 1, "from": from, "to": to, "changes": rows }))?;
        return Ok(Exit::Success);
    }
    for one in &changes {
        let path = one_line(&path(one.root, &one.path), usize::MAX);
        writeln!(out, "{:<9} {path}", one.kind.as_str())?;
    }
    Ok(Exit::Success)
}
