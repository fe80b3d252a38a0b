//! What a journal holds of what a model and people said.

use std::collections::HashMap;

use moat_core::{ApprovalGiven, Event, EventBody, Item, RunOptions, Seq};

/// What a run's model answered and what people put in, in order.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    answers: Vec<Answer>,
    stretches: Vec<Stretch>,
    decisions: HashMap<(usize, u32), ApprovalGiven>,
}

/// One answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) output: Vec<Item>,
    pub(super) model: String,
    /// Messages that came after it and before the next one.
    pub(super) steered: Vec<String>,
}

/// What happened from one input to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Stretch {
    pub(super) input: Vec<Item>,
    pub(super) options: Option<RunOptions>,
    pub(super) model: Option<String>,
    /// Messages that came before its first answer.
    pub(super) steered: Vec<String>,
    /// How many answers were given at its end, since the beginning of the run.
    pub(super) until: usize,
}

impl Recording {
    /// Reads the events of one run.
    pub fn of(events: &[Event]) -> Self {
        let mut all = Self::default();
        let mut places: HashMap<Seq, usize> = HashMap::new();
        for event in events {
            match &event.body {
                EventBody::RunStarted(_) => all.stretches.push(Stretch::default()),
                EventBody::RunContinued(more) => all.stretches.push(Stretch {
                    input: more.input.clone(),
                    options: more.options.clone(),
                    model: more.model.clone(),
                    steered: Vec::new(),
                    until: all.answers.len(),
                }),
                EventBody::ModelAnswered(answered) => {
                    places.insert(event.header.seq, all.answers.len());
                    all.answers.push(Answer {
                        output: answered.output.clone(),
                        model: answered.model.clone(),
                        steered: Vec::new(),
                    });
                    if let Some(stretch) = all.stretches.last_mut() {
                        stretch.until = all.answers.len();
                    }
                }
                EventBody::Steered(steered) => all.steer(&steered.input),
                EventBody::ApprovalGiven(given) => {
                    if let Some(answer) = places.get(&given.of) {
                        let place = (*answer, given.index);
                        all.decisions.entry(place).or_insert_with(|| given.clone());
                    }
                }
                _ => {}
            }
        }
        all
    }

    fn steer(&mut self, input: &[Item]) {
        let before = self.stretches.len().checked_sub(2).and_then(|at| self.stretches.get(at));
        let began = before.map_or(0, |before| before.until);
        let texts = input.iter().filter_map(Item::message_text);
        match (self.answers.last_mut(), self.stretches.last_mut()) {
            (Some(answer), Some(stretch)) if stretch.until > began => answer.steered.extend(texts),
            (_, Some(stretch)) => stretch.steered.extend(texts),
            (_, None) => {}
        }
    }

    /// How many answers there are.
    pub fn answers(&self) -> usize {
        self.answers.len()
    }

    pub(super) fn answer(&self, at: usize) -> Option<&Answer> {
        self.answers.get(at)
    }

    pub(super) fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    pub(super) fn decision(&self, answer: usize, index: u32) -> Option<&ApprovalGiven> {
        self.decisions.get(&(answer, index))
    }
}
