//! A run's past through the command line: diffed, restored, forked and explained.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/transcript.rs"]
mod transcript;

use lab::Lab;
use serde_json::{Value, json};
use transcript::{Turn, exec, patch, say, transcript};

/// A run of four turns on one file, and the numbers of its checkpoints.
fn worked() -> (Lab, String, Vec<u64>) {
    worked_before(&[])
}

/// The same, with answers for what comes after.
fn worked_before(more: &[Turn]) -> (Lab, String, Vec<u64>) {
    let lab = Lab::new();
    let reason = json!({
        "type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Zwei fits."}],
    });
    let mut turns = vec![
        vec![patch("*** Add File: poem.txt\n+eins\n+two\n+drei")],
        vec![
            reason,
            say("I translate \u{1b}[31mthe second line."),
            patch("*** Update File: poem.txt\n@@\n-two\n+zwei"),
        ],
        vec![exec(
            "sed -i '1i null' poem.txt; mkdir -p deep; mv poem.txt deep/poem.txt; echo x > other",
        )],
        vec![say("done")],
    ];
    turns.extend_from_slice(more);
    let replay = lab.write("t.jsonl", transcript(&turns)).to_str().unwrap().to_owned();
    lab.write("work/kept.txt", "from the start\n");
    let run = lab.ok(&["exec", "--json", "--replay", &replay, "Go."]).run();
    let events = lab.ok(&["logs", &run, "--json"]).lines();
    let checkpoints = events.iter().filter(|event| event["kind"] == "checkpointed");
    let checkpoints: Vec<_> = checkpoints.map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(checkpoints.len(), 4);
    (lab, run, checkpoints)
}

fn exit(done: &lab::Done, code: i32, says: &str) {
    assert_eq!(done.code, Some(code), "{done}");
    assert!(done.err.contains(says), "{done}");
}

#[test]
fn why_names_the_turn_the_call_and_the_reasoning_of_a_line() {
    let (lab, run, checkpoints) = worked();
    let why = |place: &str| lab.json(&["why", &run, place, "--json"]);
    let made = |place: &str| {
        let found = why(place);
        let made = &found["made"][0];
        (made["seq"].as_u64(), made["calls"][0]["turn"].as_u64(), made["path"].clone())
    };
    // Through an insertion above it and a new name.
    assert_eq!(made("deep/poem.txt:3"), (Some(checkpoints[2]), Some(2), json!("poem.txt")));
    assert_eq!(made("deep/poem.txt:1"), (Some(checkpoints[3]), Some(3), json!("deep/poem.txt")));
    assert_eq!(made("/workspace/deep/poem.txt:4").1, Some(1));
    let call = &why("deep/poem.txt:3")["made"][0]["calls"][0];
    assert_eq!(call["reasoning"], json!(["Zwei fits.", "I translate \u{1b}[31mthe second line."]));
    assert!(call["text"].as_str().unwrap().contains("+zwei"), "{call}");
    assert_eq!(why("kept.txt:1")["from_start"], true);
    let all = why("poem.txt");
    let seqs: Vec<_> =
        all["made"].as_array().unwrap().iter().map(|m| m["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, checkpoints[1..]);

    let shown = lab.ok(&["why", &run, "deep/poem.txt:3"]).out;
    assert!(shown.contains("turn 2, call [") && shown.contains("Zwei fits."), "{shown}");
    assert!(!shown.contains('\u{1b}'), "what a model said acts on nobody's terminal: {shown:?}");
    for (place, says) in [
        ("deep/poem.txt:99", "has 4 lines"),
        ("absent:1", "there is no file"),
        ("absent", "never had a file"),
        ("../x", "no path beneath the workspace"),
    ] {
        exit(&lab.moat(&["why", &run, place]), 2, says);
    }
}

#[test]
fn files_come_back_as_they_were_at_every_checkpoint() {
    let (lab, run, checkpoints) = worked();
    let text = |folder: &str, file: &str| std::fs::read_to_string(lab.path(folder).join(file)).ok();
    for (name, at) in ["one", "two", "three"].iter().zip(&checkpoints[1..]) {
        let folder = lab.path(name);
        let at = at.to_string();
        let args = ["restore", &run, folder.to_str().unwrap(), "--at", &at, "--json"];
        assert_eq!(lab.json(&args)["seq"].to_string(), at);
    }
    assert_eq!(text("one", "poem.txt").unwrap(), "eins\ntwo\ndrei\n");
    assert_eq!(text("two", "poem.txt").unwrap(), "eins\nzwei\ndrei\n");
    assert_eq!(text("three", "poem.txt"), None);
    assert_eq!(text("three", "deep/poem.txt").unwrap(), "null\neins\nzwei\ndrei\n");
    assert_eq!(text("three", "kept.txt").unwrap(), "from the start\n");
    let one = lab.path("one");
    exit(&lab.moat(&["restore", &run, one.to_str().unwrap()]), 2, "there already and not empty");
    let early = lab.path("early");
    let early = lab.moat(&["restore", &run, early.to_str().unwrap(), "--at", "1"]);
    exit(&early, 2, "no checkpoint at or before event 1");
}

#[test]
fn a_diff_of_a_range_has_the_files_and_what_was_said() {
    let (lab, run, checkpoints) = worked();
    let range = format!("{}..{}", checkpoints[1], checkpoints[2]);
    let found = lab.json(&["diff", &run, &range, "--json"]);
    let paths: Vec<_> = found["changes"].as_array().unwrap().iter().map(|c| &c["path"]).collect();
    assert_eq!(paths, ["poem.txt"]);
    let kinds: Vec<&str> = found["conversation"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["reasoning", "model", "call", "output"]);
    let shown = lab.ok(&["diff", &run, &range]).out;
    assert!(shown.contains("-two\n+zwei") && shown.contains("# ["), "{shown}");
    // It stays a patch: what was said is a comment to who applies it.
    lab.write("apply/poem.txt", "eins\ntwo\ndrei\n");
    let patch = lab.write("change.patch", &shown);
    let applied = std::process::Command::new("patch")
        .args(["-p1", "-i", patch.to_str().unwrap()])
        .current_dir(lab.path("apply"))
        .output();
    if let Ok(applied) = applied {
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stdout));
        let text = std::fs::read_to_string(lab.path("apply/poem.txt")).unwrap();
        assert_eq!(text, "eins\nzwei\ndrei\n");
    }
    let only_files = lab.ok(&["diff", &run, &range, "--files"]).out;
    assert!(!only_files.contains("# ["), "{only_files}");
    exit(&lab.moat(&["diff", &run, "x..y"]), 2, "no range of events");
}

