//! `logs`: a run's events, also while they come.

use std::io::Write as _;

use futures_util::StreamExt as _;
use moat_core::{Event, EventBody, Seq};
use moat_harness::decode;
use serde_json::Value;

use super::list::when;
use crate::cli::LogsArgs;
use crate::engine::Engine;
use crate::escape::one_line;
use crate::exit::Exit;
use crate::view::event_line;

/// Characters of a body that one line shows.
const BODY_CHARS: usize = 160;
const PAGE: usize = 256;

pub(crate) async fn logs(engine: &Engine, args: &LogsArgs) -> anyhow::Result<Exit> {
    let run = engine.find(&args.which).await?;
    if args.follow {
        let mut events = engine.journal.follow(&engine.tenant, run, Seq(0)).await?;
        while let Some(stored) = events.next().await {
            let event = decode(stored?)?;
            print(&event, args.json)?;
            if is_end(&event) {
                break;
            }
        }
        return Ok(Exit::Success);
    }
    let mut after = Seq(0);
    loop {
        let page = engine.journal.read(&engine.tenant, run, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(Exit::Success) };
        after = last.header.seq;
        for stored in page {
            print(&decode(stored)?, args.json)?;
        }
    }
}

/// Whether nothing comes for now, so that a follower does not wait for ever.
fn is_end(event: &Event) -> bool {
    matches!(event.body, EventBody::RunFinished(_) | EventBody::RunErased(_) | EventBody::Erased(_))
}

fn print(event: &Event, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        return writeln!(out, "{}", event_line(event, event.header.at));
    }
    let body = event.body.encode().unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    writeln!(
        out,
        "{:>5}  {}  {:<18}  {:<10}  {}",
        event.header.seq,
        when(event.header.at),
        event.header.kind,
        one_line(&event.header.actor, 10),
        one_line(&body.to_string(), BODY_CHARS)
    )
}
