//! A recorded run of thirty turns, with harness, sandbox or both killed after each durable append
//! in turn: it ends as if nothing had happened.
//!
//! The process stops itself right after append k (feature `failpoints`), so each kill hits the
//! same place every time. By default some places are tried, with `MOAT_TEST_FULL=1` every one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[cfg(feature = "docker")]
#[path = "../../sandbox-docker/tests/support.rs"]
mod engine;
#[path = "support/lab.rs"]
mod lab;
#[cfg(feature = "docker")]
#[path = "crash_sweep/moves.rs"]
mod moves;
#[path = "support/recorded.rs"]
mod recorded;
#[path = "support/transcript.rs"]
mod transcript;

use std::sync::LazyLock;

use lab::{Change, Done, Running};
use recorded::{End, Stage, check_history, is_full};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const STOP: &str = "MOAT_FAILPOINT_STOP_FROM_APPEND";

/// The run as it goes when nothing happens to it.
struct Reference {
    end: End,
    /// Kinds of events in each append.
    appends: Vec<Vec<String>>,
}

static REFERENCE: LazyLock<Reference> = LazyLock::new(|| {
    let stage = Stage::new();
    let mut appends: Vec<Vec<String>> = Vec::new();
    let mut running = start(&stage, 1);
    let done = loop {
        match running.next_stop() {
            Change::Ended(done) => break done,
            Change::Stopped(stopped) => {
                let so_far = Done::lines_so_far(&stopped.out);
                let before = appends.iter().map(Vec::len).sum::<usize>() + 1;
                let kinds = so_far[before..].iter().map(|line| line["kind"].to_string());
                appends.push(kinds.collect());
                stopped.signal(Signal::CONT);
                running = stopped;
            }
        }
    };
    assert_eq!(done.code, Some(0), "{done}");
    let end = stage.end();
    assert!(end.turns >= 30 && appends.len() > 60, "{} appends", appends.len());
    assert_eq!(end.files["log.txt"], recorded::expected_log().as_bytes());
    Reference { end, appends }
});

fn start(stage: &Stage, stop_from: usize) -> Running {
    let mut command = stage.exec();
    command.env(STOP, stop_from.to_string());
    stage.lab.start(command)
}

/// Where a variant strikes: appends, counted from 1. Variants take different ones.
fn points(variant: usize) -> Vec<usize> {
    let appends = &REFERENCE.appends;
    let last = appends.len();
    if is_full() {
        return (1..=last).collect();
    }
    let with = |kind: &str, nth: usize| {
        let kind = format!("\"{kind}\"");
        let mut found = (1..=last).filter(|at| appends[at - 1].contains(&kind));
        found.nth(nth).unwrap_or(last)
    };
    let turn = match variant % 2 {
        0 => recorded::PARALLEL_TURN,
        _ => recorded::TERMINAL_TURN,
    };
    // The first and the last, intents of the turns that are not like others, and two more.
    let mut points = vec![
        1,
        with("call_started", turn),
        with("call_started", recorded::PATCH_TURN + variant / 2),
        with("checkpointed", 1 + variant),
        last / 2 + variant,
        last,
    ];
    points.sort_unstable();
    points.dedup();
    points
}

/// Drives a run to append `k`, where it stops. `None` if it ended before.
fn up_to(stage: &Stage, k: usize) -> Running {
    match start(stage, k).next_stop() {
        Change::Stopped(stopped) => stopped,
        Change::Ended(done) => panic!("append {k} was not reached: {done}"),
    }
}

fn go_on(mut running: Running) -> Done {
    loop {
        running.signal(Signal::CONT);
        match running.next_stop() {
            Change::Stopped(stopped) => running = stopped,
            Change::Ended(done) => return done,
        }
    }
}

/// Kills the run's sandbox, if it has one. `false`: it has none.
fn kill_sandbox(stage: &Stage) -> bool {
    let shown = stage.lab.json(&["show", "--last", "--json"]);
    let Some(pid) = shown["sandbox"]["handle"]["process"]["pid"].as_i64() else { return false };
    let _ = kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL);
    true
}

