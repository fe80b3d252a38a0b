//! `show`: what happened in a run.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::Duration;

use moat_core::{EgressDecision, Event, EventBody, Item, RunId, Seq};
use moat_harness::decode;
use moat_harness::driver::status_word;
use moat_harness::machine::{State, Status};
use serde_json::{Value, json};

use super::list::when;
use super::take_up::state_of;
use crate::cli::ShowArgs;
use crate::engine::Engine;
use crate::escape::{escape, one_line};
use crate::exit::{Exit, usage};
use crate::view::{count, describe_call, duration, usd};

const PAGE: usize = 256;
/// Bytes of a kept output that are read at once.
const PIECE: usize = 1 << 20;

/// One call, as it is shown.
struct Call {
    number: String,
    tool: String,
    text: String,
    attempts: u32,
    report: Option<Value>,
    output: Option<String>,
    blob: Option<moat_core::BlobId>,
}

/// One turn, as it is shown.
struct Turn {
    number: u32,
    said: Vec<String>,
    calls: Vec<Call>,
    changed: Vec<String>,
    network: Vec<EgressDecision>,
    tokens: u64,
    ms: u64,
}

pub(crate) async fn show(engine: &Engine, args: &ShowArgs) -> anyhow::Result<Exit> {
    let run = engine.find(&args.which).await?;
    let state = state_of(engine, run).await?;
    let events = events_of(engine, run).await?;
    let turns = turns_of(&events);
    if let Some(number) = &args.output {
        return print_output(engine, &turns, number).await;
    }
    let times = (events.first().map(|e| e.header.at), events.last().map(|e| e.header.at));
    let (began, ended) = (times.0.unwrap_or_default(), times.1.unwrap_or_default());
    if args.json {
        print_json(&state, &turns, began, ended)?;
    } else {
        print_text(&state, &turns, began, ended)?;
    }
    Ok(Exit::Success)
}

/// All events of a run itself, without a fork's past.
pub(crate) async fn events_of(engine: &Engine, run: RunId) -> anyhow::Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut after = Seq(0);
    loop {
        let page = engine.journal.read(&engine.tenant, run, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(events) };
        after = last.header.seq;
        for stored in page {
            events.push(decode(stored)?);
        }
    }
}

fn turns_of(events: &[Event]) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    let mut places: HashMap<(Seq, u32), (usize, usize)> = HashMap::new();
    for event in events {
        match &event.body {
            EventBody::ModelAnswered(answered) => {
                turns.push(Turn {
                    number: answered.turn,
                    said: answered.output.iter().filter_map(Item::message_text).collect(),
                    calls: Vec::new(),
                    changed: Vec::new(),
                    network: Vec::new(),
                    tokens: answered.usage.total_tokens,
                    ms: answered.duration_ms,
                });
                let turn = turns.len() - 1;
                for (index, item) in (0u32..).zip(&answered.output) {
                    let fields = item.fields();
                    let (Some(_), Some(tool)) = (&fields.call_id, &fields.name) else { continue };
                    let Some(last) = turns.last_mut() else { continue };
                    last.calls.push(Call {
                        number: format!("{}.{index}", event.header.seq),
                        tool: tool.clone(),
                        text: describe_call(tool, &fields),
                        attempts: 0,
                        report: None,
                        output: None,
                        blob: None,
                    });
                    places.insert((event.header.seq, index), (turn, last.calls.len() - 1));
                }
            }
            EventBody::CallStarted(started) => {
                if let Some(call) = call_at(&mut turns, &places, started.of, started.index) {
                    call.attempts = started.attempt;
                }
            }
            EventBody::CallFinished(finished) => {
                if let Some(call) = call_at(&mut turns, &places, finished.of, finished.index) {
                    call.report = Some(json!(finished.report));
                    let output = finished.output.as_ref().and_then(|item| item.fields().output);
                    call.output =
                        output.map(|o| o.as_str().map_or_else(|| o.to_string(), str::to_owned));
                    call.blob = finished.report.output.as_ref().and_then(|output| output.blob);
                }
            }
            EventBody::EgressDecided(decided) => {
                if let Some(turn) = turns.last_mut() {
                    turn.network.extend(decided.decisions.iter().cloned());
                }
            }
            EventBody::Checkpointed(checkpoint) => {
                if let Some(turn) = turns.last_mut() {
                    turn.changed.extend(checkpoint.changed.iter().cloned());
                }
            }
            _ => {}
        }
    }
    turns
}

