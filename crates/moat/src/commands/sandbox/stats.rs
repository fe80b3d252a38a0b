//! `stats`: what a sandbox used, and what runs in it.

use std::io::Write as _;
use std::time::Duration;

use moat_core::{Metered, SandboxLimits};
use moat_sandbox::{GuestError, SandboxError};
use serde_json::json;

use super::Place;
use crate::cli::SandboxOneArgs;
use crate::exit::Exit;
use crate::view::{count, duration};

pub(super) async fn stats(place: &Place, args: &SandboxOneArgs) -> anyhow::Result<Exit> {
    let found = place.find(&args.sandbox).await?;
    let metered = match found.sandbox.metered().await {
        Ok(metered) => Some(metered),
        Err(SandboxError::Guest(GuestError::Unsupported(_))) => None,
        Err(error) => return Err(error.into()),
    };
    let processes = found.sandbox.guest().processes().await?;
    let running = processes.iter().filter(|process| process.exit.is_none()).count();
    let limits = found.record.settings.limits;
    let mut out = std::io::stdout().lock();
    if args.json {
        let shown = json!({ "v": 1, "id": found.record.id, "name": found.record.name,
            "commands": running, "metered": metered, "limits": limits });
        writeln!(out, "{shown}")?;
        return Ok(Exit::Success);
    }
    writeln!(out, "commands that run  {running}")?;
    match metered {
        Some(metered) => write_used(&mut out, &metered, &limits)?,
        None => writeln!(out, "used               this host does not say")?,
    }
    Ok(Exit::Success)
}

fn write_used(
    out: &mut impl std::io::Write,
    metered: &Metered,
    limits: &SandboxLimits,
) -> std::io::Result<()> {
    let mib = |bytes: u64| format!("{} MiB", count(bytes.div_ceil(1 << 20)));
    let of = |limit: Option<u64>| limit.map(|limit| format!(" of {}", mib(limit)));
    let time = |ms: u64| duration(Duration::from_millis(ms));
    writeln!(out, "processor time     {}", time(metered.cpu_ms))?;
    let memory = of(limits.memory_bytes).unwrap_or_default();
    writeln!(out, "memory at most     {}{memory}", mib(metered.peak_memory_bytes))?;
    writeln!(out, "read               {}", mib(metered.read_bytes))?;
    writeln!(out, "written            {}", mib(metered.written_bytes))?;
    writeln!(out, "since              {}", time(metered.wall_ms))
}