#[test]
fn a_fork_at_every_checkpoint_goes_on_from_there_and_shares_what_is_stored() {
    let (lab, run, checkpoints) = worked();
    let stored = || bytes_below(&lab.data.join("snapshots"));
    let before = stored();
    for (at, steer) in checkpoints.iter().zip([None, Some("Go on."), None, Some("Well done.")]) {
        let at = at.to_string();
        let mut args = vec!["fork", &run, "--at", &at, "--json"];
        args.extend(steer.iter().flat_map(|text| ["--steer", text]));
        let fork = lab.ok(&args).run();
        let ends =
            |run: &str| -> Value { lab.json(&["show", run, "--json"])["last_message"].clone() };
        assert_eq!(ends(&fork), "done");
        assert_eq!(
            lab.json(&["why", &fork, "deep/poem.txt:3", "--json"])["made"][0]["path"],
            "poem.txt"
        );
    }
    let grown = stored() - before;
    assert!(grown < 64 * 1024, "four forks of a few small files stored {grown} bytes more");
    exit(&lab.moat(&["fork", &run]), 2, "say what the fork is to do");
    assert_eq!(lab.json(&["verify", "--json"])["sound"], true);
}

fn bytes_below(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => bytes_below(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}

/// The same machine with other folders: other keys, another journal.
fn elsewhere() -> Lab {
    Lab::new()
}

#[test]
fn a_run_that_was_exported_goes_on_under_other_keys_and_only_one_of_two_when_it_was_moved() {
    let big = "head -c 300000 /dev/zero | tr '\\0' x; echo";
    let (lab, run, _) = worked_before(&[vec![exec(big)], vec![say("big")], vec![say("there")]]);
    lab.ok(&["continue", &run, "More."]);
    let file = lab.path("run.moat");
    let file = file.to_str().unwrap();
    let told = lab.json(&["export", &run, "-o", file, "--json"]);
    assert_eq!(told["moved"], false);
    let there = elsewhere();
    let copy = there.json(&["import", file, "--json"]);
    let id = copy["run"].as_str().unwrap();
    assert_ne!(id, run, "its source may go on");
    assert_eq!(copy["dropped"], json!(["folder", "labels"]));
    let said = |lab: &Lab, run: &str| {
        let show = lab.json(&["show", run, "--json"]);
        let turns = show["turns"].as_array().unwrap().clone();
        let turns: Vec<_> = turns
            .iter()
            .map(|turn| (turn["said"].clone(), turn["calls"][0]["text"].clone()))
            .collect();
        (turns, show["last_message"].clone())
    };
    assert_eq!(said(&there, id), said(&lab, &run));
    let diff = |lab: &Lab, run: &str| lab.ok(&["diff", run, "--files"]).out;
    assert_eq!(diff(&there, id), diff(&lab, &run));
    assert_eq!(
        there.json(&["why", id, "deep/poem.txt:3", "--json"])["made"][0]["path"],
        "poem.txt"
    );
    // A whole output that only the blob store has.
    let whole = |lab: &Lab, run: &str| {
        let show = lab.json(&["show", run, "--json"]);
        let calls =
            show["turns"].as_array().unwrap().iter().flat_map(|turn| turn["calls"].as_array());
        let call = calls.flatten().last().unwrap()["call"].as_str().unwrap().to_owned();
        lab.ok(&["show", run, "--output", &call]).out
    };
    assert_eq!(whole(&there, id).len(), 300_001);
    assert_eq!(whole(&there, id), whole(&lab, &run));
    assert_eq!(there.json(&["verify", "--json"])["sound"], true);
    let applied = there.path("applied");
    std::fs::create_dir(&applied).unwrap();
    std::fs::write(applied.join("kept.txt"), "from the start\n").unwrap();
    exit(&there.moat(&["apply", id]), 2, "did not start from a folder");
    there.ok(&["apply", id, "--to", applied.to_str().unwrap()]);
    assert!(applied.join("deep/poem.txt").exists());

    // Moved: it keeps its id, and goes on there and nowhere else.
    let moved = lab.path("moved.moat");
    let moved = moved.to_str().unwrap();
    lab.ok(&["export", &run, "-o", moved, "--move"]);
    exit(&lab.moat(&["continue", &run, "x"]), 2, "was moved elsewhere");
    exit(&lab.moat(&["resume", &run]), 2, "was moved elsewhere");
    assert_eq!(lab.json(&["runs", "--json"])[0]["status"], "moved");
    lab.ok(&["fork", &run, "Go on here."]);
    let third = elsewhere();
    let here = third.json(&["import", moved, "--trust", "--json"]);
    assert_eq!((&here["run"], &here["dropped"]), (&json!(run), &json!([])));
    third.ok(&["continue", &run, "Go on there."]);
    assert_eq!(third.json(&["show", &run, "--json"])["last_message"], "there");
    // Whoever has it already gets a copy.
    let again = third.json(&["import", moved, "--json"]);
    assert_ne!(again["run"], json!(run));
    assert_eq!(third.json(&["verify", "--json"])["sound"], true);
}

#[test]
fn an_export_that_was_changed_or_cut_is_refused_and_leaves_no_run() {
    let (lab, run, _) = worked();
    let file = lab.path("run.moat");
    lab.ok(&["export", &run, "-o", file.to_str().unwrap()]);
    let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata().unwrap());
    assert_eq!(mode & 0o077, 0, "nobody else may read it");
    let whole = std::fs::read(&file).unwrap();
    let there = elsewhere();
    let refused = |bytes: &[u8], says: &str| {
        let file = there.write("changed.moat", bytes);
        let done = there.moat(&["import", file.to_str().unwrap()]);
        assert!(matches!(done.code, Some(2 | 5)), "{done}");
        assert!(done.err.contains(says), "{says}: {done}");
    };
    refused(&whole[..whole.len() / 2], "");
    refused(b"nothing of the kind", "no export of a run");
    let mut other = tar::Builder::new(Vec::new());
    other.append_path_with_name(&file, "run.moat").unwrap();
    refused(&other.into_inner().unwrap(), "it has no `run.json`");
    let folder = there.moat(&["import", lab.work.to_str().unwrap()]);
    assert!(folder.code == Some(2) && folder.err.contains("is a folder"), "{folder}");
    let swap = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len(), "members keep their sizes");
        let at = whole.windows(from.len()).position(|part| part == from.as_bytes());
        let mut bytes = whole.clone();
        bytes[at.unwrap()..][..from.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    refused(&swap("\"version\": 1", "\"version\": 9"), "newer Moat");
    refused(&swap("model_requested", "model_unheardof"), "newer Moat");
    refused(&swap("\"seq\":2,", "\"seq\":3,"), "no event that follows");
    refused(&swap("model_answered", "model_requested".get(..14).unwrap()), "");
    // Every content is hashed again on its way in.
    let mut flipped = 0;
    for at in (0..whole.len()).step_by(997) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let file = there.write("changed.moat", &bytes);
        let done = there.moat(&["import", file.to_str().unwrap(), "--json"]);
        match done.code {
            Some(0) => {
                // What was changed says nothing of the run: an owner or time of the archive's own.
                let id = serde_json::from_str::<Value>(&done.out).unwrap()["run"].to_string();
                let id = id.trim_matches('"');
                let diff = |lab: &Lab, run: &str| lab.ok(&["diff", run, "--files"]).out;
                assert_eq!(diff(&there, id), diff(&lab, &run), "byte {at}");
            }
            Some(2 | 5) => flipped += 1,
            _ => panic!("byte {at}: {done}"),
        }
    }
    assert!(flipped > 0);
    let scratch = there.data.join("scratch");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0, "nothing is left behind");
}
