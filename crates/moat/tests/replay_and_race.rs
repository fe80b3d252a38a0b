//! Runs made again, and runs against each other, through the command line.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/server.rs"]
mod server;
#[path = "sandbox/terminal.rs"]
mod terminal;
#[path = "support/transcript.rs"]
mod transcript;

use lab::{Done, Lab, wait_until};
use moat_core::RunId;
use rustix::process::Signal;
use serde_json::{Value, json};
use terminal::Terminal;
use transcript::{Turn, exec, exec_with, patch, say, transcript, type_into};

fn with_transcript(turns: &[Turn]) -> (Lab, String) {
    let lab = Lab::new();
    let replay = lab.write("t.jsonl", transcript(turns)).to_str().unwrap().to_owned();
    lab.write("work/kept.txt", "from the start\n");
    (lab, replay)
}

fn exit(done: Done, code: i32) -> Done {
    assert_eq!(done.code, Some(code), "{done}");
    done
}

/// Replays, expects the exit code, returns the report.
fn replay(lab: &Lab, code: i32, args: &[&str]) -> Value {
    let args = [&["replay", "--json"], args].concat();
    serde_json::from_str(&exit(lab.moat(&args), code).out).unwrap()
}

fn verdicts(report: &Value) -> Vec<&str> {
    let calls = report["calls"].as_array().unwrap().iter();
    calls.map(|call| call["verdict"].as_str().unwrap()).collect()
}

/// Approvals, a message on the way, a second input, a terminal, a failure, an output that is not
/// told whole: where the same is said to the same files, the same comes out.
#[test]
fn where_nothing_changed_a_replay_says_so() {
    let terminal = exec_with(json!({
        "cmd": "read word; echo got $word | tee word.txt", "tty": true, "login": false,
        "yield_time_ms": 300,
    }));
    let (lab, transcript) = with_transcript(&[
        vec![exec("echo yes > yes.txt"), patch("*** Add File: new.txt\n+one\n+two")],
        vec![exec("echo no > no.txt")],
        vec![terminal],
        vec![type_into(3, "Ada\n", 5000)],
        vec![say("First part done.")],
        vec![exec("ls; cat new.txt kept.txt; exit 3"), exec("seq 1 60000")],
        vec![say("All done.")],
    ]);
    lab.write(
        "agent/AGENT.md",
        "---\nname: Careful\napprovals: [exec_command]\n---\nAsk before you act.\n",
    );
    let agent = lab.path("agent").to_str().unwrap().to_owned();
    let done = exit(lab.moat(&["run", &agent, "--json", "--replay", &transcript, "Go."]), 3);
    let run = done.run();
    exit(lab.moat(&["approve", &run, "--drive"]), 3);
    exit(lab.moat(&["steer", &run, "Mind the gap."]), 0);
    exit(lab.moat(&["reject", &run, "--message", "Not that.", "--drive"]), 3);
    exit(lab.moat(&["approve", &run, "--always", "--drive"]), 0);
    exit(lab.moat(&["continue", &run, "And the rest."]), 0);

    let report = replay(&lab, 0, &[&run]);
    assert_eq!(verdicts(&report), ["same"; 7], "{report}");
    assert_eq!((&report["differs"], &report["files_at_end"]), (&json!(false), &json!([])));
    let own = report["replay"].as_str().unwrap();
    let (old, new) = (lab.json(&["show", &run, "--json"]), lab.json(&["show", own, "--json"]));
    assert_eq!(new["labels"]["replay_of"], json!(run));
    assert_eq!((&new["status"], &new["last_message"]), (&json!("finished"), &json!("All done.")));
    assert_eq!(new["cost_usd"], 0.0);
    for turn in 0..7 {
        let output = |shown: &Value, call: usize| {
            let text = shown["turns"][turn]["calls"][call]["output"].as_str();
            text.map(|text| text.split_once("Output:\n").map_or(text, |(_, out)| out).to_owned())
        };
        assert_eq!(output(&old, 0), output(&new, 0));
    }
    assert_eq!(old["turns"][1]["calls"][0]["output"], "Not that.");
    assert_eq!(new["turns"][1]["calls"][0]["output"], "Not that.");
    let said = |run: &str| -> Vec<Value> {
        let whole = lab.json(&["diff", run, "--conversation", "--json"])["conversation"].clone();
        let said = whole.as_array().unwrap().iter();
        said.filter(|said| ["user", "steered"].contains(&said["kind"].as_str().unwrap()))
            .map(|said| json!([said["kind"], said["item"]]))
            .collect()
    };
    assert_eq!(said(&run).len(), 3);
    assert_eq!(said(&run), said(own));
    let text = exit(lab.moat(&["replay", &run]), 0).out;
    assert!(text.contains("calls: 7 same, 0 differ; files are the same at the end"), "{text}");
    assert_eq!(lab.json(&["verify", "--json"])["sound"], true);
}

