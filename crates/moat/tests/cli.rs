//! What the command promises to scripts: exit codes, JSON, standard input, files; and what one
//! process can do to a run that another drives.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/server.rs"]
mod server;
#[path = "support/transcript.rs"]
mod transcript;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lab::{Done, Lab};
use serde_json::json;
use server::{message, response, serve};
use transcript::{Turn, exec, exec_with, patch, say, transcript};

fn with_transcript(turns: &[Turn]) -> (Lab, String) {
    let lab = Lab::new();
    let file = lab.write("t.jsonl", transcript(turns)).to_str().unwrap().to_owned();
    (lab, file)
}

fn exit(done: &Done, code: i32) -> &Done {
    assert_eq!(done.code, Some(code), "{done}");
    done
}

#[test]
fn success_and_its_shapes() {
    let turns = [vec![exec("cat in.txt")], vec![say("The answer.")], vec![say("More.")]];
    let (lab, replay) = with_transcript(&turns);
    lab.write("work/in.txt", "in\n");
    let out = lab.path("answer.txt");
    let args = ["exec", "--json", "--replay", &replay, "-o", out.to_str().unwrap(), "-"];
    let done = lab.start_piped(&mut lab.command(&args), "What is\nin the file?\n");
    exit(&done, 0);
    let lines = done.lines();
    assert_eq!((&lines[0]["type"], &lines[0]["v"]), (&json!("run"), &json!(1)));
    let run = done.run();
    let result = lines.last().unwrap();
    assert_eq!((&result["type"], &result["run"]), (&json!("result"), &json!(run)));
    assert_eq!((&result["status"], &result["exit_code"]), (&json!("finished"), &json!(0)));
    assert_eq!(result["output"], "The answer.");
    assert_eq!(std::fs::read_to_string(out).unwrap(), "The answer.");
    // For people only the message is on standard output.
    let plain = lab.moat(&["continue", "--last", "And then?", "--replay", &replay]);
    assert_eq!(exit(&plain, 0).out, "More.\n");

    let second = exit(&lab.moat(&["exec", "--json", "--replay", &replay, "Again."]), 0).run();
    let listed = lab.json(&["runs", "--json"]);
    assert_eq!((&listed[0]["run"], &listed[1]["run"]), (&json!(second), &json!(run)));
    assert_eq!(listed[1]["prompt"], "What is\nin the file?\n");
    assert_eq!(listed[1]["owned"], false);
    // A part of the id is enough, and nothing on standard output is not JSON.
    let short = &run[run.len() - 8..];
    assert_eq!(lab.json(&["show", short, "--json"])["last_message"], "More.");
}

#[test]
fn what_cannot_be_meant_is_2_and_what_the_host_cannot_is_5() {
    let lab = Lab::new();
    let absent = "01a1fbda-0000-7000-8000-000000000000";
    for args in [
        ["exec"].as_slice(),
        &["exec", "--no-such-flag", "x"],
        &["exec", " "],
        &["exec", "-C", "/no/such/folder", "x"],
        &["run", "/no/such/agent", "x"],
        &["resume", "--last"],
        &["show", absent],
        &["logs", absent],
        &["verify", absent],
        &["resume", absent],
        &["fork", absent, "x"],
        &["steer", absent, "x"],
        &["approve", "zz"],
    ] {
        let done = lab.moat(args);
        assert_eq!(done.code, Some(2), "{args:?}: {done}");
        assert!(!done.err.trim().is_empty() && done.out.is_empty(), "{args:?}: {done}");
    }
    lab.write("file", "");
    let file = lab.path("file/data");
    let done = lab.moat(&["--data-dir", file.to_str().unwrap(), "runs"]);
    assert!(exit(&done, 5).err.contains("file/data"), "{done}");
}

/// As `head` leaves it: nothing is wrong, and nothing is said.
#[test]
fn an_output_that_nobody_reads_is_141_without_a_word() {
    let lab = Lab::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let done = lab.command(&["schema"]).stdout(writer).output().unwrap();
    assert_eq!(done.status.code(), Some(141), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.stderr, b"");
}

