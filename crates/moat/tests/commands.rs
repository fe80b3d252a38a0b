//! Commands that are not kind: that stay, ask, draw, flood, fork, and print what is no text.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stdout, reason = "says what it skips")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/transcript.rs"]
mod transcript;

use std::process::Command;
use std::time::{Duration, Instant};

use lab::{Done, Lab, wait_until};
use serde_json::{Value, json};
use transcript::{Turn, exec, exec_with, say, transcript, type_into};

const MIB: u64 = 1 << 20;

fn play(lab: &Lab, turns: &[Turn]) -> Done {
    let file = lab.write("t.jsonl", transcript(turns));
    let done = lab.moat(&["exec", "--replay", file.to_str().unwrap(), "Go."]);
    assert_eq!(done.code, Some(0), "{done}");
    done
}

/// The calls of the newest run, as `show --json` has them.
fn calls(lab: &Lab) -> Vec<Value> {
    let shown = lab.json(&["show", "--last", "--json"]);
    let turns = shown["turns"].as_array().unwrap().iter();
    turns.flat_map(|turn| turn["calls"].as_array().unwrap().clone()).collect()
}

fn output(call: &Value) -> &str {
    call["output"].as_str().unwrap()
}

fn exit_code(call: &Value) -> i64 {
    call["report"]["exit_code"].as_i64().unwrap_or_else(|| panic!("{call}"))
}

fn terminal(cmd: &str, yield_time_ms: u64) -> Value {
    exec_with(json!({"cmd": cmd, "tty": true, "login": false, "yield_time_ms": yield_time_ms}))
}

/// Whether any process of this host was started with the argument.
fn is_running(argument: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.into_iter().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|found| found == argument.as_bytes())
    })
}

#[test]
fn what_stays_in_the_background_holds_up_nothing_and_ends_with_the_run() {
    let lab = Lab::new();
    let began = Instant::now();
    let brief = |cmd: &str| exec_with(json!({"cmd": cmd, "login": false, "yield_time_ms": 300}));
    play(
        &lab,
        &[
            vec![brief("sleep 31415.25")],
            // The shell ends; what it started keeps the pipe.
            vec![exec("sleep 31415.5 & echo started")],
            vec![exec("setsid sh -c 'sleep 31415.75; echo late' & echo forked")],
            vec![exec("kill -9 $$")],
            vec![say("done")],
        ],
    );
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let calls = calls(&lab);
    assert!(output(&calls[0]).contains("Process running with session ID 1000"), "{}", calls[0]);
    for (call, said) in [(&calls[1], "started\n"), (&calls[2], "forked\n")] {
        assert_eq!(exit_code(call), 0);
        assert!(output(call).ends_with(said) && call["report"].get("session").is_none(), "{call}");
        assert!(call["report"]["wall_ms"].as_u64().unwrap() < 8_000, "{call}");
    }
    assert_eq!(exit_code(&calls[3]), -9);
    for argument in ["31415.25", "31415.5", "31415.75"] {
        wait_until("the sandbox's end", || !is_running(argument));
    }
}

/// The model was told that its outcome is unknown; from then on nobody would hear of it again.
#[test]
fn a_command_that_new_input_takes_the_place_of_is_ended() {
    let lab = Lab::new();
    let turns = [
        vec![exec_with(json!({"cmd": "echo begun; exec sleep 31416.5", "yield_time_ms": 30000}))],
        vec![exec("ps -e -o args | grep -c '[3]1416.5'")],
        vec![say("done")],
    ];
    let file = lab.write("t.jsonl", transcript(&turns));
    let running =
        lab.start(lab.command(&["exec", "--json", "--replay", file.to_str().unwrap(), "Go."]));
    wait_until("the command", || is_running("31416.5"));
    running.kill();
    assert!(is_running("31416.5"), "it outlives its harness for a while");
    let done = lab.moat(&["continue", "--last", "Look what still runs."]);
    assert_eq!(done.code, Some(0), "{done}");
    let calls = calls(&lab);
    assert!(output(&calls[0]).contains("its outcome is unknown"), "{}", calls[0]);
    assert!(output(&calls[1]).ends_with("\n0\n"), "{}", calls[1]);
    assert!(!is_running("31416.5"));
}

