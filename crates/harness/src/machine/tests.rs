//! Property tests over generated runs: the machine is driven in a world that answers the same
//! whenever it is asked the same, cut at every event, and driven on.

mod world;

use std::collections::HashMap;

use moat_core::{Event, EventBody, Seq};
use proptest::prelude::*;

use super::{State, Status};
use world::{Plan, World, drive, moved, plans};

fn fold(events: &[Event]) -> State {
    let mut state = State::default();
    for event in events {
        state.apply(event).unwrap();
    }
    state
}

/// What has to be the same however often a run was interrupted.
fn end_of(state: &State) -> (String, Vec<String>, String) {
    let items = state.conversation().iter().map(|entry| entry.item.json().to_owned()).collect();
    (format!("{:?}", state.status()), items, state.prefix().1.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// *Prefix*: cut anywhere, drive on, same end. Begun calls are taken up again, or were rolled
    /// back with their sandbox and run as the next attempt.
    #[test]
    fn a_run_that_is_cut_anywhere_ends_the_same(plan in plans()) {
        let whole = drive(&World::new(&plan, false), Vec::new());
        let wanted = end_of(&fold(&whole));
        let ended = matches!(fold(&whole).status(), Status::Finished(_) | Status::Limited { .. });
        prop_assert!(ended);
        for cut in 1..whole.len() {
            for sandbox_lost in [false, true] {
                let resumed = drive(&World::new(&plan, sandbox_lost), whole[..cut].to_vec());
                prop_assert_eq!(&end_of(&fold(&resumed)), &wanted, "cut after {} events", cut);
            }
        }
    }

    /// *Move*: cut anywhere, drive on in another place, same end.
    #[test]
    fn a_run_that_moves_anywhere_ends_the_same(plan in plans()) {
        let whole = drive(&World::new(&plan, false), Vec::new());
        let wanted = end_of(&fold(&whole));
        for cut in 1..whole.len() {
            let moved = drive(&World::new(&plan, true), moved(&whole[..cut], "docker:image"));
            prop_assert_eq!(&end_of(&fold(&moved)), &wanted, "moved after {} events", cut);
        }
    }

    /// *Fold*: the state after N events is the state after K and then K..N.
    #[test]
    fn folding_in_two_steps_is_folding_in_one(plan in plans(), at in any::<prop::sample::Index>()) {
        let events = drive(&World::new(&plan, false), Vec::new());
        let at = at.index(events.len());
        let mut state = fold(&events[..at]);
        for event in &events[at..] {
            state.apply(event).unwrap();
        }
        prop_assert_eq!(format!("{:?}", state), format!("{:?}", fold(&events)));
    }

    /// *Per attempt*: no outcome without an intent, one outcome for one intent, and no call of an
    /// answer left without an outcome when the run ends with an answer.
    #[test]
    fn every_outcome_has_its_own_intent(plan in plans()) {
        let whole = drive(&World::new(&plan, false), Vec::new());
        for cut in 1..whole.len() {
            let events = drive(&World::new(&plan, true), whole[..cut].to_vec());
            check_attempts(&events)?;
        }
    }
}

fn check_attempts(events: &[Event]) -> Result<(), TestCaseError> {
    let mut open: HashMap<(Seq, u32, u32), &str> = HashMap::new();
    let mut asked = 0;
    for event in events {
        match &event.body {
            EventBody::ModelRequested(_) => asked += 1,
            EventBody::ModelAnswered(_) | EventBody::ModelFailed(_) => {
                prop_assert!(asked > 0, "an answer without a request");
                asked = 0;
            }
            EventBody::CallStarted(call) => {
                let fresh = open.insert((call.of, call.index, call.attempt), "open").is_none();
                prop_assert!(fresh, "an attempt was begun twice");
            }
            EventBody::CallFinished(call) if !call.report.failed => {
                let intent = open.insert((call.of, call.index, call.attempt), "finished");
                prop_assert_eq!(intent, Some("open"));
            }
            EventBody::CallRolledBack(call) => {
                let intent = open.insert((call.of, call.index, call.attempt), "undone");
                prop_assert_eq!(intent, Some("open"));
            }
            _ => {}
        }
    }
    prop_assert!(open.values().all(|state| *state != "open"));
    Ok(())
}

#[test]
fn an_event_that_does_not_follow_is_refused() {
    let events = drive(&World::new(&Plan::one_call(), false), Vec::new());
    let finished = events.iter().position(|e| matches!(e.body, EventBody::CallFinished(_)));
    let finished = finished.unwrap();
    let mut state = fold(&events[..finished + 1]);
    let error = state.apply(&events[finished]).unwrap_err();
    assert!(error.to_string().contains("does not follow"), "{error}");
}