/// What has to hold for every end, whatever was killed.
fn check(stage: &Stage, before: &str, done: &Done, place: &str) -> End {
    assert_eq!(done.code, Some(0), "{place}: {done}");
    let end = stage.end();
    assert!(end.journal.starts_with(before), "{place}: an event was lost or changed");
    check_history(&end.events, place);
    let verified = stage.lab.json(&["verify", "--json"]);
    assert_eq!(verified["sound"], true, "{place}: {verified}");
    end
}

fn compare(end: &End, same_processes: bool, place: &str) {
    let reference = &REFERENCE.end;
    let names = |end: &End| end.files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(end), names(reference), "{place}");
    for (name, content) in &reference.files {
        let found = &end.files[name];
        if name == recorded::TYPED && !same_processes {
            // What was typed into a lost process is lost with it; never is it there twice.
            assert!(content.starts_with(found), "{place}: {name}");
            continue;
        }
        let (found, content) = (String::from_utf8_lossy(found), String::from_utf8_lossy(content));
        assert_eq!(found, content, "{place}: {name}");
    }
    assert_eq!(end.items.len(), reference.items.len(), "{place}");
    for (found, expected) in end.items.iter().zip(&reference.items) {
        if same_processes || !expected.is_of_session {
            assert_eq!(found.text, expected.text, "{place}");
        }
    }
}

#[test]
fn harness_killed_after_an_append() {
    for k in points(0) {
        let (stage, place) = (Stage::new(), format!("harness killed after append {k}"));
        up_to(&stage, k).kill();
        let before = stage.journal();
        let done = stage.resume(&stage.transcript);
        let end = check(&stage, &before, &done, &place);
        compare(&end, true, &place);
    }
}

#[test]
fn sandbox_killed_after_an_append() {
    for k in points(1) {
        let (stage, place) = (Stage::new(), format!("sandbox killed after append {k}"));
        let stopped = up_to(&stage, k);
        let before = stage.journal();
        kill_sandbox(&stage);
        let done = go_on(stopped);
        let end = check(&stage, &before, &done, &place);
        compare(&end, false, &place);
    }
}

#[test]
fn both_killed_after_an_append() {
    for k in points(2) {
        let (stage, place) = (Stage::new(), format!("both killed after append {k}"));
        let stopped = up_to(&stage, k);
        kill_sandbox(&stage);
        stopped.kill();
        let before = stage.journal();
        let done = stage.resume(&stage.transcript);
        let end = check(&stage, &before, &done, &place);
        compare(&end, false, &place);
    }
}

#[test]
fn a_model_that_answers_differently_the_second_time() {
    for k in points(3) {
        let (stage, place) = (Stage::new(), format!("other answers after append {k}"));
        up_to(&stage, k).kill();
        let before = stage.journal();
        let done = stage.resume(&stage.other_transcript);
        let end = check(&stage, &before, &done, &place);
        let log = String::from_utf8_lossy(&end.files["log.txt"]).into_owned();
        let mut lines: Vec<_> = log.lines().collect();
        let count = lines.len();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), count, "{place}: a line is there twice");
        assert_eq!(lines.len(), recorded::expected_log().lines().count(), "{place}: {log}");
        let others = lines.iter().filter(|line| line.starts_with("other")).count();
        assert!(others > 0 || k > REFERENCE.appends.len() - 8, "{place}: {log}");
    }
}

/// Not after an append but in the middle of things: while a command runs, a patch is written, a
/// checkpoint is taken, an answer comes.
#[test]
fn harness_killed_at_any_moment() {
    let count = if is_full() { 120 } else { 3 };
    for step in 0..count {
        let stage = Stage::new();
        let (place, after) = (format!("moment {step} of {count}"), step * 2600 / count + 40);
        let running = stage.lab.start(stage.exec());
        std::thread::sleep(std::time::Duration::from_millis(after));
        running.kill();
        if stage.lab.json(&["runs", "--json"]) == Value::Array(Vec::new()) {
            continue;
        }
        let before = stage.journal();
        let done = stage.resume(&stage.transcript);
        let end = check(&stage, &before, &done, &place);
        compare(&end, true, &place);
    }
}
