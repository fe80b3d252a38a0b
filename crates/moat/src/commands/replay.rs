//! `replay`: a run's calls made again, and where reality is other than it was.

mod report;

use anyhow::Context as _;
use moat_core::{PauseReason, RunId, SandboxSettings};
use moat_harness::machine::{State, Status};
use moat_harness::replay::Replay;

use super::take_up::{explain, history_of, state_of};
use crate::cli::{ReplayArgs, ReplayNetwork};
use crate::drive::{Stop, remove_ended_sandboxes};
use crate::engine::Engine;
use crate::exit::{Exit, usage};
use crate::images::{LocalImages, shown};
use crate::outfit;
use crate::view::Lanes;
use report::Report;

pub(crate) async fn replay(engine: &Engine, args: &ReplayArgs) -> anyhow::Result<Exit> {
    let run = engine.find(&args.which).await?;
    let history = history_of(engine, run).await?;
    let recorded = state_of(engine, run).await?;
    let replay = Replay::new(run, &history);
    if replay.recording().answers() == 0 {
        return Err(usage(format!("run {run} has no answers, so there is nothing to replay")));
    }
    let mut allow_missing = recorded.allow_missing().to_vec();
    allow_missing.extend_from_slice(&args.fences.allow_missing);
    let settings = settings(engine, args, run, &recorded, &allow_missing).await?;
    let harness = engine.harness(replay.model(), Default::default(), &allow_missing)?;
    let begun = replay.begin(&harness, Some(settings)).await;
    let driver = begun.map_err(|error| explain(run, error))?;
    let own = driver.run();

    let stop = Stop::default();
    let listening = stop.listen();
    let lanes = Lanes::start(engine.style(), !engine.quiet, vec!["replay".to_owned()]);
    let observer = std::sync::Arc::new(lanes.lane(0));
    let interruptible = |interrupt| stop.add(interrupt);
    let driven = Box::pin(replay.drive(&harness, driver, observer, &interruptible)).await;
    drop((lanes, listening));
    remove_ended_sandboxes(engine).await;
    let ended = driven.map_err(|error| explain(own, error))?;

    let replayed = history_of(engine, own).await?;
    let report = Report::make(engine, args, &recorded, (run, &history), (own, &replayed)).await?;
    report.print(args, &recorded, &ended)?;
    Ok(match ended.status() {
        Status::Paused(PauseReason::User, _) => Exit::Interrupted,
        Status::Paused(PauseReason::Host, _) => Exit::HostCannot,
        _ if report.differs(args) => Exit::TaskFailed,
        _ => Exit::Success,
    })
}

/// The recorded settings, with flags laid over them.
async fn settings(
    engine: &Engine,
    args: &ReplayArgs,
    run: RunId,
    recorded: &State,
    allow_missing: &[String],
) -> anyhow::Result<SandboxSettings> {
    let settings = recorded.sandbox_settings().clone();
    let network = settings.network.clone();
    let mut settings = outfit::settle(&engine.home, settings, None, &args.outfit)?;
    let another = !(args.outfit.net.is_empty() && args.outfit.secret.is_empty());
    if !another {
        settings.network = match (network, args.network) {
            (None, _) | (_, Some(ReplayNetwork::None)) => None,
            (network, Some(ReplayNetwork::Same)) => network,
            // What was done outside is never repeated without a word.
            (Some(_), None) => {
                return Err(usage(format!(
                    "run {run} had a network, and its commands would do again what they did \
                     outside: say --network same, --network none, or --net for another one"
                )));
            }
        };
    }
    if let Some(text) = &args.outfit.image {
        let images = LocalImages::new(&engine.home, engine.provider()?, allow_missing);
        let here = std::env::current_dir().context("cannot find the current folder")?;
        settings.image = Some(images.find(text, &here, shown(engine.quiet)).await?.0);
    }
    outfit::check(&settings)?;
    Ok(settings)
}
