//! `apply` and `undo`, and what `exec` does with its changes at its end.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use moat_core::RunId;
use moat_harness::machine::State;
use moat_writeback::{Applied, Conflict, Options, Plan, WriteBack};
use serde_json::{Value, json};

use super::ignored::Ignored;
use super::take_up::state_of;
use crate::cli::{ApplyArgs, UndoArgs};
use crate::drive::Driven;
use crate::engine::Engine;
use crate::escape::one_line;
use crate::exit::{Exit, usage};

/// Paths of one kind that are listed.
const LISTED: usize = 40;

/// At the end of a run over a folder: writes if told to, asks on a terminal, else says what to
/// type. Only what an ended run made is written; a run that paused or failed is left alone.
pub(crate) async fn after_run(
    engine: &Engine,
    driven: &mut Driven,
    write: bool,
    json: bool,
) -> anyhow::Result<()> {
    let (state, ended) = (&driven.state, driven.exit == Exit::Success);
    let Some(run) = state.run() else { return Ok(()) };
    let back = match write_back(engine, run, state, None) {
        Ok(back) => back,
        Err(_) if !write => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut plan = back.plan().await?;
    leave_out_ignored(engine, state, &mut plan).await?;
    if plan.is_empty() && plan.conflicts.is_empty() && plan.refused.is_empty() {
        return Ok(());
    }
    if write && ended {
        let applied = back.apply(&plan).await?;
        if !(plan.conflicts.is_empty() && applied.conflicts.is_empty()) {
            driven.exit = Exit::TaskFailed;
        }
        return report(&plan, &applied, run, json);
    }
    let asks = ended && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if json || !asks {
        if !engine.quiet && !json {
            print_plan(&mut std::io::stderr().lock(), &plan)?;
            writeln!(
                std::io::stderr().lock(),
                "nothing was written; `moat apply {run}` writes it"
            )?;
        }
        return Ok(());
    }
    ask_and_apply(&back, &mut plan, run).await
}

async fn ask_and_apply(back: &WriteBack, plan: &mut Plan, run: RunId) -> anyhow::Result<()> {
    print_plan(&mut std::io::stderr().lock(), plan)?;
    if !ask("write these changes to the folder? [y/N] ".to_owned()).await? {
        writeln!(std::io::stderr().lock(), "nothing was written; `moat apply {run}` writes it")?;
        return Ok(());
    }
    let held: Vec<_> =
        plan.held_back.iter().map(|held| (held.change.path.clone(), held.reason.clone())).collect();
    for (path, reason) in held {
        let question =
            format!("{} ({}): also write it? [y/N] ", shown(&path), one_line(&reason, 120));
        if ask(question).await? {
            plan.confirm(&path);
        }
    }
    let applied = back.apply(plan).await?;
    report(plan, &applied, run, false)
}

/// What the project's `.gitignore` names stays in the sandbox.
async fn leave_out_ignored(engine: &Engine, state: &State, plan: &mut Plan) -> anyhow::Result<()> {
    let Some(base) = state.first_checkpoint() else { return Ok(()) };
    let ignored = Ignored::at(engine, base).await?;
    let before = plan.changes.len() + plan.held_back.len();
    plan.changes.retain(|change| !ignored.hides(&change.path));
    plan.held_back.retain(|held| !ignored.hides(&held.change.path));
    let hidden = before - plan.changes.len() - plan.held_back.len();
    if hidden > 0 && !engine.quiet {
        let note = format!(
            "{hidden} paths ignored by git stay in the sandbox; `moat apply --all` writes them"
        );
        writeln!(std::io::stderr().lock(), "{note}")?;
    }
    Ok(())
}

/// Waits beside the runtime, so that a signal still ends the process.
async fn ask(question: String) -> anyhow::Result<bool> {
    let asked = tokio::task::spawn_blocking(move || -> std::io::Result<bool> {
        write!(std::io::stderr().lock(), "{question}")?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    });
    Ok(asked.await??)
}

pub(crate) async fn apply(engine: &Engine, args: &ApplyArgs) -> anyhow::Result<Exit> {
    let run = engine.find(&args.which).await?;
    let state = state_of(engine, run).await?;
    let back = write_back(engine, run, &state, args.to.as_deref())?;
    if !args.dry_run
        && let Some(applied) = back.resume().await?
    {
        writeln!(std::io::stderr().lock(), "an earlier apply was interrupted; it is done now")?;
        report(&Plan::default(), &applied, run, args.json)?;
    }
    let mut plan = back.plan().await?;
    if !args.all {
        leave_out_ignored(engine, &state, &mut plan).await?;
    }
    for path in &args.confirm {
        if !plan.confirm(Path::new(path)) {
            return Err(usage(format!("`{path}` is not held back")));
        }
    }
    if args.dry_run {
        if args.json {
            let line = json!({ "v": 1, "run": run, "plan": plan_json(&plan) });
            writeln!(std::io::stdout().lock(), "{line}")?;
        } else {
            print_plan(&mut std::io::stdout().lock(), &plan)?;
        }
        return Ok(Exit::Success);
    }
    let applied = back.apply(&plan).await?;
    report(&plan, &applied, run, args.json)?;
    let whole = plan.conflicts.is_empty() && applied.conflicts.is_empty();
    Ok(if whole { Exit::Success } else { Exit::TaskFailed })
}

pub(crate) async fn undo(engine: &Engine, args: &UndoArgs) -> anyhow::Result<Exit> {
    let run = engine.find(&args.which).await?;
    let state = state_of(engine, run).await?;
    let back = write_back(engine, run, &state, None)?;
    let undone = back.undo().await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let line = json!({
            "v": 1, "run": run, "restored": paths(&undone.restored),
            "conflicts": conflicts(&undone.conflicts), "git": undone.git.len(),
        });
        writeln!(out, "{line}")?;
    } else {
        list(&mut out, "restored", undone.restored.iter().map(|path| shown(path)))?;
        list(&mut out, "changed since, left alone", undone.conflicts.iter().map(conflict))?;
        if undone.restored.is_empty() && undone.conflicts.is_empty() {
            writeln!(out, "there is nothing to take back")?;
        }
    }
    Ok(if undone.conflicts.is_empty() { Exit::Success } else { Exit::TaskFailed })
}