#[test]
fn a_replay_names_what_differs_now() {
    let (lab, transcript) = with_transcript(&[
        vec![exec("echo same; date +%s%N"), patch("*** Add File: calm.txt\n+calm")],
        vec![exec("cat /proc/sys/kernel/random/uuid > id.txt; cat id.txt")],
        vec![exec("sleep 2; echo awake")],
        vec![exec("cat calm.txt")],
        vec![say("done")],
    ]);
    let run = lab.ok(&["exec", "--json", "--replay", &transcript, "Go."]).run();
    let report = replay(&lab, 1, &[&run, "--timeout", "1"]);
    assert_eq!(verdicts(&report), ["differs", "same", "differs", "differs", "same"], "{report}");
    let difference = |report: &Value, call: usize, at: usize| -> Value {
        report["calls"][call]["differences"][at].clone()
    };
    let clock = difference(&report, 0, 0);
    assert_eq!((&clock["what"], &clock["line"]), (&json!("output"), &json!(2)));
    assert_eq!(clock["only_numbers"], true);
    assert_eq!(difference(&report, 2, 0)["only_numbers"], false);
    let slept = difference(&report, 3, 0);
    assert_eq!((&slept["what"], &slept["recorded"]), (&json!("exit_code"), &json!(0)));
    assert_ne!(slept["replayed"], 0);
    assert_eq!(difference(&report, 3, 1)["what"], "limit");
    let files = &report["files"];
    assert_eq!(files.as_array().unwrap().len(), 1, "told once, where it began: {files}");
    assert_eq!((&files[0]["turn"], &files[0]["changes"][0]["path"]), (&json!(2), &json!("id.txt")));
    assert_eq!(report["files_at_end"].as_array().unwrap().len(), 1);

    let report = replay(&lab, 1, &[&run, "--ignore-numbers"]);
    assert_eq!(verdicts(&report), ["same", "same", "differs", "same", "same"]);
    let text = exit(lab.moat(&["replay", &run]), 1).out;
    assert!(text.contains("(only numbers differ)") && text.contains("modified id.txt"), "{text}");
}

/// A fork's replay begins with the fork's past, and plays only what the fork itself said.
#[test]
fn a_fork_is_replayed_from_where_it_was_cut() {
    let (lab, transcript) = with_transcript(&[
        vec![exec_with(json!({"cmd": "cat", "tty": true, "login": false, "yield_time_ms": 300}))],
        vec![exec("echo one >> log.txt")],
        vec![exec("echo two >> log.txt; cat log.txt")],
        vec![say("done")],
    ]);
    let run = lab.ok(&["exec", "--json", "--replay", &transcript, "Go."]).run();
    let events = lab.ok(&["logs", &run, "--json"]).lines();
    let checkpoints: Vec<_> = events.iter().filter(|e| e["kind"] == "checkpointed").collect();
    let at = checkpoints[1]["seq"].to_string();
    let fork = lab.ok(&["fork", &run, "--at", &at, "--json", "--steer", "Go on."]).run();
    let report = replay(&lab, 0, &[&fork]);
    assert_eq!(verdicts(&report), ["same"], "{report}");
    let own = report["replay"].as_str().unwrap();
    let shown = lab.json(&["show", own, "--json"]);
    assert!(shown["turns"][0]["calls"][0]["output"].as_str().unwrap().ends_with("one\ntwo\n"));
    let refused = exit(lab.moat(&["erase", &fork]), 5);
    assert!(refused.err.contains(own), "what it holds goes with the recorded run: {refused}");
}

#[test]
fn what_was_done_outside_is_not_done_again_without_a_word() {
    let (lab, transcript) = with_transcript(&[vec![exec("echo $HTTPS_PROXY")], vec![say("done")]]);
    let args = ["exec", "--json", "--replay", &transcript, "--net", "api.example.com", "Go."];
    let run = lab.ok(&args).run();
    let refused = exit(lab.moat(&["replay", &run]), 2);
    assert!(refused.err.contains("--network same"), "{refused}");
    assert_eq!(verdicts(&replay(&lab, 0, &[&run, "--network", "same"])), ["same"]);
    assert_eq!(verdicts(&replay(&lab, 1, &[&run, "--network", "none"])), ["differs"]);
}

