//! How a race went, for people and for programs.

use std::io::Write;

use moat_harness::driver::status_word;
use moat_harness::machine::{State, Status};
use serde_json::{Value, json};

use super::check::Checked;
use super::field::Entrant;
use super::rank::Came;
use crate::escape::one_line;
use crate::view::{count, usd};

/// Lines of a failed check's output that are shown.
const SHOWN: usize = 8;

/// Columns that a row takes as a table.
const WHOLE: usize = 112;

/// Runs in their order, on a terminal of so many columns.
pub(super) fn print(
    out: &mut impl Write,
    ranked: &[&Entrant],
    columns: Option<usize>,
) -> std::io::Result<()> {
    for (place, entrant) in (1..).zip(ranked) {
        let (outcome, model) = (one_line(&outcome(entrant), 60), one_line(&entrant.model, 40));
        let (spent, size) = (spent(entrant), size(entrant));
        let run = entrant.run.map(|run| run.to_string());
        match columns.filter(|columns| *columns < WHOLE) {
            None => {
                let run = run.as_deref().unwrap_or("-");
                writeln!(
                    out,
                    "{place:>3}  {outcome:<16}  {spent:>12}  {size:>13}  {model:<20}  {run}"
                )?;
            }
            // What is copied from here stays whole.
            Some(columns) => {
                let row = format!("{place:>3}  {outcome} · {spent} · {size} · {model}");
                writeln!(out, "{}", one_line(&row, columns))?;
                if let Some(run) = run {
                    writeln!(out, "     {run}")?;
                }
            }
        }
        if let Some(problem) = problem(entrant) {
            writeln!(out, "       {}", one_line(&problem, 400))?;
        }
        if let Some(checked) = entrant.checked.as_ref().filter(|checked| !checked.passed()) {
            print_check(out, checked)?;
        }
    }
    Ok(())
}

fn print_check(out: &mut impl Write, checked: &Checked) -> std::io::Result<()> {
    let lines: Vec<_> = checked.tail.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in lines.iter().skip(lines.len().saturating_sub(SHOWN)) {
        writeln!(out, "       │ {}", one_line(line, 120))?;
    }
    writeln!(out, "       all of it: moat show {}", checked.run)
}

/// In a few words.
fn outcome(entrant: &Entrant) -> String {
    match (entrant.came(), &entrant.checked, &entrant.state) {
        (Came::Passed, Some(_), _) => "passed".to_owned(),
        (Came::Passed, None, _) => "done".to_owned(),
        (Came::Answered, Some(Checked { timed_out: true, .. }), _) => "check timed out".to_owned(),
        (Came::Answered, Some(Checked { exit_code: Some(code), .. }), _) => {
            format!("check: exit {code}")
        }
        (Came::Answered, ..) => "not checked".to_owned(),
        (Came::Nowhere, _, Some(state)) => status_word(state).to_owned(),
        (Came::Nowhere, _, None) => "not begun".to_owned(),
    }
}

fn spent(entrant: &Entrant) -> String {
    match entrant.state.as_ref().map(State::cost) {
        Some(cost) if cost.0 > 0 => usd(cost.as_usd()),
        _ => format!("{} tokens", count(entrant.tokens())),
    }
}

fn size(entrant: &Entrant) -> String {
    match entrant.size {
        Some(size) => format!("+{} -{}", size.added, size.removed),
        None => "-".to_owned(),
    }
}

fn problem(entrant: &Entrant) -> Option<String> {
    let status = entrant.state.as_ref().and_then(|state| match state.status() {
        Status::Finished(moat_core::RunOutcome::Error { error, message }) => {
            Some(format!("{error}: {message}"))
        }
        Status::Paused(_, message) if !message.is_empty() => Some(message.clone()),
        Status::Limited { limit, value } => Some(format!("limit reached: {value} {limit}")),
        _ => None,
    });
    entrant.problem.clone().or(status)
}

/// Shape version 1, documented in `docs/json.md`.
pub(super) fn json(race: &str, ranked: &[&Entrant]) -> Value {
    let rows: Vec<_> = (1..).zip(ranked).map(|(place, entrant)| row(place, entrant)).collect();
    json!({ "v": 1, "type": "race", "race": race, "entrants": rows })
}

fn row(place: usize, entrant: &Entrant) -> Value {
    let state = entrant.state.as_ref();
    let cost = state.map(|state| state.cost().as_usd()).filter(|cost| *cost > 0.0);
    json!({
        "place": place,
        "run": entrant.run,
        "model": entrant.model,
        "status": state.map(status_word),
        "problem": problem(entrant),
        "passed": entrant.came() == Came::Passed,
        "check": entrant.checked,
        "turns": state.map(State::total_turns),
        "tokens": entrant.tokens(),
        "cost_usd": cost,
        "diff": entrant.size,
    })
}
