//! `runs`: the listing.

use std::io::Write as _;

use moat_journal::Listed;
use serde_json::{Value, json};

use crate::cli::RunsArgs;
use crate::engine::Engine;
use crate::escape::one_line;
use crate::exit::Exit;
use crate::view::{count, usd};

pub(crate) async fn runs(engine: &Engine, args: &RunsArgs) -> anyhow::Result<Exit> {
    let listed = engine.journal.list(&engine.tenant, args.limit).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let rows: Vec<Value> = listed.iter().map(row).collect();
        writeln!(out, "{}", Value::Array(rows))?;
        return Ok(Exit::Success);
    }
    if listed.is_empty() {
        writeln!(out, "no runs yet; `moat exec \"…\"` starts one, `moat demo` shows one")?;
    }
    for listed in &listed {
        let row = row(listed);
        let text =
            |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |name: &str| row.get(name).and_then(Value::as_u64).unwrap_or_default();
        let tokens = number("input_tokens") + number("output_tokens");
        let cost = row.get("cost_usd").and_then(Value::as_f64).unwrap_or_default();
        writeln!(
            out,
            "{}  {:<9}  {}  {:>3} turns  {:>9} tokens  {:>8}  {}",
            listed.run,
            shown_status(listed, &text("status")),
            when(listed.updated_at),
            number("turns"),
            count(tokens),
            if cost > 0.0 { usd(cost) } else { "-".to_owned() },
            one_line(&text("prompt"), 60),
        )?;
    }
    Ok(Exit::Success)
}

/// A run that goes on by its journal, and that nobody drives, was interrupted.
fn shown_status(listed: &Listed, status: &str) -> String {
    if status == "running" && !listed.owned { "stopped".to_owned() } else { status.to_owned() }
}

/// The status, as the listing has it.
fn status(listed: &Listed) -> &str {
    match &listed.index {
        Some(index) => &index.status,
        None if listed.erased => "erased",
        None => "unreadable",
    }
}

/// A row of the listing; shape version 1, documented in `docs/json.md`.
pub(crate) fn row(listed: &Listed) -> Value {
    let mut row = json!({
        "v": 1,
        "run": listed.run,
        "status": status(listed),
        "owned": listed.owned,
        "head": listed.head,
        "created_at": listed.created_at,
        "updated_at": listed.updated_at,
    });
    let facts = listed.index.as_ref().and_then(|index| serde_json::from_str(&index.facts).ok());
    if let (Some(row), Some(Value::Object(facts))) = (row.as_object_mut(), facts) {
        row.extend(facts);
    }
    row
}

/// A moment for people, by the local clock.
pub(crate) fn when(unix_ms: u64) -> String {
    let millis = i64::try_from(unix_ms).unwrap_or_default();
    let moment = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    moment.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}