#[test]
fn a_limit_is_4_and_a_raised_one_goes_on() {
    let (lab, replay) =
        with_transcript(&[vec![exec("echo 1")], vec![exec("echo 2")], vec![say("done")]]);
    let done = lab.moat(&["exec", "--json", "--max-turns", "1", "--replay", &replay, "Go."]);
    assert_eq!(exit(&done, 4).line("result")["status"], "limited");
    exit(&lab.moat(&["resume", "--last", "--max-turns", "2"]), 4);
    let done = lab.moat(&["resume", "--last", "--max-turns", "3", "--json"]);
    assert_eq!(exit(&done, 0).line("result")["output"], "done");
}

#[test]
fn a_failed_task_is_1_and_a_provider_that_is_down_is_6_and_resumable() {
    // A transcript that ends too early ends the run: nobody will ever answer.
    let (lab, replay) = with_transcript(&[vec![exec("true")]]);
    let done = lab.moat(&["exec", "--json", "--replay", &replay, "Go."]);
    assert_eq!(exit(&done, 1).line("result")["status"], "failed");

    let up = Arc::new(AtomicBool::new(false));
    let is_up = up.clone();
    let url = serve(move |_| match is_up.load(Ordering::Relaxed) {
        true => response(0, message("back")),
        false => server::error(401, "invalid_api_key", "no such key"),
    });
    let done = lab.moat(&["exec", "--json", "--no-stream", "--base-url", &url, "Go."]);
    let result = exit(&done, 6).line("result");
    assert_eq!(result["status"], "paused");
    assert!(result["error"]["message"].as_str().unwrap().contains("no such key"), "{result}");
    up.store(true, Ordering::Relaxed);
    let done = lab.moat(&["resume", "--last", "--json", "--base-url", &url]);
    assert_eq!(exit(&done, 0).line("result")["output"], "back");
}