/// Only the process that replays has the recorded model: what it could not begin goes on nowhere.
#[test]
fn a_replay_that_has_no_sandbox_is_over() {
    let (lab, transcript) = with_transcript(&[vec![exec("echo yes")], vec![say("done")]]);
    let run = lab.ok(&["exec", "--json", "--replay", &transcript, "Go."]).run();
    let mut command = lab.command(&["replay", &run, "--sandbox", "docker:absent"]);
    command.env("DOCKER_HOST", format!("unix://{}", lab.path("nobody.sock").display()));
    let refused = exit(lab.start(command).finish(), 5);
    assert!(refused.err.contains("nobody.sock"), "{refused}");
    let runs = lab.json(&["runs", "--json"]);
    let statuses = runs.as_array().unwrap().iter().map(|run| run["status"].as_str().unwrap());
    assert_eq!(statuses.collect::<Vec<_>>(), ["cancelled", "finished"]);
}

/// A provider whose models do the task in different ways.
fn models() -> String {
    server::serve(|asked| {
        let model = asked.body["model"].as_str().unwrap();
        let cmd = match model {
            "short" => "echo right > answer.txt",
            "long" => "printf 'right\\nand\\nmuch\\nmore\\n' > answer.txt",
            "dear" => "echo right > answer.txt; echo dear > price.txt",
            "wrong" => "printf 'wr\\033[31mong\\n' > answer.txt",
            _ => return server::error(400, "no_model", "there is no such model \u{1b}[31m"),
        };
        let mut input = asked.body["input"].as_array().unwrap().iter();
        let made = input.any(|item| item["call_id"] == "call_77" && item["output"].is_string());
        let output = if made { server::message("done") } else { server::call(77, cmd) };
        let (status, mut body) = server::response(0, output);
        if model == "dear" {
            body["usage"]["input_tokens"] = json!(1000);
        }
        (status, body)
    })
}

const CHECK: &str = "cat answer.txt; grep -q right answer.txt";

fn race(lab: &Lab, url: &str, args: &[&str]) -> Done {
    let common = ["race", "--no-stream", "--base-url", url];
    lab.moat(&[&common, args, &["Answer."]].concat())
}

fn rows(done: &Done) -> Vec<Value> {
    done.line("race")["entrants"].as_array().unwrap().clone()
}

fn column(rows: &[Value], name: &str) -> Vec<Value> {
    rows.iter().map(|row| row[name].clone()).collect()
}

#[test]
fn a_race_is_ranked_by_check_cost_and_size_and_the_first_is_written() {
    let (lab, url) = (Lab::new(), models());
    lab.write("work/kept.txt", "from the start\n");
    let all = "absent,wrong,dear,long,short";
    let args = ["--models", all, "--check", CHECK, "--parallel", "3", "--write", "--json"];
    let done = exit(race(&lab, &url, &args), 0);
    let rows = rows(&done);
    assert_eq!(column(&rows, "model"), ["short", "long", "dear", "wrong", "absent"], "{done}");
    assert_eq!(column(&rows, "passed"), [true, true, true, false, false]);
    assert_eq!(column(&rows, "status")[..4], ["finished"; 4]);
    assert_eq!(rows[0]["diff"], json!({"files": 1, "added": 1, "removed": 0}));
    assert_eq!(rows[1]["diff"]["added"], 4);
    assert_eq!(rows[3]["check"]["exit_code"], 1);
    assert_eq!(rows[3]["check"]["tail"], "wr\u{1b}[31mong");
    assert_eq!(rows[4]["check"], Value::Null);
    assert!(rows[4]["problem"].as_str().unwrap().contains("no such model"), "{}", rows[4]);
    let answer = std::fs::read_to_string(lab.work.join("answer.txt")).unwrap();
    assert_eq!(answer, "right\n");
    assert_eq!(done.line("applied")["run"], rows[0]["run"]);

    // Each is a run like any other, and so is each check.
    let of = |row: &Value, what: &str| lab.json(&["show", row[what].as_str().unwrap(), "--json"]);
    assert_eq!(of(&rows[1], "run")["labels"]["race"], done.line("race")["race"]);
    let check = of(&rows[3]["check"], "run");
    assert_eq!(check["labels"]["check_of"], rows[3]["run"]);
    assert_eq!(check["turns"][0]["calls"][0]["report"]["exit_code"], 1);
    let (run, text) = (rows[1]["run"].as_str().unwrap(), "right\nand\nmuch\nmore\n");
    exit(lab.moat(&["undo", rows[0]["run"].as_str().unwrap()]), 0);
    exit(lab.moat(&["apply", run]), 0);
    assert_eq!(std::fs::read_to_string(lab.work.join("answer.txt")).unwrap(), text);
    assert_eq!(lab.json(&["verify", "--json"])["sound"], true);
}

