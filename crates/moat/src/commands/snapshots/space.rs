use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use moat_core::ByteSize;
use serde_json::json;

use crate::cli::JsonArg;
use crate::engine::Engine;
use crate::escape::escape;
use crate::exit::Exit;

/// What the folders of the data folder hold.
const FOLDERS: &[(&str, &str)] = &[
    ("snapshots", "files of runs, in packs"),
    ("blobs", "outputs of commands, large events"),
    ("sandboxes", "sandboxes that live, and workspaces kept for forks"),
    ("images", "images and their layers"),
    ("cache", "what can be fetched again"),
    ("spool", "outputs that are being taken in"),
    ("writeback", "what `undo` needs"),
];

/// `du`: what Moat takes on this machine, and what its snapshots hold.
pub(crate) async fn du(engine: &Engine, args: &JsonArg) -> anyhow::Result<Exit> {
    let usage = engine.packs.usage().await?;
    let mut rows = Vec::new();
    let mut known = 0;
    let all = used(&engine.home.data);
    for (folder, what) in FOLDERS {
        let bytes = used(&engine.home.data.join(folder));
        if bytes > 0 {
            known += bytes;
            rows.push((*folder, *what, bytes));
        }
    }
    rows.push(("journal", "events of runs, and the rest", all.saturating_sub(known)));
    let mut out = std::io::stdout().lock();
    if args.json {
        let folders: Vec<_> =
            rows.iter().map(|(name, _, bytes)| json!({ "name": name, "bytes": bytes })).collect();
        let line = json!({
            "v": 1, "data_dir": engine.home.data.to_string_lossy(), "bytes": all,
            "folders": folders,
            "packs": {
                "count": usage.packs, "bytes": usage.bytes, "entries": usage.entries,
                "raw_bytes": usage.raw_bytes,
            },
        });
        writeln!(out, "{line}")?;
        return Ok(Exit::Success);
    }
    for (name, what, bytes) in &rows {
        writeln!(out, "{:>9}  {name:<10} {what}", ByteSize(*bytes).to_string())?;
    }
    let folder = engine.home.data.display().to_string();
    writeln!(out, "{:>9}  in {}", ByteSize(all).to_string(), escape(&folder))?;
    writeln!(
        out,
        "snapshots: {} packs, {}, of {} before they were compressed",
        usage.packs,
        ByteSize(usage.bytes),
        ByteSize(usage.raw_bytes)
    )?;
    Ok(Exit::Success)
}

/// Bytes that a folder takes on its disk. What cannot be read is not counted.
fn used(folder: &Path) -> u64 {
    let mut total: u64 = 0;
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            total = total.saturating_add(meta.blocks() * 512);
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
    total
}
