//! The files after each answer.

use moat_core::{Event, EventBody, Seq, SnapshotId};
use moat_snapshot::Change;

/// The files once the calls of an answer were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterAnswer {
    /// The answer.
    pub seq: Seq,
    /// Its turn.
    pub turn: u32,
    /// The last checkpoint before the next answer; absent: there was none yet.
    pub snapshot: Option<SnapshotId>,
}

/// The files after each answer of a run, by its events.
pub fn files_after_answers(events: &[Event]) -> Vec<AfterAnswer> {
    let mut all: Vec<AfterAnswer> = Vec::new();
    let mut last = None;
    for event in events {
        match &event.body {
            EventBody::ModelAnswered(answered) => {
                all.push(AfterAnswer {
                    seq: event.header.seq,
                    turn: answered.turn,
                    snapshot: last,
                });
            }
            EventBody::Checkpointed(checkpoint) => {
                last = Some(checkpoint.snapshot);
                if let Some(answer) = all.last_mut() {
                    answer.snapshot = last;
                }
            }
            _ => {}
        }
    }
    all
}

/// Of how the files differ now, what they did not differ in before.
pub fn new_changes(before: &[Change], now: &[Change]) -> Vec<Change> {
    let same = |a: &Change, b: &Change| {
        let sides = |change: &Change| {
            let side = |entry: &Option<moat_snapshot::Entry>| {
                entry.as_ref().map(|entry| (entry.node.clone(), entry.meta.mode))
            };
            (side(&change.before), side(&change.after))
        };
        a.root == b.root && a.path == b.path && a.kind == b.kind && sides(a) == sides(b)
    };
    now.iter().filter(|change| !before.iter().any(|old| same(old, change))).cloned().collect()
}