fn write_back(
    engine: &Engine,
    run: RunId,
    state: &State,
    to: Option<&Path>,
) -> anyhow::Result<WriteBack> {
    let none =
        || usage(format!("run {run} did not start from a folder; `moat diff {run}` shows it"));
    let base = state.first_checkpoint().ok_or_else(none)?;
    let (_, last) = state.checkpoint().ok_or_else(none)?;
    let folder = match to {
        Some(folder) => std::fs::canonicalize(folder)
            .with_context(|| format!("cannot write to `{}`", folder.display()))?,
        None => PathBuf::from(&state.origin().ok_or_else(none)?.folder),
    };
    let records = engine.home.data.join("writeback").join(run.to_string());
    let scratch = engine.home.data.join("scratch");
    for folder in [&records, &scratch] {
        crate::home::make_private(folder)?;
    }
    let options = Options { run, folder, records, scratch, base, last };
    Ok(WriteBack::new(engine.snapshots.clone(), options))
}

fn report(plan: &Plan, applied: &Applied, run: RunId, json: bool) -> anyhow::Result<()> {
    if json {
        let line = json!({
            "v": 1,
            "type": "applied",
            "run": run,
            "written": paths(&applied.written),
            "conflicts": conflicts(plan.conflicts.iter().chain(&applied.conflicts)),
            "held_back": held_json(plan),
            "refused": refused_json(plan),
            "git": applied.git.iter().map(|git| git.name.clone()).collect::<Vec<_>>(),
            "git_problem": applied.git_problem,
        });
        writeln!(std::io::stdout().lock(), "{line}")?;
        return Ok(());
    }
    let mut out = std::io::stderr().lock();
    list(&mut out, "written", applied.written.iter().map(|path| shown(path)))?;
    let both = plan.conflicts.iter().chain(&applied.conflicts);
    list(&mut out, "NOT written, changed by somebody else", both.map(conflict))?;
    print_rest(&mut out, plan)?;
    list(&mut out, "commits", applied.git.iter().map(|git| one_line(&git.name, 120)))?;
    if let Some(problem) = &applied.git_problem {
        writeln!(out, "commits did not come in: {}", one_line(problem, 200))?;
    }
    if !applied.written.is_empty() {
        writeln!(out, "`moat undo {run}` takes it back")?;
    }
    Ok(())
}