#[test]
fn programs_that_ask_and_programs_that_draw_have_a_terminal() {
    let lab = Lab::new();
    let draws = "stty raw -echo; printf '\\033[?1049h\\033[2J\\033[5;5Hmenu'; \
                 key=$(dd bs=1 count=1 2>/dev/null); printf '\\033[?1049l'; stty sane; echo key=$key";
    let pages = "command -v less >/dev/null || exec sh -c 'read key'; seq 1 500 > f; exec less f";
    play(
        &lab,
        &[
            vec![terminal("printf 'name? '; read name; echo \"hello $name\"; test -t 0", 500)],
            vec![type_into(0, "Ada\n", 5000)],
            vec![terminal(draws, 500)],
            vec![type_into(2, "x", 5000)],
            vec![terminal(pages, 500)],
            vec![type_into(4, "q\n", 5000)],
            // Nobody listens to what it asks: it gets the end of the file.
            vec![exec("read name || echo nobody")],
            vec![terminal("cat", 300)],
            vec![type_into(7, "\u{4}", 5000)],
            vec![say("done")],
        ],
    );
    let calls = calls(&lab);
    assert!(output(&calls[0]).ends_with("name? "), "{}", calls[0]);
    assert!(output(&calls[1]).contains("hello Ada") && exit_code(&calls[1]) == 0, "{}", calls[1]);
    assert!(output(&calls[2]).contains("menu"), "{}", calls[2]);
    assert!(output(&calls[3]).contains("key=x") && exit_code(&calls[3]) == 0, "{}", calls[3]);
    assert_eq!(exit_code(&calls[5]), 0, "{}", calls[5]);
    assert!(output(&calls[6]).contains("nobody"), "{}", calls[6]);
    assert_eq!(exit_code(&calls[8]), 0, "{}", calls[8]);
}

#[test]
fn two_hundred_megabytes_are_kept_whole_in_little_memory() {
    const BYTES: usize = 200_000_000;
    let lab = Lab::new();
    let flood = format!("yes 0123456789abcde | head -c {BYTES}; echo; echo end");
    let flood = exec_with(json!({"cmd": flood, "login": false, "yield_time_ms": 30000}));
    let poll = type_into(0, "", 300_000);
    let file = lab.write("t.jsonl", transcript(&[vec![flood], vec![poll], vec![say("done")]]));
    let running = lab.start(lab.command(&["exec", "--replay", file.to_str().unwrap(), "Go."]));
    let status = format!("/proc/{}/status", running.pid.as_raw_nonzero());
    let (ended, watch) = std::sync::mpsc::channel::<()>();
    // The peak only grows, so the last look before the end is what counts.
    let peak = std::thread::spawn(move || {
        let mut peak = 0;
        while watch.recv_timeout(Duration::from_millis(20)).is_err() {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let now = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
            peak = now.unwrap_or(0).max(peak);
        }
        peak * 1024
    });
    let done = running.finish();
    ended.send(()).unwrap();
    let peak = peak.join().unwrap();
    assert_eq!(done.code, Some(0), "{done}");
    assert!(peak > 4 * MIB && peak <= 64 * MIB, "peak memory: {} MiB", peak / MIB);

    // On a slow machine the reply comes in two pieces.
    let mut whole = Vec::new();
    for call in calls(&lab).iter().filter(|call| call["report"]["output"].is_object()) {
        assert!(output(call).len() < 100_000 && output(call).contains("Full output: "), "{call}");
        let number = call["call"].as_str().unwrap();
        whole.extend(lab.ok(&["show", "--last", "--output", number]).raw_out);
    }
    assert_eq!(whole.len(), BYTES + "\nend\n".len());
    assert!(whole.starts_with(b"0123456789abcde\n0123") && whole.ends_with(b"\nend\n"));
}

