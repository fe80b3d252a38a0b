//! Reading what happened in a run: folded into a state, or as it is.

use moat_core::{Event, EventBody, ForkPoint, RunId, RunStarted, Seq};

use super::{Harness, OpenRunError, decode};
use crate::driver::Facts;
use crate::history::History;
use crate::machine::{ApplyError, State};

/// Events that are read at once.
const PAGE: usize = 512;

/// A run's past, folded.
pub(crate) struct Past {
    pub(crate) state: State,
    pub(crate) facts: Facts,
    /// The last event with a checkpoint and no open answer, at or before where reading stopped.
    pub(super) clean_checkpoint: Option<Seq>,
    pub(super) started: Option<Box<RunStarted>>,
}

impl Harness {
    /// Every event of a run's past, its source's before its own if it is a fork.
    pub async fn history(&self, run: RunId) -> Result<History, OpenRunError> {
        let mut events = Vec::new();
        for (run, until) in self.line_of(run, None).await? {
            let mut keep = |event: Event| {
                events.push(event);
                Ok(())
            };
            self.each_event(run, until, &mut keep).await?;
        }
        Ok(History::new(events))
    }

    /// Folds a run's events, its source's before its own, up to an event of the run itself.
    pub(crate) async fn read_past(
        &self,
        run: RunId,
        until: Option<Seq>,
    ) -> Result<Past, OpenRunError> {
        let mut past = Past {
            state: State::default(),
            facts: Facts::default(),
            clean_checkpoint: None,
            started: None,
        };
        for (at, (run, until)) in self.line_of(run, until).await?.into_iter().enumerate() {
            if at > 0 {
                past.state.rewind_for_fork();
            }
            past.clean_checkpoint = None;
            self.each_event(run, until, &mut |event| Ok(past.take_in(&event)?)).await?;
        }
        Ok(past)
    }

    /// The run and those that it was forked from, the oldest first, each with the last event that
    /// belongs to the run's past.
    pub(crate) async fn line_of(
        &self,
        run: RunId,
        until: Option<Seq>,
    ) -> Result<Vec<(RunId, Option<Seq>)>, OpenRunError> {
        let mut line = vec![(run, until)];
        while let Some((run, _)) = line.last()
            && let Some(fork) = self.source_of(*run).await?
        {
            line.push((fork.run, Some(fork.seq)));
        }
        line.reverse();
        Ok(line)
    }

    async fn source_of(&self, run: RunId) -> Result<Option<ForkPoint>, OpenRunError> {
        let first = self.0.journal.read(&self.0.tenant, run, Seq(0), 1).await?;
        let Some(first) = first.into_iter().next() else { return Ok(None) };
        match decode(first)?.body {
            EventBody::RunStarted(started) => Ok(started.forked_from),
            _ => Ok(None),
        }
    }

    async fn each_event(
        &self,
        run: RunId,
        until: Option<Seq>,
        take: &mut (dyn FnMut(Event) -> Result<(), OpenRunError> + Send),
    ) -> Result<(), OpenRunError> {
        let mut after = Seq(0);
        loop {
            let page = self.0.journal.read(&self.0.tenant, run, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.header.seq;
            for stored in page {
                if until.is_some_and(|until| stored.header.seq > until) {
                    return Ok(());
                }
                take(decode(stored)?)?;
            }
        }
    }
}

impl Past {
    fn take_in(&mut self, event: &Event) -> Result<(), ApplyError> {
        self.state.apply(event)?;
        self.facts.take_in(event);
        if let EventBody::RunStarted(started) = &event.body {
            self.started = Some(Box::new(started.clone()));
        }
        let clean = self.state.open_answer().is_none() && self.state.checkpoint().is_some();
        if clean && matches!(event.body, EventBody::Checkpointed(_)) {
            self.clean_checkpoint = Some(event.header.seq);
        }
        Ok(())
    }
}
