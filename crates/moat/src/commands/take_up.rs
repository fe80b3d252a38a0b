//! `resume`, `continue` and `fork`: going on with runs.

use std::sync::Arc;

use moat_core::{Item, RunId, RunOptions, Seq};
use moat_harness::history::History;
use moat_harness::machine::State;
use moat_harness::{Changes, Harness, OpenRunError};
use moat_journal::{Claim, ClaimError};

use super::give_back;
use super::start::{cost_of, read_prompt};
use crate::cli::{ContinueArgs, ForkArgs, LimitArgs, ModelArgs, ResumeArgs};
use crate::drive::drive;
use crate::engine::Engine;
use crate::exit::{Exit, WithExit, usage};
use crate::models;
use crate::sandboxes::LOCAL;

pub(crate) async fn resume(engine: &Engine, args: ResumeArgs) -> anyhow::Result<Exit> {
    let run = engine.find(&args.which).await?;
    let mut taken = prepare(engine, run, &args.model, &args.limits).await?;
    taken.move_to(args.provider.sandbox);
    let claim = claim(args.take_over);
    let driver = taken.harness.resume(run, claim, taken.changes).await;
    let driver = driver.map_err(|error| explain(run, error))?;
    let mut driven = drive(engine, driver, &args.output).await?;
    if args.write {
        give_back::after_run(engine, &mut driven, true, args.output.json).await?;
    }
    Ok(driven.finish(&args.output))
}

pub(crate) async fn go_on(engine: &Engine, args: ContinueArgs) -> anyhow::Result<Exit> {
    let (run, prompt) = match (args.last, args.words.as_slice()) {
        (true, [prompt]) => (engine.newest().await?, prompt),
        (false, [run, prompt]) => (engine.find_by_text(run).await?, prompt),
        (true, _) => return Err(usage("with --last give only the prompt")),
        (false, _) => return Err(usage("give a run and a prompt, or --last and a prompt")),
    };
    let input = vec![Item::user_message(&read_prompt(prompt)?)];
    let taken = prepare(engine, run, &args.model, &args.limits).await?;
    let driver = taken.harness.go_on(run, claim(args.take_over), input, taken.changes).await;
    let driver = driver.map_err(|error| explain(run, error))?;
    let mut driven = drive(engine, driver, &args.output).await?;
    if driven.state.origin().is_some() {
        give_back::after_run(engine, &mut driven, args.write, args.output.json).await?;
    }
    Ok(driven.finish(&args.output))
}

#[expect(clippy::print_stderr, reason = "the command line talks to a person here")]
pub(crate) async fn fork(engine: &Engine, args: ForkArgs) -> anyhow::Result<Exit> {
    let source = engine.find_by_text(&args.run).await?;
    let said = args.prompt.as_deref().or(args.steer.as_deref());
    let said = said.map(read_prompt).transpose()?;
    let input: Vec<_> = said.iter().map(|text| Item::user_message(text)).collect();
    let mut taken = prepare(engine, source, &args.model, &args.limits).await?;
    taken.move_to(args.provider.sandbox);
    let forked = taken.harness.fork(source, args.at.map(Seq), input, taken.changes).await;
    let (driver, at) = forked.map_err(|error| explain(source, error))?;
    if !engine.quiet && !args.output.json {
        eprintln!("fork of {source} at event {}", at.seq);
    }
    let mut driven = drive(engine, driver, &args.output).await?;
    if driven.state.origin().is_some() {
        give_back::after_run(engine, &mut driven, false, args.output.json).await?;
    }
    Ok(driven.finish(&args.output))
}

/// A harness with the model that the run needs, and what flags change.
pub(crate) struct TakenUp {
    pub(crate) harness: Harness,
    pub(crate) changes: Changes,
    /// What makes its sandboxes so far; absent: the usual provider.
    provider: Option<String>,
}