#[test]
fn what_is_no_text_and_what_acts_on_terminals_reaches_no_terminal() {
    let lab = Lab::new();
    let acts =
        "printf '\\033]0;title\\007\\033[31mred\\033[2J\\033[1A\\302\\233H\\342\\200\\256over'";
    let prompt = "Go. \u{1b}]0;title\u{7}\u{9b}2J";
    let turns = [
        vec![exec(acts)],
        vec![exec(&format!("{acts}; exit 1"))],
        vec![exec("printf '\\377\\376ok\\200'")],
        vec![exec("head -c 300000 /dev/urandom")],
        vec![exec("touch \"$(printf 'f\\033[2J')\"")],
        vec![say("\u{1b}[2Jdone\u{9b}2J\u{202e}")],
    ];
    let file = lab.write("t.jsonl", transcript(&turns));
    let replay = file.to_str().unwrap();
    let done = lab.moat(&["exec", "--replay", replay, prompt]);
    assert_eq!(done.code, Some(0), "{done}");
    let mut texts = vec![("standard error", done.err)];
    for args in [
        ["show", "--last"].as_slice(),
        &["runs"],
        &["logs", "--last"],
        &["diff", "--last", "--stat"],
        &["apply", "--last", "--dry-run"],
    ] {
        let shown = lab.ok(args);
        texts.push((args[0], shown.out + &shown.err));
    }
    // And on a terminal that can do nothing, where everything is shown.
    match on_terminal(&lab, &["exec", "--replay", replay, "Go."]) {
        Some(shown) => texts.push(("a terminal", shown)),
        None => println!("SKIP view_on_a_terminal: `script` (util-linux) is not installed"),
    }
    for (place, text) in &texts {
        let acting = |c: &char| c.is_control() && !matches!(c, '\n' | '\t' | '\r');
        let found = text.chars().find(|c| acting(c) || *c == '\u{202e}');
        assert!(found.is_none(), "{found:?} in {place}: {}", text.escape_debug());
        assert!(!text.trim().is_empty(), "{place}");
    }
    let calls = calls(&lab);
    assert!(output(&calls[2]).ends_with("\u{fffd}\u{fffd}ok\u{fffd}"), "{}", calls[2]);
    // The exact bytes are kept, whatever they are.
    let number = calls[3]["call"].as_str().unwrap();
    assert_eq!(lab.ok(&["show", "--last", "--output", number]).raw_out.len(), 300_000);
}

/// What a terminal without any abilities gets to see.
fn on_terminal(lab: &Lab, args: &[&str]) -> Option<String> {
    Command::new("script").arg("--version").output().ok()?;
    let inner = lab.command(args);
    let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap());
    let line: Vec<_> =
        std::iter::once(inner.get_program()).chain(inner.get_args()).map(quoted).collect();
    let mut command = Command::new("script");
    command.args(["-qec", &line.join(" "), "/dev/null"]).current_dir(&lab.work).env_clear();
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap());
    }
    let shell = command.env("TERM", "dumb").env("NO_COLOR", "1").env("SHELL", "/bin/sh");
    // Nothing is answered to its question whether to write.
    let done = lab.start_piped(shell, "n\n");
    Some(done.out + &done.err)
}

#[test]
fn limits_and_exit_codes_are_told() {
    let lab = Lab::new();
    let limited = json!({"cmd": "echo part; sleep 60", "login": false, "timeout_ms": 400});
    play(
        &lab,
        &[
            vec![exec_with(limited)],
            vec![exec("exit 3"), exec("no-such-program"), exec("true")],
            vec![exec_with(json!({"cmd": ""}))],
            vec![exec_with(json!({"cmd": "pwd", "workdir": "/no/such"}))],
            vec![say("done")],
        ],
    );
    let calls = calls(&lab);
    assert!(
        output(&calls[0]).contains("part") && output(&calls[0]).contains("timed out"),
        "{}",
        calls[0]
    );
    assert!(calls[0]["report"]["wall_ms"].as_u64().unwrap() < 30_000);
    let codes: Vec<_> = calls[1..4].iter().map(exit_code).collect();
    assert_eq!(codes, [3, 127, 0]);
    assert!(output(&calls[4]).starts_with("Invalid tool arguments"), "{}", calls[4]);
    assert!(output(&calls[5]).contains("/no/such"), "{}", calls[5]);
}
