//! A run's row in the listing: a view, written with every append, that can be rebuilt.

use moat_core::{Event, EventBody, RunOutcome};
use moat_journal::IndexRow;
use serde_json::{Value, json};

use crate::machine::{State, Status};

/// What a listing shows that the state does not keep.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    prompt: String,
    labels: Value,
    parent: Option<String>,
    forked_from: Option<String>,
    folder: Option<String>,
    commands: u64,
}

/// Characters of the prompt that a listing shows.
const PROMPT_CHARS: usize = 200;

impl Facts {
    pub(crate) fn take_in(&mut self, event: &Event) {
        match &event.body {
            EventBody::RunStarted(started) => {
                let user = started.input.iter().rev().find_map(moat_core::Item::message_text);
                self.prompt = user.unwrap_or_default().chars().take(PROMPT_CHARS).collect();
                self.labels = json!(started.labels);
                self.parent = started.parent.as_ref().map(|parent| parent.run.to_string());
                self.forked_from = started.forked_from.map(|fork| fork.run.to_string());
                self.folder = started.origin.as_ref().map(|origin| origin.folder.clone());
            }
            EventBody::CallStarted(_) => self.commands = self.commands.saturating_add(1),
            _ => {}
        }
    }
}

pub(crate) fn index_row(state: &State, facts: &Facts) -> IndexRow {
    let usage = state.usage();
    IndexRow {
        status: status_word(state).to_owned(),
        facts: json!({
            "agent": state.agent().name,
            "model": state.model(),
            "prompt": facts.prompt,
            "labels": facts.labels,
            "parent": facts.parent,
            "forked_from": facts.forked_from,
            "folder": facts.folder,
            "turns": state.total_turns(),
            "calls": facts.commands,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cost_usd": state.cost().as_usd(),
            "waiting": state.waiting().len(),
        })
        .to_string(),
    }
}

/// The stable word of listings and `--json`.
pub fn status_word(state: &State) -> &'static str {
    match state.status() {
        Status::New | Status::Running => "running",
        Status::Paused(moat_core::PauseReason::Approval, _) => "waiting",
        Status::Paused(..) => "paused",
        Status::Limited { .. } => "limited",
        Status::Finished(RunOutcome::Final { .. }) => "finished",
        Status::Finished(RunOutcome::Error { .. }) => "failed",
        Status::Finished(RunOutcome::Cancelled) => "cancelled",
        Status::Moved => "moved",
        Status::Erased => "erased",
    }
}
