//! One run, one driver: of two that want it one gets it, and one that was stopped and has lost it
//! changes nothing when it wakes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/transcript.rs"]
mod transcript;

use std::path::{Path, PathBuf};

use lab::{Done, Lab, Running, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};
use transcript::{exec, exec_with, say, transcript};

/// A command that appends a line now and then, so that whoever stops has work before and behind.
fn slow(word: &str, lines: u32) -> Value {
    let cmd = format!("for i in $(seq {lines}); do echo {word}-$i >> log.txt; sleep 0.1; done");
    exec_with(json!({"cmd": cmd, "login": false, "yield_time_ms": 30000}))
}

fn stage() -> (Lab, PathBuf) {
    let lab = Lab::new();
    let turns = [
        vec![exec("echo first >> log.txt")],
        vec![slow("one", 12), exec("echo beside >> beside.txt")],
        vec![exec("echo between >> log.txt")],
        vec![slow("two", 12)],
        vec![exec("echo last >> log.txt")],
        vec![say("done")],
    ];
    let file = lab.write("t.jsonl", transcript(&turns));
    (lab, file)
}

fn expected_log() -> String {
    let lines = |word: &str| (1..=12).map(|i| format!("{word}-{i}\n")).collect::<String>();
    format!("first\n{}between\n{}last\n", lines("one"), lines("two"))
}

/// A run whose slow command of the given turn has begun.
fn begun(lab: &Lab, replay: &Path) -> Running {
    let replay = replay.to_str().unwrap();
    let running = lab.start(lab.command(&["exec", "--json", "--replay", replay, "Go."]));
    wait_until("the slow command", || calls_started(&running) == 3);
    running
}

fn calls_started(running: &Running) -> usize {
    std::fs::read_to_string(&running.out).unwrap().matches("\"kind\":\"call_started\"").count()
}

fn journal(lab: &Lab) -> String {
    lab.ok(&["logs", "--last", "--json"]).out
}

/// The end of the run: everything was done once, and the journal is whole.
fn check_end(lab: &Lab, winner: &Done) {
    assert_eq!(winner.code, Some(0), "{winner}");
    let run = lab.newest();
    lab.ok(&["apply", &run]);
    assert_eq!(std::fs::read_to_string(lab.work.join("log.txt")).unwrap(), expected_log());
    assert_eq!(std::fs::read_to_string(lab.work.join("beside.txt")).unwrap(), "beside\n");
    let verified = lab.json(&["verify", "--json"]);
    assert_eq!(verified["sound"], true, "{verified}");
    // Everything that the winner said it had appended is there, and is the end of the journal.
    let said: Vec<_> = events(&winner.out);
    let kept = events(&journal(lab));
    assert!(kept.ends_with(&said) && said.len() > 3, "{said:?}\n{kept:?}");
}

fn events(lines: &str) -> Vec<(Value, Value)> {
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events = lines.filter(|line| line["type"] == "event");
    events.map(|event| (event["seq"].clone(), event["body"].clone())).collect()
}

#[test]
fn of_two_that_resume_one_proceeds_and_the_other_names_it() {
    let (lab, replay) = stage();
    begun(&lab, &replay).kill();
    let resume = || lab.start(lab.command(&["resume", "--last", "--json"]));
    let both = [resume(), resume()];
    let pids = both.each_ref().map(|running| running.pid.as_raw_nonzero().get());
    let [one, other] = both.map(Running::finish);
    let (winner, loser, holder) = match one.code {
        Some(0) => (one, other, pids[0]),
        _ => (other, one, pids[1]),
    };
    assert_eq!(loser.code, Some(5), "{loser}");
    assert!(loser.err.contains(&format!("process {holder} ")), "{holder}: {loser}");
    assert!(loser.err.contains("--take-over"), "{loser}");
    check_end(&lab, &winner);
}

#[test]
fn a_stopped_driver_that_wakes_while_another_drives_changes_nothing() {
    let (lab, replay) = stage();
    let old = begun(&lab, &replay);
    old.signal(Signal::STOP);
    let refused = lab.moat(&["resume", "--last"]);
    assert_eq!(refused.code, Some(5), "{refused}");
    assert!(refused.err.contains(&format!("process {} ", old.pid.as_raw_nonzero())), "{refused}");

    let new = lab.start(lab.command(&["resume", "--last", "--take-over", "--json"]));
    // The old one wakes while the new one has a command running in the same sandbox.
    wait_until("the second slow command", || calls_started(&new) == 2);
    let (before, said) = (journal(&lab), std::fs::read_to_string(&old.out).unwrap());
    old.signal(Signal::CONT);
    let old = old.finish();
    assert_eq!(old.code, Some(5), "{old}");
    assert!(old.err.contains("taken over"), "{old}");
    assert_eq!(events(&old.out), events(&said), "it said that it had appended something");
    let new = new.finish();
    check_end(&lab, &new);
    assert!(journal(&lab).starts_with(&before));
    let shown = lab.json(&["show", "--last", "--json"]);
    let calls = shown["turns"].as_array().unwrap().iter();
    let calls = calls.flat_map(|turn| turn["calls"].as_array().unwrap());
    assert!(calls.map(|call| &call["attempts"]).all(|attempts| attempts == 1), "{shown}");
}

#[test]
fn a_stopped_driver_that_wakes_after_the_end_changes_nothing() {
    let (lab, replay) = stage();
    let old = begun(&lab, &replay);
    old.signal(Signal::STOP);
    let new = lab.moat(&["resume", "--last", "--take-over", "--json"]);
    let (before, shown) = (journal(&lab), lab.json(&["show", "--last", "--json"]));
    old.signal(Signal::CONT);
    let old = old.finish();
    assert_eq!(old.code, Some(5), "{old}");
    assert!(old.err.contains("taken over"), "{old}");
    assert_eq!(journal(&lab), before);
    assert_eq!(lab.json(&["show", "--last", "--json"]), shown);
    check_end(&lab, &new);
}
