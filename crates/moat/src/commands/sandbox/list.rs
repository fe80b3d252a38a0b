//! `ls` and `rm`.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::records::Record;
use super::{Place, network, say};
use crate::cli::{SandboxLsArgs, SandboxRmArgs};
use crate::commands::list::when;
use crate::exit::Exit;
use crate::view::duration;

/// Lists what lives, and forgets what has gone. Looking is no use: it does not lengthen a life.
pub(super) async fn list(place: &Place, args: &SandboxLsArgs) -> anyhow::Result<Exit> {
    let mut living = Vec::new();
    for record in place.records.all()? {
        if place.is_alive(&record).await? {
            living.push(record);
        } else {
            network::forget(place, record.run, &record.settings)?;
            place.records.remove(&record)?;
        }
    }
    place.sandboxes.reap().await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let rows: Vec<_> = living.iter().map(row).collect();
        writeln!(out, "{}", Value::Array(rows))?;
        return Ok(Exit::Success);
    }
    if living.is_empty() && !place.quiet {
        say("no sandboxes; `moat sandbox create` makes one");
    }
    for record in &living {
        writeln!(
            out,
            "{}  {:<20}  made {}  kept {} after its last use",
            record.id,
            record.name.as_deref().unwrap_or("-"),
            when(record.created_at),
            duration(Duration::from_secs(record.keep_seconds)),
        )?;
    }
    Ok(Exit::Success)
}

/// A row of the listing; shape version 1, documented in `docs/json.md`.
fn row(record: &Record) -> Value {
    json!({
        "v": 1,
        "id": record.id,
        "name": record.name,
        "created_at": record.created_at,
        "keep_seconds": record.keep_seconds,
        "settings": record.settings,
        "missing_fences": record.missing_fences,
    })
}

pub(super) async fn remove(place: &Place, args: &SandboxRmArgs) -> anyhow::Result<Exit> {
    let records = if args.all {
        place.records.all()?
    } else {
        // All have to be meant before any goes.
        args.sandboxes.iter().map(|text| place.records.find(text)).collect::<Result<_, _>>()?
    };
    for record in records {
        place.provider(&record)?.destroy(&record.handle).await?;
        network::forget(place, record.run, &record.settings)?;
        place.records.remove(&record)?;
    }
    Ok(Exit::Success)
}