#[test]
fn a_race_that_nobody_wins_writes_nothing_and_says_why() {
    let (lab, url) = (Lab::new(), models());
    let args = ["--models", "wrong,absent", "--check", CHECK, "--write"];
    let done = exit(race(&lab, &url, &args), 1);
    assert!(done.out.contains("check: exit 1") && done.out.contains("│ wr"), "{done}");
    assert!(!(done.out.clone() + &done.err).contains('\u{1b}'), "{:?}", done.raw_out);
    assert!(done.err.contains("no run passed"), "{done}");
    assert!(!lab.work.join("answer.txt").exists());
    exit(race(&lab, &url, &["--models", "short,long", "-n", "1"]), 2);
    exit(race(&lab, &url, &["--check", " "]), 2);
}

#[test]
fn forks_race_from_a_checkpoint_and_a_check_has_a_time_limit() {
    let (lab, url) = (Lab::new(), models());
    let turns = [
        vec![exec("echo early > early.txt")],
        vec![exec("echo late > late.txt")],
        vec![say("done")],
    ];
    let replay = lab.write("t.jsonl", transcript(&turns)).to_str().unwrap().to_owned();
    let run = lab.ok(&["exec", "--json", "--replay", &replay, "Go."]).run();
    let events = lab.ok(&["logs", &run, "--json"]).lines();
    let at: Vec<_> = events.iter().filter(|event| event["kind"] == "checkpointed").collect();
    let at = at[1]["seq"].to_string();
    let check = "test -f early.txt && test ! -e late.txt && cat answer.txt && sleep 61";
    let from = ["--from", &run, "--at", &at, "--models", "short,long", "--json"];
    let limited = [&from[..], &["--check", check, "--check-timeout", "1"]].concat();
    let done = exit(race(&lab, &url, &limited), 1);
    let found = rows(&done);
    assert_eq!(column(&found, "passed"), [false, false], "{done}");
    for row in &found {
        assert_eq!(row["check"]["timed_out"], true, "{row}");
        assert!(row["check"]["tail"].as_str().unwrap().starts_with("right"), "{row}");
        // What the fork itself changed, not what its past did.
        assert_eq!(row["diff"]["files"], 1, "{row}");
    }
    exit(race(&lab, &url, &["--from", &run, "--memory", "1G"]), 2);
}

/// On a terminal somebody chooses; what he copies from it is whole, however narrow it is.
#[test]
fn on_a_terminal_somebody_chooses_or_leaves() {
    let (lab, url) = (Lab::new(), models());
    let args = ["race", "--base-url", &url, "--models", "short,long", "--check", CHECK, "Answer."];
    let asked = || {
        let terminal = Terminal::start(lab.command(&args), 24, 50);
        terminal.until("write which to the folder? [1-2");
        let shown = terminal.shown();
        let runs = shown.split_whitespace().filter(|word| word.parse::<RunId>().is_ok());
        assert_eq!(runs.count(), 2, "{shown}");
        terminal
    };
    let left = asked();
    left.signal(Signal::INT);
    assert_eq!(left.finish(), Some(130));
    assert!(!lab.work.join("answer.txt").exists());

    let chooses = asked();
    chooses.enter("2");
    chooses.until("moat undo");
    assert_eq!(chooses.finish(), Some(0));
    let answer = std::fs::read_to_string(lab.work.join("answer.txt")).unwrap();
    assert_eq!(answer.lines().count(), 4);
}

#[test]
fn a_signal_pauses_all_runs_of_a_race() {
    let turns = [vec![exec("echo begun > begun.txt; sleep 15")], vec![say("done")]];
    let (lab, transcript) = with_transcript(&turns);
    let args = ["race", "--replay", &transcript, "-n", "3", "--parallel", "2", "--json", "Go."];
    let running = lab.start(lab.command(&args));
    wait_until("two commands", || {
        let runs = lab.json(&["runs", "--json"]);
        runs.as_array().unwrap().iter().filter(|run| run["calls"] == 1).count() == 2
    });
    running.signal(Signal::INT);
    let done = exit(running.finish(), 130);
    let rows = rows(&done);
    assert_eq!(column(&rows, "status"), [json!("paused"), json!("paused"), Value::Null], "{done}");
    assert!(rows[2]["problem"].as_str().unwrap().contains("not begun"), "{done}");
    let resumed = lab.moat(&["resume", rows[1]["run"].as_str().unwrap(), "--json"]);
    assert_eq!(exit(resumed, 0).line("result")["output"], "done");
}
