//! `agent check`: a definition and its manifest, without running anything.

use std::io::Write as _;

use moat_core::{MountRecord, MountSource};
use moat_harness::agent::AgentSpec;
use moat_sandbox::materialise::outline;
use serde_json::json;

use crate::cli::AgentCheckArgs;
use crate::escape::escape;
use crate::exit::{Exit, usage};

pub(crate) fn check(args: &AgentCheckArgs) -> anyhow::Result<Exit> {
    let spec = AgentSpec::load(&args.agent).map_err(usage)?;
    let (tree, mounts) = outline(&spec.manifest).map_err(usage)?;
    let mut out = std::io::stdout().lock();
    if args.json.json {
        let line = json!({
            "v": 1, "type": "agent", "name": spec.name, "hash": spec.hash(), "tree": tree,
            "mounts": mounts, "variables": spec.environment().keys().collect::<Vec<_>>(),
            "secret_variables": spec.secret_variables(),
        });
        writeln!(out, "{line}")?;
        return Ok(Exit::Success);
    }
    writeln!(out, "{} ({})", escape(&spec.name), spec.hash())?;
    for line in tree.lines() {
        writeln!(out, "{}", escape(line))?;
    }
    for mount in &mounts {
        writeln!(out, "{}", escape(&shown(mount)))?;
    }
    Ok(Exit::Success)
}

fn shown(mount: &MountRecord) -> String {
    let access = if mount.read_only { "read-only" } else { "writable" };
    match &mount.source {
        MountSource::Remote(remote) => {
            let names: Vec<_> = remote.secrets.values().map(String::as_str).collect();
            let keys = match names.is_empty() {
                true => "no credentials".to_owned(),
                false => format!("credentials {}", names.join(", ")),
            };
            format!("mount {} <- {}:{} ({access}, {keys})", mount.path, remote.backend, remote.path)
        }
        MountSource::Shared { name, sharing } => {
            format!("mount {} <- shared folder {name} ({sharing})", mount.path)
        }
    }
}