fn call_at<'a>(
    turns: &'a mut [Turn],
    places: &HashMap<(Seq, u32), (usize, usize)>,
    of: Seq,
    index: u32,
) -> Option<&'a mut Call> {
    let (turn, call) = places.get(&(of, index))?;
    turns.get_mut(*turn)?.calls.get_mut(*call)
}

async fn print_output(engine: &Engine, turns: &[Turn], number: &str) -> anyhow::Result<Exit> {
    let mut calls = turns.iter().flat_map(|turn| &turn.calls);
    let call = calls.find(|call| call.number == number);
    let call = call.ok_or_else(|| usage(format!("this run has no call `{number}`")))?;
    let mut out = std::io::stdout().lock();
    let Some(blob) = call.blob else {
        let text = call.output.as_deref().unwrap_or_default();
        let text = text.split_once("Output:\n").map_or(text, |(_, text)| text);
        write_bytes(&mut out, text.as_bytes())?;
        return Ok(Exit::Success);
    };
    engine.blobs.verify(blob).await?;
    let mut offset = 0;
    loop {
        let bytes = engine.blobs.read(blob, offset, PIECE).await?;
        if bytes.is_empty() {
            return Ok(Exit::Success);
        }
        write_bytes(&mut out, &bytes)?;
        offset += bytes.len() as u64;
    }
}

/// Exact in a pipe; on a terminal nothing in it may act.
fn write_bytes(out: &mut std::io::StdoutLock<'_>, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::IsTerminal as _;
    if out.is_terminal() {
        return out.write_all(escape(&String::from_utf8_lossy(bytes)).as_bytes());
    }
    out.write_all(bytes)
}

fn status_text(state: &State) -> String {
    let word = status_word(state);
    match state.status() {
        Status::Finished(moat_core::RunOutcome::Error { error, message }) => {
            format!("{word}: {error}: {message}")
        }
        Status::Paused(_, message) if !message.is_empty() => format!("{word}: {message}"),
        Status::Limited { limit, value } => format!("{word}: {value} {limit}"),
        _ => word.to_owned(),
    }
}

fn print_json(state: &State, turns: &[Turn], began: u64, ended: u64) -> std::io::Result<()> {
    let turns: Vec<_> = turns
        .iter()
        .map(|turn| {
            let calls = turn.calls.iter();
            let calls: Vec<_> = calls
                .map(|call| {
                    json!({
                        "call": call.number, "tool": call.tool, "text": call.text,
                        "attempts": call.attempts, "report": call.report, "output": call.output,
                    })
                })
                .collect();
            json!({
                "turn": turn.number, "said": turn.said, "calls": calls, "changed": turn.changed,
                "network": turn.network, "tokens": turn.tokens, "model_ms": turn.ms,
            })
        })
        .collect();
    let shown = json!({
        "v": 1,
        "run": state.run(),
        "status": status_word(state),
        "status_text": status_text(state),
        "agent": state.agent().name,
        "model": state.model(),
        "labels": state.labels(),
        "folder": state.origin().map(|origin| &origin.folder),
        "allowed_missing_fences": state.allow_missing(),
        "sandbox_settings": state.sandbox_settings(),
        "sandbox": state.sandbox().map(|sandbox| json!({
            "provider": sandbox.provider, "nonce": sandbox.nonce, "handle": sandbox.handle,
            "missing_fences": sandbox.missing_fences, "notes": sandbox.notes,
        })),
        "head": state.head(),
        "checkpoint": state.checkpoint().map(|(seq, id)| json!({ "seq": seq, "snapshot": id })),
        "turns": turns,
        "usage": state.usage(),
        "cost_usd": state.cost().as_usd(),
        "started_at": began,
        "updated_at": ended,
        "last_message": state.last_message(),
    });
    writeln!(std::io::stdout().lock(), "{shown}")
}

/// What is special about a sandbox, for people.
fn note_in_words(name: &str) -> String {
    match name {
        "commands_are_root" => "commands are root of the sandbox, with some capabilities in it",
        "one_owner" => "all files of the image belong to the sandbox's one user",
        "owners_hidden" => "files of the image belong to nobody inside",
        other => return crate::view::not_kept(other).unwrap_or_else(|| escape(other)),
    }
    .to_owned()
}