#[test]
fn a_fork_has_the_past_up_to_the_checkpoint_that_it_names() {
    let turns = [
        vec![exec("echo one > one.txt")],
        vec![patch("*** Add File: two.txt\n+two")],
        vec![exec("echo three > three.txt")],
        vec![say("done")],
    ];
    let (lab, replay) = with_transcript(&turns);
    let run = lab.ok(&["exec", "--json", "--replay", &replay, "Go."]).run();
    let events = lab.ok(&["logs", &run, "--json"]).lines();
    let checkpoints: Vec<_> =
        events.iter().filter(|event| event["kind"] == "checkpointed").collect();
    assert_eq!(checkpoints.len(), 4, "{checkpoints:?}");
    // One after the second checkpoint of a call is cut at that one.
    let at = checkpoints[2]["seq"].as_u64().unwrap();
    let asked = (at + 2).to_string();
    let forked = lab.ok(&["fork", &run, "Otherwise.", "--at", &asked]);
    assert!(forked.err.contains(&format!("fork of {run} at event {at}")), "{forked}");
    let names = |run: &str| {
        let diff = lab.json(&["diff", run, "--json"]);
        let changes = diff["changes"].as_array().unwrap().iter();
        let changes = changes.filter(|change| change["root"] == "workspace");
        changes.map(|change| change["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // The fork played the rest of the transcript, from where it was cut.
    let fork = lab.newest();
    assert_eq!(names(&fork), ["one.txt", "three.txt", "two.txt"]);
    assert_eq!(lab.json(&["runs", "--json"])[0]["forked_from"], json!(run));
    let too_early = lab.moat(&["fork", &run, "x", "--at", "1"]);
    exit(&too_early, 2);
    assert_eq!(lab.json(&["verify", "--json"])["sound"], true);
}

fn slow(lab: &Lab, replay: &str) -> lab::Running {
    let running = lab.start(lab.command(&["exec", "--json", "--replay", replay, "Go."]));
    running.wait_for_output("\"kind\":\"call_started\"");
    running
}

#[test]
fn others_steer_and_cancel_a_run_that_goes_on() {
    let wait = |seconds: u32| {
        exec_with(
            json!({"cmd": format!("sleep {seconds}"), "login": false, "yield_time_ms": 30000}),
        )
    };
    let (lab, replay) = with_transcript(&[vec![wait(2)], vec![say("heard")]]);
    let running = slow(&lab, &replay);
    let run = lab.newest();
    assert_eq!(lab.json(&["runs", "--json"])[0]["owned"], true);
    exit(&lab.moat(&["steer", &run, "Look to the left."]), 0);
    let done = running.finish();
    exit(&done, 0);
    let steered = done.lines().into_iter().find(|line| line["kind"] == "steered").unwrap();
    assert!(steered["body"].to_string().contains("Look to the left."), "{steered}");

    let (lab, replay) = with_transcript(&[vec![wait(100)], vec![say("never")]]);
    let running = slow(&lab, &replay);
    exit(&lab.moat(&["cancel", "--last", "--reason", "enough"]), 0);
    let done = running.finish();
    assert_eq!(exit(&done, 1).line("result")["status"], "cancelled");
    exit(&lab.moat(&["steer", &lab.newest(), "Too late."]), 2);
    exit(&lab.moat(&["cancel", "--last"]), 2);
}

#[test]
fn calls_that_wait_for_a_person_are_3_and_go_on_when_one_decides() {
    let turns =
        [vec![exec("echo yes > yes.txt")], vec![exec("echo no > no.txt")], vec![say("end")]];
    let (lab, replay) = with_transcript(&turns);
    let agent = lab.write(
        "agent/AGENT.md",
        "---\nname: Careful\napprovals: [exec_command]\n---\nAsk before you act.\n",
    );
    let agent = agent.parent().unwrap().to_str().unwrap();
    let done = lab.moat(&["run", agent, "--json", "--replay", &replay, "Go."]);
    assert_eq!(exit(&done, 3).line("result")["status"], "waiting");
    let run = done.run();
    let waiting = lab.json(&["approvals", "--json"]);
    assert_eq!(waiting.as_array().unwrap().len(), 1);
    assert_eq!((&waiting[0]["run"], &waiting[0]["tool"]), (&json!(run), &json!("exec_command")));
    let call = waiting[0]["call"].as_str().unwrap();
    // Resuming does not decide.
    exit(&lab.moat(&["resume", &run]), 3);
    exit(&lab.moat(&["approve", &run, "no-such-call"]), 2);
    exit(&lab.moat(&["approve", &run, call, "--drive"]), 3);
    exit(&lab.moat(&["reject", &run, "--message", "Not that.", "--no-drive"]), 0);
    let done = lab.moat(&["resume", &run, "--json"]);
    assert_eq!(exit(&done, 0).line("result")["output"], "end");
    let shown = lab.json(&["show", &run, "--json"]);
    let calls = |turn: usize| shown["turns"][turn]["calls"][0]["output"].to_string();
    assert!(calls(0).contains("code 0") && calls(1).contains("Not that."), "{shown}");
    let changed = lab.ok(&["diff", &run, "--stat"]).out;
    assert!(changed.contains("yes.txt") && !changed.contains("no.txt"), "{changed}");
    assert_eq!(lab.json(&["approvals", "--json"]), json!([]));
}

#[test]
fn sandbox_run_passes_output_and_exit_code_through() {
    let lab = Lab::new();
    lab.write("work/in.txt", "in\n");
    let work = lab.work.to_str().unwrap();
    let run =
        |command: &[&str]| lab.moat(&[&["sandbox", "run", "--dir", work, "--"], command].concat());
    let done = run(&["sh", "-c", "cat in.txt; echo err >&2; echo new > new.txt; exit 42"]);
    assert_eq!(
        (exit(&done, 42).out.as_str(), done.err.contains("err\n")),
        ("in\n", true),
        "{done}"
    );
    assert!(!lab.work.join("new.txt").exists());
    exit(&run(&["true"]), 0);
    exit(&run(&["sh", "-c", "kill -9 $$"]), 137);
    exit(&run(&["no-such-program"]), 127);
    let bytes = run(&["head", "-c", "3000000", "/dev/zero"]);
    assert_eq!(exit(&bytes, 0).raw_out, vec![0; 3_000_000]);
}