fn print_plan(out: &mut impl std::io::Write, plan: &Plan) -> std::io::Result<()> {
    let changes = plan.changes.iter();
    let line = |change: &moat_writeback::PlannedChange| {
        format!("{:<9} {}", change.kind.as_str(), shown(&change.path))
    };
    list(out, "changes", changes.map(line))?;
    list(
        out,
        "conflicts: changed by somebody else, will not be written",
        plan.conflicts.iter().map(conflict),
    )?;
    print_rest(out, plan)?;
    list(out, "commits", plan.git.iter().map(|git| one_line(&git.name, 120)))
}

fn print_rest(out: &mut impl std::io::Write, plan: &Plan) -> std::io::Result<()> {
    let held = plan.held_back.iter();
    let held = held.map(|h| format!("{} ({})", shown(&h.change.path), one_line(&h.reason, 120)));
    list(out, "held back (--confirm PATH writes it)", held)?;
    let refused = plan.refused.iter();
    let refused = refused.map(|r| format!("{} ({})", shown(&r.path), one_line(&r.reason, 120)));
    list(out, "never written", refused)
}

fn list(
    out: &mut impl std::io::Write,
    title: &str,
    lines: impl Iterator<Item = String>,
) -> std::io::Result<()> {
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "{title}:")?;
    for line in lines.iter().take(LISTED) {
        writeln!(out, "  {line}")?;
    }
    if lines.len() > LISTED {
        writeln!(out, "  and {} more", lines.len() - LISTED)?;
    }
    Ok(())
}

fn shown(path: &Path) -> String {
    one_line(&path.to_string_lossy(), 200)
}

fn conflict(conflict: &Conflict) -> String {
    format!("{} ({})", shown(&conflict.path), one_line(&conflict.reason, 120))
}

fn paths(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

fn conflicts<'a>(found: impl IntoIterator<Item = &'a Conflict>) -> Vec<Value> {
    let row = |c: &Conflict| json!({ "path": c.path.to_string_lossy(), "reason": c.reason });
    found.into_iter().map(row).collect()
}

fn held_json(plan: &Plan) -> Vec<Value> {
    let row = |held: &moat_writeback::HeldBack| json!({ "path": held.change.path.to_string_lossy(), "reason": held.reason });
    plan.held_back.iter().map(row).collect()
}

fn refused_json(plan: &Plan) -> Vec<Value> {
    let row = |refused: &moat_writeback::Refused| json!({ "path": refused.path.to_string_lossy(), "reason": refused.reason });
    plan.refused.iter().map(row).collect()
}

fn plan_json(plan: &Plan) -> Value {
    let change = |change: &moat_writeback::PlannedChange| json!({ "path": change.path.to_string_lossy(), "kind": change.kind.as_str() });
    json!({
        "changes": plan.changes.iter().map(change).collect::<Vec<_>>(),
        "conflicts": conflicts(&plan.conflicts),
        "held_back": held_json(plan),
        "refused": refused_json(plan),
        "git": plan.git.iter().map(|git| git.name.clone()).collect::<Vec<_>>(),
        "git_problem": plan.git_problem,
    })
}