fn print_text(state: &State, turns: &[Turn], began: u64, ended: u64) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let run = state.run().map(|run| run.to_string()).unwrap_or_default();
    let label = state.labels().get("model").map(|l| format!(" ({l})")).unwrap_or_default();
    writeln!(out, "run     {run}")?;
    writeln!(out, "status  {}", one_line(&status_text(state), 400))?;
    writeln!(out, "agent   {} · {}{label}", escape(&state.agent().name), escape(state.model()))?;
    if let Some(origin) = state.origin() {
        writeln!(out, "folder  {}", escape(&origin.folder))?;
    }
    if !state.allow_missing().is_empty() {
        writeln!(out, "fences  allowed to be missing: {}", state.allow_missing().join(", "))?;
    }
    for note in state.sandbox().iter().flat_map(|sandbox| &sandbox.notes) {
        writeln!(out, "note    {}", note_in_words(note))?;
    }
    let took = duration(Duration::from_millis(ended.saturating_sub(began)));
    writeln!(out, "time    {} · {took}", when(began))?;
    let usage = state.usage();
    let cost =
        if state.cost().0 > 0 { usd(state.cost().as_usd()) } else { "unknown or none".into() };
    writeln!(
        out,
        "tokens  {} in ({} cached), {} out · cost {cost}",
        count(usage.input_tokens),
        count(usage.cached_tokens),
        count(usage.output_tokens)
    )?;
    for turn in turns {
        let model = duration(Duration::from_millis(turn.ms));
        writeln!(out, "\nturn {} · {} tokens · model {model}", turn.number, count(turn.tokens))?;
        for said in turn.said.iter().filter(|said| !said.trim().is_empty()) {
            for line in escape(said).lines() {
                writeln!(out, "  {line}")?;
            }
        }
        for call in &turn.calls {
            print_call(&mut out, call)?;
        }
        for decision in turn.network.iter().take(20) {
            writeln!(out, "  {}", network_line(decision))?;
        }
        if turn.network.len() > 20 {
            writeln!(out, "  network: {} more (--json has all)", turn.network.len() - 20)?;
        }
        if !turn.changed.is_empty() {
            let shown: Vec<_> =
                turn.changed.iter().take(8).map(|path| one_line(path, 60)).collect();
            let more = turn.changed.len().saturating_sub(8);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            writeln!(out, "  changed: {}{more}", shown.join(", "))?;
        }
    }
    Ok(())
}

fn network_line(decision: &EgressDecision) -> String {
    let word = if decision.allowed { "allowed" } else { "denied" };
    let request = match (&decision.method, &decision.path) {
        (Some(method), Some(path)) => format!(" {method} {path}"),
        _ => String::new(),
    };
    let times = if decision.count > 1 { format!(" ×{}", decision.count) } else { String::new() };
    let reason = decision.reason.as_ref().map(|reason| format!(" ({})", reason.replace('_', " ")));
    let secrets = match decision.secrets.is_empty() {
        true => String::new(),
        false => format!(" with {}", decision.secrets.join(", ")),
    };
    let place = format!("{}:{}", decision.host, decision.port);
    let reason = reason.unwrap_or_default();
    one_line(&format!("network {word}: {place}{request}{secrets}{reason}{times}"), 160)
}

fn print_call(out: &mut impl std::io::Write, call: &Call) -> std::io::Result<()> {
    writeln!(out, "  [{}] {}", call.number, one_line(&call.text, 120))?;
    let Some(report) = &call.report else { return writeln!(out, "      no outcome yet") };
    let number = |name: &str| report.get(name).and_then(Value::as_u64);
    let exit = report.get("exit_code").and_then(Value::as_i64);
    let ended = match exit {
        Some(code) => format!("exit {code}"),
        None if report.get("session").is_some_and(|s| !s.is_null()) => "goes on".to_owned(),
        None if report.get("failed").is_some() => "failed".to_owned(),
        None => "ok".to_owned(),
    };
    let took = duration(Duration::from_millis(number("wall_ms").unwrap_or_default()));
    let tries =
        if call.attempts > 1 { format!(" · attempt {}", call.attempts) } else { String::new() };
    let whole = match &call.blob {
        Some(_) => format!(" · whole output: moat show RUN --output {}", call.number),
        None => String::new(),
    };
    writeln!(out, "      {ended} · {took}{tries}{whole}")
}
