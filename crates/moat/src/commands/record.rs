//! `record`: a run's answers as a transcript for `--replay`.

use std::io::Write as _;

use anyhow::Context as _;
use moat_core::{EventBody, ModelAnswered};
use moat_model::{RecordedTurn, Transcript};

use super::show::events_of;
use crate::cli::RecordArgs;
use crate::engine::Engine;
use crate::exit::{Exit, usage};

pub(crate) async fn record(engine: &Engine, args: &RecordArgs) -> anyhow::Result<Exit> {
    let run = engine.find(&args.which).await?;
    let events = events_of(engine, run).await?;
    let answers: Vec<ModelAnswered> = events
        .into_iter()
        .filter_map(|event| match event.body {
            EventBody::ModelAnswered(answered) => Some(answered),
            _ => None,
        })
        .collect();
    if answers.is_empty() {
        return Err(usage(format!("run {run} has no answers to record")));
    }
    let turns = answers
        .iter()
        .map(|answer| RecordedTurn { output: &answer.output, usage: Some(answer.usage) });
    let about = format!("Recorded from run {run}");
    let text = Transcript::record(Some(&about), turns)?;
    match &args.output {
        Some(path) => std::fs::write(path, text)
            .with_context(|| format!("cannot write `{}`", path.display()))?,
        None => std::io::stdout().lock().write_all(text.as_bytes())?,
    }
    Ok(Exit::Success)
}
