use moat_core::{
    CallFinished, CallReport, Checkpointed, Epoch, Event, EventBody, EventHeader, Item,
    ModelAnswered, RunContinued, RunId, Seq, SnapshotId, Steered, TenantId, Usage,
};
use serde_json::json;

use super::output::{first_difference, only_numbers_differ};
use super::*;

fn events(bodies: Vec<EventBody>) -> Vec<Event> {
    let run = RunId::generate();
    let header = |seq, body: &EventBody| EventHeader {
        tenant: TenantId::local(),
        run,
        seq: Seq(seq),
        epoch: Epoch(1),
        at: 0,
        actor: "harness".into(),
        kind: body.kind().into(),
        version: 1,
        must_understand: true,
    };
    let bodies = (1..).zip(bodies);
    bodies.map(|(seq, body)| Event { header: header(seq, &body), body }).collect()
}

fn answer(turn: u32, calls: u32) -> EventBody {
    let call = |index| {
        Item::from_value(&json!({
            "type": "function_call", "call_id": format!("call_{index}"), "name": "exec_command",
            "arguments": "{}",
        }))
    };
    ModelAnswered {
        turn,
        attempt: 1,
        response_id: None,
        model: "m".into(),
        output: (0..calls).map(call).collect(),
        usage: Usage::default(),
        cost: None,
        duration_ms: 0,
        first_output_ms: None,
    }
    .into()
}

fn reply(of: u64, index: u32, wall: &str, code: i32, output: &str) -> CallFinished {
    let text = format!(
        "Chunk ID: {index:06x}\nWall time: {wall} seconds\nProcess exited with code {code}\n\
         Output:\n{output}"
    );
    let item = json!({"type": "function_call_output", "call_id": "call_0", "output": text});
    CallFinished {
        of: Seq(of),
        index,
        attempt: 1,
        output: Some(Item::from_value(&item)),
        report: CallReport { exit_code: Some(code), ..CallReport::default() },
    }
}

fn files(id: u8) -> EventBody {
    Checkpointed {
        snapshot: SnapshotId([id; 32]),
        files: 0,
        bytes: 0,
        new_bytes: 0,
        changed: Vec::new(),
        changed_count: 0,
        duration_ms: 0,
    }
    .into()
}

fn continued() -> EventBody {
    RunContinued {
        input: vec![Item::user_message("more")],
        options: None,
        model: None,
        sandbox: None,
    }
    .into()
}

/// The replay has other event numbers (it has no failures and no second attempts), so that only
/// order and place can join the two.
#[test]
fn calls_are_compared_by_their_place_and_without_what_is_always_new() {
    let recorded = events(vec![
        answer(1, 3),
        continued(),
        reply(1, 0, "0.1", 0, "a\nb\n").into(),
        reply(1, 1, "0.1", 0, "took 12 ms\nok\n").into(),
        reply(1, 2, "0.1", 0, "one\n").into(),
        answer(2, 2),
        CallFinished {
            report: CallReport { unknown: true, ..CallReport::default() },
            ..reply(6, 0, "0.1", 0, "lost")
        }
        .into(),
        reply(6, 1, "0.1", 0, "").into(),
    ]);
    let replayed = events(vec![
        answer(1, 3),
        reply(1, 2, "7.5", 1, "two\n").into(),
        reply(1, 1, "7.5", 0, "took 7 ms\nok\n").into(),
        reply(1, 0, "7.5", 0, "a\nb\n").into(),
        answer(2, 2),
    ]);
    let calls = compare_calls(&recorded, &replayed);
    let output = |line, recorded: &str, replayed: &str, only_numbers| Difference::Output {
        line,
        recorded: Some(recorded.into()),
        replayed: Some(replayed.into()),
        only_numbers,
    };
    let verdicts: Vec<_> = calls.iter().map(|call| call.verdict.clone()).collect();
    let numbers = Verdict::Differs(vec![output(1, "took 12 ms", "took 7 ms", true)]);
    let code = Difference::ExitCode { recorded: Some(0), replayed: Some(1) };
    assert_eq!(
        verdicts,
        [
            Verdict::Same,
            numbers.clone(),
            Verdict::Differs(vec![code, output(1, "one", "two", false)]),
            Verdict::NotCompared,
            Verdict::Differs(vec![Difference::NotMade]),
        ]
    );
    assert!(numbers.differs(false) && !numbers.differs(true));
    assert!(calls[2].verdict.differs(true));
    assert_eq!((calls[4].recorded.to_string(), calls[4].turn), ("6.1".to_owned(), 2));
    assert_eq!(calls[4].replayed.unwrap().to_string(), "5.1");
}

#[test]
fn the_first_line_that_differs_is_found_also_at_the_end() {
    let of = |a: &str, b: &str| first_difference(a, b);
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(of("a\nb", "a\nb"), None);
    assert_eq!(of("a\nb", "a\nc\nd"), Some((2, some("b"), some("c"))));
    assert_eq!(of("a\n", "a\nb\n"), Some((2, None, some("b"))));
    assert_eq!(of("a\nb\n", "a\nb"), Some((2, some("b\n"), some("b"))));
    assert!(only_numbers_differ("pid 1 of 20", "pid 4711 of 3"));
    assert!(!only_numbers_differ("pid 1 of", "pid of 1"));
    assert!(!only_numbers_differ("same 1", "same 1"));
}

#[test]
fn files_belong_to_the_answer_whose_calls_they_follow() {
    let events =
        events(vec![files(1), answer(1, 1), answer(2, 1), files(2), files(3), answer(3, 0)]);
    let snapshots: Vec<_> = files_after_answers(&events)
        .iter()
        .map(|after| (after.turn, after.snapshot.unwrap().0[0]))
        .collect();
    assert_eq!(snapshots, [(1, 1), (2, 3), (3, 3)]);
}

#[test]
fn what_people_said_is_recorded_where_it_stood() {
    let steer = |text: &str| Steered { input: vec![Item::user_message(text)] }.into();
    let recording = Recording::of(&events(vec![
        moat_core::RunStarted {
            agent: Default::default(),
            input: Vec::new(),
            options: Default::default(),
            parent: None,
            forked_from: None,
            environment: Default::default(),
            allow_missing: Vec::new(),
            sandbox: Default::default(),
            origin: None,
            labels: Default::default(),
        }
        .into(),
        steer("first"),
        answer(1, 1),
        steer("second"),
        answer(2, 0),
        continued(),
        steer("third"),
        answer(3, 0),
    ]));
    let stretches: Vec<_> = recording
        .stretches()
        .iter()
        .map(|stretch| (stretch.input.len(), stretch.steered.clone(), stretch.until))
        .collect();
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(stretches, [(0, texts(&["first"]), 2), (1, texts(&["third"]), 3)]);
    assert_eq!(recording.answer(0).unwrap().steered, ["second"]);
    assert!(recording.answer(1).unwrap().steered.is_empty());
}
