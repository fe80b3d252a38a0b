//! What is put into a run's inbox: `cancel`, `steer`, `approve`, `reject`; and `approvals`.

use std::io::{IsTerminal as _, Write as _};

use moat_core::RunId;
use moat_harness::Changes;
use moat_harness::machine::State;
use moat_journal::{Claim, InboxEntry};
use serde_json::{Value, json};

use super::take_up::{explain, prepare, state_of};
use crate::cli::{
    ApprovalsArgs, CancelArgs, DecideArgs, LimitArgs, ModelArgs, OutputArgs, SteerArgs,
};
use crate::drive::drive;
use crate::engine::Engine;
use crate::escape::one_line;
use crate::exit::{Exit, usage};

pub(crate) async fn cancel(engine: &Engine, args: &CancelArgs) -> anyhow::Result<Exit> {
    let run = engine.find(&args.which).await?;
    refuse_if_over(&state_of(engine, run).await?)?;
    post(engine, run, "cancel", json!({ "reason": args.reason })).await?;
    if engine.journal.holder(&engine.tenant, run).await?.is_none() {
        // Nobody drives it, so ending it is up to this process. It asks no model.
        let harness = engine.harness(super::take_up::no_model(), Default::default(), &[])?;
        let driver = harness.resume(run, Claim::IfFree, Changes::default()).await;
        let mut driver = driver.map_err(|error| explain(run, error))?;
        driver.drive().await?;
    }
    say(&format!("run {run}: asked to end"), engine);
    Ok(Exit::Success)
}

pub(crate) async fn steer(engine: &Engine, args: SteerArgs) -> anyhow::Result<Exit> {
    let run = engine.find_by_text(&args.run).await?;
    if args.text.trim().is_empty() {
        return Err(usage("the message is empty"));
    }
    refuse_if_over(&state_of(engine, run).await?)?;
    post(engine, run, "steer", json!({ "text": args.text })).await?;
    let drive_on = args.drive || std::io::stdin().is_terminal();
    Box::pin(drive_or_say(engine, run, drive_on, &args.model, &args.output)).await
}

pub(crate) async fn decide(engine: &Engine, args: DecideArgs, yes: bool) -> anyhow::Result<Exit> {
    let run = engine.find_by_text(&args.run).await?;
    let state = state_of(engine, run).await?;
    let call_id = the_call(&state, args.call.as_deref())?;
    let kind = if yes { "approve" } else { "reject" };
    let body = json!({ "call_id": call_id, "message": args.message, "always": args.always });
    post(engine, run, kind, body).await?;
    let drive_on = args.drive || (!args.no_drive && std::io::stdin().is_terminal());
    Box::pin(drive_or_say(engine, run, drive_on, &args.model, &args.output)).await
}

fn refuse_if_over(state: &State) -> anyhow::Result<()> {
    use moat_harness::OpenRunError;
    use moat_harness::machine::Status;
    match (state.status(), state.run()) {
        (Status::Finished(_) | Status::Erased, Some(run)) => {
            Err(usage(format!("run {run} has ended; `moat continue {run} \"…\"` goes on with it")))
        }
        (Status::Moved, Some(run)) => Err(usage(OpenRunError::Moved(run))),
        _ => Ok(()),
    }
}

/// The call that is meant: the named one, or the only one that waits.
fn the_call(state: &State, named: Option<&str>) -> anyhow::Result<String> {
    let waiting = state.waiting();
    let ids: Vec<_> = waiting.iter().map(|call| call.call_id.as_str()).collect();
    match (named, ids.as_slice()) {
        (_, []) => Err(usage("no call of this run waits for a person")),
        (Some(named), ids) => match ids.iter().find(|id| **id == named) {
            Some(id) => Ok((*id).to_owned()),
            None => Err(usage(format!("no call `{named}` waits; these do: {}", ids.join(", ")))),
        },
        (None, [one]) => Ok((*one).to_owned()),
        (None, ids) => Err(usage(format!("say which: {}", ids.join(", ")))),
    }
}

pub(crate) async fn approvals(engine: &Engine, args: &ApprovalsArgs) -> anyhow::Result<Exit> {
    let runs = match &args.run {
        Some(text) => vec![engine.find_by_text(text).await?],
        None => {
            let listed = engine.journal.list(&engine.tenant, 10_000).await?;
            let waits = |status: &str| matches!(status, "waiting" | "running" | "paused");
            let open =
                listed.iter().filter(|run| run.index.as_ref().is_some_and(|i| waits(&i.status)));
            open.map(|run| run.run).collect()
        }
    };
    let mut rows = Vec::new();
    for run in runs {
        for call in state_of(engine, run).await?.waiting() {
            rows.push(json!({
                "v": 1, "run": run, "call": call.call_id, "tool": call.tool, "arguments": call.arguments,
            }));
        }
    }
    print_approvals(&rows, args.json)?;
    Ok(Exit::Success)
}

fn print_approvals(rows: &[Value], json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        return writeln!(out, "{}", Value::Array(rows.to_vec()));
    }
    if rows.is_empty() {
        return writeln!(out, "nothing waits for a person");
    }
    for row in rows {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let arguments = one_line(text("arguments"), 100);
        writeln!(
            out,
            "{}  {}  {}  {arguments}",
            text("run"),
            one_line(text("call"), 40),
            text("tool")
        )?;
    }
    Ok(())
}

async fn post(engine: &Engine, run: RunId, kind: &str, body: Value) -> anyhow::Result<()> {
    let user = crate::config::variable("USER")
        .unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()));
    let entry = InboxEntry {
        id: RunId::generate().to_string(),
        kind: kind.to_owned(),
        body: body.to_string(),
        who: format!("user:{}", one_line(&user, 40)),
        at: 0,
    };
    engine.journal.post(&engine.tenant, run, entry).await?;
    Ok(())
}

async fn drive_or_say(
    engine: &Engine,
    run: RunId,
    drive_on: bool,
    model: &ModelArgs,
    output: &OutputArgs,
) -> anyhow::Result<Exit> {
    if let Some(holder) = engine.journal.holder(&engine.tenant, run).await? {
        say(&format!("run {run}: process {} takes it up", holder.pid), engine);
        return Ok(Exit::Success);
    }
    if !drive_on {
        say(
            &format!(
                "run {run}: kept for later; nobody drives the run now, `moat resume {run}` does"
            ),
            engine,
        );
        return Ok(Exit::Success);
    }
    let taken = prepare(engine, run, model, &LimitArgs::default()).await?;
    let driver = taken.harness.resume(run, Claim::IfFree, taken.changes).await;
    let driver = driver.map_err(|error| explain(run, error))?;
    Ok(drive(engine, driver, output).await?.finish(output))
}

fn say(text: &str, engine: &Engine) {
    if !engine.quiet {
        // Nobody is left to tell when standard error is gone.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}
