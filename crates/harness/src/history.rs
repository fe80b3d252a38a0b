//! What happened in a run, read back: which call changed the files when, and why.
//!
//! A view of the journal like all others. A run's files change from one checkpoint to the next, and
//! a checkpoint is appended together with the outcomes that it covers; so what lies between two
//! checkpoints is what made the difference.

mod blame;

use std::collections::HashMap;
use std::path::Path;

use moat_core::{CallReport, Event, EventBody, Item, RunId, Seq, SnapshotId};

pub use blame::{Blame, BlameError, blame, touched};

/// All events of a run, a fork's past before its own.
#[derive(Clone, Debug)]
pub struct History {
    events: Vec<Event>,
}

/// A checkpoint, and what happened since the one before.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The run whose event it is: the run itself, or one that it was forked from.
    pub run: RunId,
    /// The checkpoint's event.
    pub seq: Seq,
    /// When: milliseconds since the Unix epoch.
    pub at: u64,
    /// The files then.
    pub snapshot: SnapshotId,
    /// The files at the checkpoint before; absent at the first.
    pub before: Option<SnapshotId>,
    /// Paths that differ from the checkpoint before, as the checkpoint names them; `None`: there
    /// were more than it could name.
    changed: Option<Vec<String>>,
    /// Calls that ended since the checkpoint before, in order.
    pub calls: Vec<MadeCall>,
}

/// A call that ended.
#[derive(Clone, Debug)]
pub struct MadeCall {
    /// The run whose call it is.
    pub run: RunId,
    /// The answer that holds it.
    pub of: Seq,
    /// Its place in that answer.
    pub index: u32,
    /// The turn of that answer.
    pub turn: u32,
    /// The call, as the model wrote it.
    pub item: Item,
    /// What the model wrote in the same answer before the call: reasoning and messages.
    pub reasoning: Vec<Item>,
    /// What is known about its outcome.
    pub report: CallReport,
}

impl History {
    pub(crate) fn new(events: Vec<Event>) -> Self {
        Self { events }
    }

    /// Every event, oldest first. Sequence numbers begin anew where a fork begins.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The events of the run itself.
    pub fn own_events(&self) -> &[Event] {
        let run = self.events.last().map(|event| event.header.run);
        let first = self.events.iter().position(|event| Some(event.header.run) == run);
        self.events.get(first.unwrap_or_default()..).unwrap_or_default()
    }

    /// Every checkpoint, oldest first.
    pub fn moments(&self) -> Vec<Moment> {
        let mut moments: Vec<Moment> = Vec::new();
        let mut answers: HashMap<(RunId, Seq), (u32, &[Item])> = HashMap::new();
        let mut calls = Vec::new();
        for event in &self.events {
            let (run, seq) = (event.header.run, event.header.seq);
            match &event.body {
                EventBody::ModelAnswered(answered) => {
                    answers.insert((run, seq), (answered.turn, &answered.output));
                }
                EventBody::CallFinished(finished) => {
                    let Some((turn, items)) = answers.get(&(run, finished.of)) else { continue };
                    let place = finished.index as usize;
                    let Some(item) = items.get(place) else { continue };
                    calls.push(MadeCall {
                        run,
                        of: finished.of,
                        index: finished.index,
                        turn: *turn,
                        item: item.clone(),
                        reasoning: reasoning(items.get(..place).unwrap_or_default()),
                        report: finished.report.clone(),
                    });
                }
                EventBody::Checkpointed(checkpoint) => {
                    let named = checkpoint.changed.len() as u64 == checkpoint.changed_count;
                    moments.push(Moment {
                        run,
                        seq,
                        at: event.header.at,
                        snapshot: checkpoint.snapshot,
                        before: moments.last().map(|moment| moment.snapshot),
                        changed: named.then(|| checkpoint.changed.clone()),
                        calls: std::mem::take(&mut calls),
                    });
                }
                _ => {}
            }
        }
        moments
    }

    /// The files at or before an event of the run itself; absent: at its end. A fork without a
    /// checkpoint of its own has those that it began with.
    pub fn files_at(&self, at: Option<Seq>) -> Option<(Seq, SnapshotId)> {
        let run = self.events.last()?.header.run;
        let of_this_past =
            |event: &&Event| event.header.run != run || at.is_none_or(|at| event.header.seq <= at);
        self.events.iter().rev().filter(of_this_past).find_map(|event| match &event.body {
            EventBody::Checkpointed(checkpoint) => {
                let own = event.header.run == run;
                Some((if own { event.header.seq } else { Seq(0) }, checkpoint.snapshot))
            }
            _ => None,
        })
    }
}

impl Moment {
    /// Whether the path of the workspace may differ from the checkpoint before.
    fn may_have_changed(&self, path: &Path) -> bool {
        self.changed.as_ref().is_none_or(|changed| {
            // A first checkpoint names nothing: everything is new.
            self.before.is_none() || changed.iter().any(|named| Path::new(named) == path)
        })
    }

    /// The calls that can have made the difference at a path, or a line of it: those that say so,
    /// else all that do not say what they changed. A patch says which file it changed; that does
    /// not make it the one who wrote a line that it does not hold.
    pub fn makers(&self, path: &Path, line: Option<&str>) -> Vec<&MadeCall> {
        let says_so = |call: &MadeCall| call.report.changed.iter().any(|at| Path::new(at) == path);
        let is_silent = |call: &MadeCall| call.report.changed.is_empty();
        let wrote = |call: &MadeCall| line.is_none_or(|line| call.adds(line));
        let chosen = |choose: &dyn Fn(&MadeCall) -> bool| -> Vec<&MadeCall> {
            self.calls.iter().filter(|call| choose(call)).collect()
        };
        let named = chosen(&|call| says_so(call) && wrote(call));
        if named.is_empty() { chosen(&|call| says_so(call) || is_silent(call)) } else { named }
    }
}

impl MadeCall {
    /// Whether the call is a patch that adds this line. One that was not written as text may.
    fn adds(&self, line: &str) -> bool {
        let Some(patch) = self.item.fields().input else { return true };
        let mut added = patch.lines().filter_map(|text| text.strip_prefix('+'));
        added.any(|added| added.trim_end() == line.trim_end())
    }

    /// What the model said before the call, as text: its reasoning where it is readable, and its
    /// messages.
    pub fn said(&self) -> Vec<String> {
        let text = |item: &Item| item.reasoning_text().or_else(|| item.message_text());
        self.reasoning.iter().filter_map(text).filter(|text| !text.trim().is_empty()).collect()
    }
}

/// What an answer says before a call: everything since the call before it.
fn reasoning(before: &[Item]) -> Vec<Item> {
    let is_call = |item: &Item| item.fields().call_id.is_some();
    let speaks = |item: &&Item| !is_call(item);
    before.iter().filter(speaks).cloned().collect()
}

#[cfg(test)]
mod tests;
