//! The runs of a race: begun, driven, measured and checked.

use std::sync::Arc;

use moat_core::{Item, RunId, Seq, SnapshotId};
use moat_harness::driver::Driver;
use moat_harness::machine::State;
use moat_harness::{Branch, Changes, Harness, NewRun};

use super::check::{Check, Checked};
use super::rank::{Came, Standing};
use crate::cli::RaceArgs;
use crate::commands::diff::{DiffSize, size_of};
use crate::commands::start::OverFolder;
use crate::commands::take_up::{explain, prepare};
use crate::drive::Stop;
use crate::engine::Engine;
use crate::exit::Exit;
use crate::models;
use crate::view::Lane;

/// What all runs of a race have in common.
pub(super) struct Field<'a> {
    engine: &'a Engine,
    harness: Harness,
    start: Start,
    race: String,
    secrets: moat_core::KnownSecrets,
    check: Option<Check>,
    /// In turn; empty: what the run has anyway.
    models: Vec<String>,
}

/// What a run begins from.
enum Start {
    Folder(Box<NewRun>),
    Fork { source: RunId, at: Option<Seq>, input: Vec<Item>, changes: Changes },
}

/// One run of a race, as far as it came.
pub(super) struct Entrant {
    pub(super) run: Option<RunId>,
    pub(super) model: String,
    pub(super) state: Option<State>,
    /// Why it is not further.
    pub(super) problem: Option<String>,
    pub(super) size: Option<DiffSize>,
    pub(super) checked: Option<Checked>,
    /// There is a check to pass.
    pub(super) has_check: bool,
}

impl<'a> Field<'a> {
    pub(super) async fn prepare(
        engine: &'a Engine,
        args: &RaceArgs,
        prompt: &str,
        race: String,
    ) -> anyhow::Result<Self> {
        let check = args.check.as_ref().map(|command| Check {
            command: command.clone(),
            limit: std::time::Duration::from_secs(args.check_timeout),
            race: race.clone(),
        });
        let models = args.models.clone();
        if let Some(text) = &args.from {
            let source = engine.find_by_text(text).await?;
            let taken = prepare(engine, source, &args.model, &args.limits).await?;
            let (at, input) = (args.at.map(Seq), vec![Item::user_message(prompt)]);
            let start = Start::Fork { source, at, input, changes: taken.changes };
            let secrets = moat_core::KnownSecrets::default();
            return Ok(Self {
                engine,
                harness: taken.harness,
                start,
                race,
                secrets,
                check,
                models,
            });
        }
        let chosen = models::choose(&args.model, &engine.config, None).await?;
        let over_folder = OverFolder {
            dir: args.dir.as_deref(),
            limits: &args.limits,
            outfit: &args.outfit,
            allow_missing: &args.fences.allow_missing,
            stream: !args.model.no_stream,
        };
        let new = over_folder.new_run(engine, &chosen, prompt).await?;
        let secrets = chosen.secrets.clone();
        let harness =
            engine.harness(chosen.model.clone(), chosen.secrets, &args.fences.allow_missing)?;
        let start = Start::Folder(Box::new(new));
        Ok(Self { engine, harness, start, race, secrets, check, models })
    }

    /// Lets one run work to its end, and looks at what it did.
    pub(super) async fn run(&self, at: usize, stop: &Stop, lane: Lane) -> Entrant {
        let mut entrant = Entrant {
            run: None,
            model: self.model(at).unwrap_or_default(),
            state: None,
            problem: None,
            size: None,
            checked: None,
            has_check: self.check.is_some(),
        };
        if stop.is_asked() {
            entrant.problem = Some("it was not begun".to_owned());
            return entrant;
        }
        lane.say("begins");
        if let Err(error) = Box::pin(self.compete(&mut entrant, at, stop, &lane)).await {
            entrant.problem = Some(crate::exit::text(&error));
        }
        lane.over();
        entrant
    }

    async fn compete(
        &self,
        entrant: &mut Entrant,
        at: usize,
        stop: &Stop,
        lane: &Lane,
    ) -> anyhow::Result<()> {
        let driver = self.begin(at).await?;
        entrant.run = Some(driver.run());
        driver.state().model().clone_into(&mut entrant.model);
        let base = driver.state().checkpoint().map(|(_, snapshot)| snapshot);
        let mut driver = driver.observed_by(Arc::new(lane.clone()));
        stop.add(driver.interrupt());
        let driven = driver.drive().await;
        let state = driver.state().clone();
        drop(driver);
        entrant.state = Some(state.clone());
        driven?;
        entrant.size = self.measure(&state, base).await?;
        if let Some(check) = &self.check
            && Exit::of(&state) == Exit::Success
            && !stop.is_asked()
        {
            lane.say("is checked");
            let secrets = self.secrets.clone();
            entrant.checked =
                Box::pin(check.run(self.engine, &state, secrets, (stop, lane))).await?;
        }
        Ok(())
    }

    async fn begin(&self, at: usize) -> anyhow::Result<Driver> {
        let label = ("race".to_owned(), self.race.clone());
        match &self.start {
            Start::Folder(new) => {
                let mut new = (**new).clone();
                new.agent.model = self.model(at).unwrap_or(new.agent.model);
                new.labels.extend([label]);
                Ok(self.harness.start(new).await?)
            }
            Start::Fork { source, at: cut, input, changes } => {
                let mut changes = changes.clone();
                changes.model = self.model(at).or(changes.model);
                let branch = Branch {
                    at: *cut,
                    input: input.clone(),
                    changes,
                    labels: [label].into_iter().collect(),
                    tools: None,
                };
                let forked = self.harness.branch(*source, branch).await;
                Ok(forked.map_err(|error| explain(*source, error))?.0)
            }
        }
    }

    /// The model of the run at this place, if it is not the one that it has anyway.
    fn model(&self, at: usize) -> Option<String> {
        let place = at.checked_rem(self.models.len())?;
        self.models.get(place).cloned()
    }

    async fn measure(
        &self,
        state: &State,
        base: Option<SnapshotId>,
    ) -> anyhow::Result<Option<DiffSize>> {
        match (base, state.checkpoint()) {
            (Some(base), Some((_, last))) => {
                Ok(Some(size_of(self.engine, state, base, last).await?))
            }
            _ => Ok(None),
        }
    }
}

impl Entrant {
    pub(super) fn came(&self) -> Came {
        let answered = self.state.as_ref().is_some_and(|state| Exit::of(state) == Exit::Success);
        let passed = match &self.checked {
            Some(checked) => checked.passed(),
            None => !self.has_check,
        };
        match (answered, passed) {
            (false, _) => Came::Nowhere,
            (true, true) => Came::Passed,
            (true, false) => Came::Answered,
        }
    }

    pub(super) fn tokens(&self) -> u64 {
        let usage = self.state.as_ref().map(State::usage).unwrap_or_default();
        usage.input_tokens.saturating_add(usage.output_tokens)
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            came: self.came(),
            cost: self.state.as_ref().map_or(0, |state| state.cost().0),
            tokens: self.tokens(),
            lines: self.size.map_or(0, DiffSize::lines),
        }
    }
}