impl TakenUp {
    /// Its sandboxes are made elsewhere from now on, if that is somewhere else.
    fn move_to(&mut self, place: Option<String>) {
        let now = self.provider.as_deref().unwrap_or(LOCAL);
        self.changes.sandbox = place.filter(|place| place != now);
    }
}

pub(crate) async fn prepare(
    engine: &Engine,
    run: RunId,
    model: &ModelArgs,
    limits: &LimitArgs,
) -> anyhow::Result<TakenUp> {
    // The state is read once more under the run's lock; this look only finds the transcript and
    // the limits that flags are laid over.
    let state = state_of(engine, run).await?;
    let recorded = state.labels().get("transcript").map(String::as_str);
    let chosen = models::choose(model, &engine.config, recorded).await?;
    let named = model.model.clone();
    let options = changed_options(state.options(), limits, model.no_stream);
    let harness = engine.harness(chosen.model, chosen.secrets, state.allow_missing())?;
    let provider = state.sandbox_settings().provider.clone();
    Ok(TakenUp { harness, changes: Changes { options, model: named, sandbox: None }, provider })
}

fn changed_options(now: &RunOptions, limits: &LimitArgs, no_stream: bool) -> Option<RunOptions> {
    let mut changed = now.clone();
    changed.max_turns = limits.max_turns.or(now.max_turns);
    changed.max_tokens = limits.max_tokens.or(now.max_tokens);
    changed.max_cost = limits.max_cost.map(cost_of).or(now.max_cost);
    changed.stream = now.stream && !no_stream;
    (changed != *now).then_some(changed)
}

fn claim(take_over: bool) -> Claim {
    if take_over { Claim::TakeOver } else { Claim::IfFree }
}

/// Says what to do about a run that cannot be had.
pub(crate) fn explain(run: RunId, error: OpenRunError) -> anyhow::Error {
    match &error {
        OpenRunError::Claim(ClaimError::Held { holder, .. }) => WithExit(
            Exit::HostCannot,
            anyhow::anyhow!(
                "run {run} is driven by process {} (silent for {} ms); `moat logs -f {run}` watches \
                 it, `moat resume --take-over {run}` takes it away",
                holder.pid,
                holder.silent_ms
            ),
        )
        .into(),
        OpenRunError::Claim(ClaimError::NoSuchRun { .. }) => {
            usage(format!("there is no run {run}; `moat runs` lists them"))
        }
        OpenRunError::NoCheckpoint { .. }
        | OpenRunError::NothingToDo { .. }
        | OpenRunError::Moved(_)
        | OpenRunError::Erased(_) => usage(error),
        _ => error.into(),
    }
}

/// The state of a run, read without owning it.
pub(crate) async fn state_of(engine: &Engine, run: RunId) -> anyhow::Result<State> {
    let reader = engine.harness(no_model(), Default::default(), &[])?;
    reader.state(run).await.map_err(|error| explain(run, error))
}

/// What happened in a run, a fork's past included, read without owning it.
pub(crate) async fn history_of(engine: &Engine, run: RunId) -> anyhow::Result<History> {
    let reader = engine.harness(no_model(), Default::default(), &[])?;
    reader.history(run).await.map_err(|error| explain(run, error))
}

/// For what asks no model.
pub(crate) fn no_model() -> Arc<dyn moat_model::Model> {
    Arc::new(NoModel)
}

/// Reads journals, asks nobody.
struct NoModel;

#[async_trait::async_trait]
impl moat_model::Model for NoModel {
    async fn respond(
        &self,
        _: &moat_model::ModelRequest,
        _: moat_model::DeltaSink<'_>,
    ) -> Result<moat_model::ModelResponse, moat_model::ModelError> {
        Err(moat_model::ModelError {
            class: moat_model::ModelErrorClass::Configuration,
            status: None,
            message: "no model is configured".to_owned(),
            retry_after: None,
            should_retry: None,
        })
    }
}
