//! Which calls came out otherwise.

use std::collections::HashMap;

use moat_core::{CallFinished, CallReport, Event, EventBody, Item, Seq};
use serde::Serialize;

use super::output::{Stable, first_difference, only_numbers_differ};

/// A call's place in a run's journal, as `show` numbers it: the answer and the place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The answer.
    pub of: Seq,
    /// The call's place in it.
    pub index: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.of, self.index)
    }
}

/// A recorded call, and what became of it when it was made again.
#[derive(Clone, Debug)]
pub struct ComparedCall {
    /// The turn of the recorded answer.
    pub turn: u32,
    /// The call, as the model wrote it.
    pub item: Item,
    /// Where it stands in the recorded run.
    pub recorded: Place,
    /// Where it stands in the replay; absent: the replay did not come as far.
    pub replayed: Option<Place>,
    /// What came of the comparison.
    pub verdict: Verdict,
}

/// What came of comparing one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its outcome is the recorded one.
    Same,
    /// It is another one.
    Differs(Vec<Difference>),
    /// There is no recorded outcome to compare with: a crash hid it, or the run ended before it.
    NotCompared,
}

/// In what an outcome differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Difference {
    /// The replay has no outcome.
    NotMade,
    /// The exit code; absent: the command was still running when the call ended.
    ExitCode {
        /// Then.
        recorded: Option<i32>,
        /// Now.
        replayed: Option<i32>,
    },
    /// Whether the tool failed.
    Failed {
        /// Then.
        recorded: bool,
        /// Now.
        replayed: bool,
    },
    /// The limit of the sandbox that was reached.
    Limit {
        /// Then.
        recorded: Option<String>,
        /// Now.
        replayed: Option<String>,
    },
    /// What the network refused.
    Refused {
        /// Then.
        recorded: Vec<String>,
        /// Now.
        replayed: Vec<String>,
    },
    /// What the model was told; the first line that differs.
    Output {
        /// The line's number, from 1.
        line: usize,
        /// Then; absent: there was no such line.
        recorded: Option<String>,
        /// Now.
        replayed: Option<String>,
        /// With every number taken for the same, nothing differs.
        only_numbers: bool,
    },
    /// Of an output that is too long to be told whole: what was not told.
    WholeOutput,
}

impl Verdict {
    /// Whether reality is other than it was. `ignore_numbers`: times, counts and ids in outputs
    /// may change.
    pub fn differs(&self, ignore_numbers: bool) -> bool {
        let Self::Differs(differences) = self else { return false };
        let forgiven = |difference: &Difference| {
            ignore_numbers && matches!(difference, Difference::Output { only_numbers: true, .. })
        };
        !differences.iter().all(forgiven)
    }
}

/// Compares every call of the recorded run with the same one of the replay: the answer that came
/// as its first, second, …, and the place in that answer.
pub fn compare_calls(recorded: &[Event], replayed: &[Event]) -> Vec<ComparedCall> {
    let (old, new) = (Outcomes::of(recorded), Outcomes::of(replayed));
    let mut all = Vec::new();
    for (at, (of, turn, output)) in old.answers.iter().enumerate() {
        let again = new.answers.get(at).map(|(of, ..)| *of);
        for (index, item) in (0u32..).zip(*output) {
            let fields = item.fields();
            let (Some(_), Some(tool)) = (&fields.call_id, &fields.name) else { continue };
            let place = Place { of: *of, index };
            let replayed = again.map(|of| Place { of, index });
            let before = old.finished.get(&(*of, index)).copied();
            let now = again.and_then(|of| new.finished.get(&(of, index)).copied());
            let verdict = compare(tool, before, now);
            all.push(ComparedCall {
                turn: *turn,
                item: item.clone(),
                recorded: place,
                replayed,
                verdict,
            });
        }
    }
    all
}

/// What a run's journal says about its calls.
struct Outcomes<'a> {
    answers: Vec<(Seq, u32, &'a [Item])>,
    finished: HashMap<(Seq, u32), &'a CallFinished>,
}

impl<'a> Outcomes<'a> {
    fn of(events: &'a [Event]) -> Self {
        let mut all = Self { answers: Vec::new(), finished: HashMap::new() };
        for event in events {
            match &event.body {
                EventBody::ModelAnswered(answered) => {
                    all.answers.push((event.header.seq, answered.turn, &answered.output));
                }
                EventBody::CallFinished(finished) => {
                    all.finished.insert((finished.of, finished.index), finished);
                }
                _ => {}
            }
        }
        all
    }
}

fn compare(
    tool: &str,
    recorded: Option<&CallFinished>,
    replayed: Option<&CallFinished>,
) -> Verdict {
    let Some(recorded) = recorded.filter(|call| !call.report.unknown) else {
        return Verdict::NotCompared;
    };
    let Some(replayed) = replayed.filter(|call| !call.report.unknown) else {
        return Verdict::Differs(vec![Difference::NotMade]);
    };
    let (old, new) = (&recorded.report, &replayed.report);
    let mut found = Vec::new();
    if old.exit_code != new.exit_code {
        let (recorded, replayed) = (old.exit_code, new.exit_code);
        found.push(Difference::ExitCode { recorded, replayed });
    }
    if old.failed != new.failed {
        found.push(Difference::Failed { recorded: old.failed, replayed: new.failed });
    }
    if limit(old) != limit(new) {
        found.push(Difference::Limit { recorded: limit(old), replayed: limit(new) });
    }
    let before = Stable::of(tool, recorded.output.as_ref());
    let now = Stable::of(tool, replayed.output.as_ref());
    let told = first_difference(&before.body, &now.body);
    let whole = |report: &CallReport| report.output.as_ref().and_then(|output| output.blob);
    if let Some((line, recorded, replayed)) = told {
        let only_numbers = only_numbers_differ(&before.body, &now.body);
        found.push(Difference::Output { line, recorded, replayed, only_numbers });
    } else if whole(old) != whole(new) {
        found.push(Difference::WholeOutput);
    }
    if before.notes != now.notes {
        found.push(Difference::Refused { recorded: before.notes, replayed: now.notes });
    }
    if found.is_empty() { Verdict::Same } else { Verdict::Differs(found) }
}

fn limit(report: &CallReport) -> Option<String> {
    report.limit.as_ref().map(|limit| limit.limit.to_string())
}
