//! `race`: several runs on the same task, checked, ranked, and one of them applied.

mod check;
mod field;
mod rank;
mod table;

use std::io::{IsTerminal as _, Write as _};

use futures_util::stream::{self, StreamExt as _};
use moat_core::RunId;

use super::give_back;
use super::start::read_prompt;
use crate::cli::{ApplyArgs, RaceArgs, Which};
use crate::drive::{Stop, remove_ended_sandboxes};
use crate::engine::Engine;
use crate::escape::one_line;
use crate::exit::{Exit, usage};
use crate::view::{Lanes, columns};
use field::{Entrant, Field};
use rank::{Came, rank};

/// Runs where nothing says how many.
const RUNS: u16 = 3;

pub(crate) async fn race(engine: &Engine, args: &RaceArgs) -> anyhow::Result<Exit> {
    let prompt = read_prompt(&args.prompt)?;
    let number = number(args)?;
    if args.check.as_ref().is_some_and(|command| command.trim().is_empty()) {
        return Err(usage("--check is empty; give a shell line that tells whether a run did it"));
    }
    let race = RunId::generate().to_string();
    let field = Field::prepare(engine, args, &prompt, race.clone()).await?;

    let stop = Stop::default();
    let listening = stop.listen();
    let names = (1..=number).map(|at| format!("{at}")).collect();
    let lanes = Lanes::start(engine.style(), !engine.quiet, names);
    let runs = (0..number).map(|at| {
        let (field, stop, lane) = (&field, &stop, lanes.lane(at));
        async move { (at, Box::pin(field.run(at, stop, lane)).await) }
    });
    let mut entrants: Vec<(usize, Entrant)> =
        stream::iter(runs).buffer_unordered(usize::from(args.parallel)).collect().await;
    drop((lanes, listening));
    remove_ended_sandboxes(engine).await;
    entrants.sort_by_key(|(at, _)| *at);

    let standings: Vec<_> = entrants.iter().map(|(_, entrant)| entrant.standing()).collect();
    let order = rank(&standings).into_iter().filter_map(|at| entrants.get(at));
    let ranked: Vec<&Entrant> = order.map(|(_, entrant)| entrant).collect();
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", table::json(&race, &ranked))?,
        false => table::print(&mut out, &ranked, std::io::stdout().is_terminal().then(columns))?,
    }
    drop(out);
    if stop.is_asked() {
        say(engine, args, "interrupted; `moat resume RUN` goes on with a run that paused");
        return Ok(Exit::Interrupted);
    }
    let passed = ranked.iter().any(|entrant| entrant.came() == Came::Passed);
    let applied = apply(engine, args, &ranked).await?;
    Ok(if passed { applied } else { Exit::TaskFailed })
}

/// How many runs there are.
fn number(args: &RaceArgs) -> anyhow::Result<usize> {
    let models = args.models.len();
    let number = match args.number {
        Some(number) => usize::from(number),
        None if models > 0 => models,
        None => usize::from(RUNS),
    };
    if number < models {
        return Err(usage(format!("{number} runs cannot take {models} models in turn; raise -n")));
    }
    Ok(number)
}

/// Writes one of the runs back: the first if told to, the chosen one where somebody can choose.
async fn apply(engine: &Engine, args: &RaceArgs, ranked: &[&Entrant]) -> anyhow::Result<Exit> {
    let could = |entrant: &&&Entrant| {
        let has_folder = entrant.state.as_ref().is_some_and(|state| state.origin().is_some());
        has_folder && entrant.came() != Came::Nowhere
    };
    let answered: Vec<_> = ranked.iter().take_while(could).collect();
    let Some(first) = answered.first() else {
        return Ok(Exit::Success);
    };
    let chosen = if args.write {
        if first.came() != Came::Passed {
            say(engine, args, "nothing was written: no run passed the check");
            return Ok(Exit::Success);
        }
        first.run
    } else if !args.json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        let chosen = choose(answered.len()).await?;
        chosen.and_then(|at| answered.get(at)).and_then(|entrant| entrant.run)
    } else {
        None
    };
    let Some(run) = chosen else {
        let run = first.run.map(|run| run.to_string()).unwrap_or_default();
        say(engine, args, &format!("nothing was written; `moat apply {run}` writes the first"));
        return Ok(Exit::Success);
    };
    let which = Which { run: Some(run.to_string()), last: false };
    let (confirm, json) = (Vec::new(), args.json);
    let apply = ApplyArgs { which, confirm, all: false, dry_run: false, to: None, json };
    give_back::apply(engine, &apply).await
}

/// Asks, beside the runtime, so that a signal still ends the process.
async fn choose(number: usize) -> anyhow::Result<Option<usize>> {
    let asked = tokio::task::spawn_blocking(move || -> std::io::Result<Option<String>> {
        let mut err = std::io::stderr().lock();
        write!(err, "write which to the folder? [1-{number}, Enter: 1, n: none] ")?;
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer)?;
        Ok((read > 0).then_some(answer))
    });
    Ok(asked.await??.and_then(|answer| choice(&answer, number)))
}

/// The place that an answer names; anything unclear is none.
fn choice(answer: &str, number: usize) -> Option<usize> {
    match answer.trim() {
        "" => Some(0),
        text => text.parse().ok().filter(|place| (1..=number).contains(place)).map(|at| at - 1),
    }
}

fn say(engine: &Engine, args: &RaceArgs, text: &str) {
    if !engine.quiet && !args.json {
        // Nobody is left to tell when standard error is gone.
        let _ = writeln!(std::io::stderr().lock(), "{}", one_line(text, 400));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_answer_chooses() {
        assert_eq!(choice("\n", 3), Some(0));
        assert_eq!(choice("3\n", 3), Some(2));
        for unclear in ["0", "4", "n", "y", "1 2", "-1"] {
            assert_eq!(choice(unclear, 3), None, "{unclear}");
        }
    }
}
