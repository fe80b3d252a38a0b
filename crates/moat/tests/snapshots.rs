//! Snapshots on the command line: listed, compared, carried elsewhere, collected, checked.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/transcript.rs"]
mod transcript;

use std::path::{Path, PathBuf};
use std::process::Command;

use lab::Lab;
use serde_json::Value;
use transcript::{exec, patch, say, transcript};

/// A run whose files changed three times.
fn worked(lab: &Lab) -> String {
    let turns = [
        vec![patch("*** Add File: one.txt\n+eins")],
        vec![exec("head -c 300000 /dev/urandom > noise; mkdir -p empty; ln -s /etc link")],
        vec![exec("rm noise; echo zwei >> one.txt")],
        vec![say("done")],
    ];
    let replay = lab.write("t.jsonl", transcript(&turns)).to_str().unwrap().to_owned();
    lab.write("work/kept.txt", "from the start\n");
    lab.ok(&["exec", "--json", "--replay", &replay, "Go."]).run()
}

fn snapshots(lab: &Lab, run: &str) -> Vec<Value> {
    lab.json(&["snapshots", "ls", run, "--json"]).as_array().unwrap().clone()
}

fn id(snapshot: &Value) -> &str {
    snapshot["snapshot"].as_str().unwrap()
}

fn packs(lab: &Lab) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(lab.data.join("snapshots/packs")).unwrap();
    let mut packs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    packs.sort();
    packs
}

#[test]
fn snapshots_are_listed_shown_compared_and_carried_elsewhere() {
    let lab = Lab::new();
    let run = worked(&lab);
    let taken = snapshots(&lab, &run);
    assert_eq!(taken.len(), 4, "{taken:?}");
    let third = format!("{run}@{}", taken[2]["seq"]);
    let shown = lab.json(&["snapshots", "show", &third, "--json"]);
    let paths: Vec<_> = shown["entries"].as_array().unwrap().iter().map(|e| &e["path"]).collect();
    assert_eq!(paths, ["empty", "kept.txt", "link", "noise", "one.txt"]);
    let shown = lab.ok(&["snapshots", "show", &run, "one.txt"]).out;
    assert!(shown.contains("one.txt") && !shown.contains("kept.txt"), "{shown}");
    let diff = lab.ok(&["snapshots", "diff", &third, &run]).out;
    assert_eq!(diff, "removed   noise\nmodified  one.txt\n");

    let file = lab.path("work.moat");
    let all: Vec<_> = taken.iter().map(id).collect();
    let mut args = vec!["snapshots", "export", "-o", file.to_str().unwrap()];
    args.extend(&all);
    lab.ok(&args);
    assert_eq!(lab.moat(&args).code, Some(5), "it overwrites nothing");
    let tar = lab.path("third.tar");
    lab.ok(&["snapshots", "export", "--tar", "-o", tar.to_str().unwrap(), &third]);
    let listed = Command::new("tar").arg("-tf").arg(&tar).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "empty\nkept.txt\nlink\nnoise\none.txt\n");

    // Another data folder under the same key.
    let elsewhere = lab.path("elsewhere");
    let there = |args: &[&str]| {
        let mut command = lab.command(args);
        command.env("MOAT_DATA_DIR", &elsewhere);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let imported = there(&["snapshots", "import", file.to_str().unwrap()]);
    assert_eq!(imported.lines().collect::<Vec<_>>(), all);
    there(&["snapshots", "gc"]);
    let shown = there(&["snapshots", "show", all[2]]);
    assert_eq!(shown, lab.ok(&["snapshots", "show", &third]).out);
    there(&["snapshots", "verify"]);
    let mut damaged = std::fs::read(&file).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    let refused = lab.moat(&["snapshots", "import", file.to_str().unwrap()]);
    assert!(refused.code != Some(0) && refused.err.contains("damaged"), "{refused}");
}

#[test]
fn what_no_run_needs_is_collected_and_an_erased_run_takes_its_files_along() {
    let lab = Lab::new();
    let run = worked(&lab);
    let taken = snapshots(&lab, &run);
    assert_eq!(lab.json(&["snapshots", "gc", "--json"])["removed_bytes"], 0);
    let before = lab.json(&["du", "--json"])["packs"]["bytes"].as_u64().unwrap();
    assert!(before > 300_000, "{before}");
    let done = lab.json(&["snapshots", "gc", "--keep-last", "1", "--json"]);
    assert!(done["removed_bytes"].as_u64().unwrap() > 200_000, "{done}");
    let gone = lab.moat(&["snapshots", "show", id(&taken[2])]);
    assert!(gone.code != Some(0) && gone.err.contains("not in the store"), "{gone}");
    // The first and the last are what `diff` and `apply` need.
    lab.ok(&["snapshots", "show", id(&taken[0])]);
    lab.ok(&["diff", &run, "--files"]);
    lab.ok(&["snapshots", "show", &run]);

    lab.ok(&["erase", &run]);
    let left = lab.json(&["du", "--json"])["packs"]["bytes"].as_u64().unwrap();
    assert_eq!(left, 0, "nothing of its files is left");
    assert_eq!(packs(&lab), Vec::<PathBuf>::new());
}

#[test]
fn a_data_folder_may_move_and_nothing_is_taken_from_a_run_that_cannot_be_read() {
    let mut lab = Lab::new();
    let run = worked(&lab);
    let moved = lab.path("elsewhere");
    std::fs::rename(&lab.data, &moved).unwrap();
    lab.data = moved;
    lab.ok(&["snapshots", "gc"]);

    // Under another key nobody can tell what the run needs.
    let key = lab.config.join("keys/local.key");
    let own = std::fs::read(&key).unwrap();
    let away = key.with_extension("away");
    std::fs::rename(&key, &away).unwrap();
    let lost = lab.moat(&["runs"]);
    assert!(lost.code == Some(5) && lost.err.contains("put it back"), "{lost}");
    assert!(!key.exists(), "no new one takes the place of a key that is missed");
    std::fs::rename(&away, &key).unwrap();
    let whole = packs(&lab);
    std::fs::write(&key, [7; 32]).unwrap();
    let refused = lab.moat(&["snapshots", "gc"]);
    assert_eq!(refused.code, Some(2), "{refused}");
    let (_, name) = refused.err.split_once("--forget ").unwrap();
    let refused = lab.moat(&["snapshots", "gc", "--forget", name.trim().trim_end_matches('`')]);
    assert_eq!(refused.code, Some(5), "{refused}");
    assert!(refused.err.contains(&format!("since run {run} cannot be read")), "{refused}");
    assert_eq!(packs(&lab), whole);
    assert_eq!(lab.json(&["runs", "--json"])[0]["status"], "unreadable");
    assert!(lab.ok(&["snapshots", "ls"]).err.contains("which cannot be read"));
    assert_eq!(lab.moat(&["snapshots", "verify"]).code, Some(1));

    std::fs::write(&key, own).unwrap();
    lab.ok(&["snapshots", "verify"]);
    lab.ok(&["snapshots", "gc"]);
    lab.ok(&["snapshots", "show", &run, "one.txt"]);
    let absent = lab.moat(&["snapshots", "show", &run, "absent"]);
    assert!(absent.code == Some(2) && absent.err.contains("there is no `absent`"), "{absent}");
    lab.ok(&["erase", &run]);
    assert_eq!(packs(&lab), Vec::<PathBuf>::new());
}

#[test]
fn damage_is_named_and_other_snapshots_still_come_back() {
    let lab = Lab::new();
    let run = worked(&lab);
    let taken = snapshots(&lab, &run);
    lab.ok(&["snapshots", "verify"]);
    // Whatever single pack is damaged or lost: it is named, and some snapshot is whole.
    for pack in packs(&lab) {
        let whole = std::fs::read(&pack).unwrap();
        let mut damaged = whole.clone();
        damaged[40] ^= 1;
        for bytes in [Some(damaged), Some(whole[..whole.len() - 1].to_vec()), None] {
            match &bytes {
                Some(bytes) => std::fs::write(&pack, bytes).unwrap(),
                None => std::fs::remove_file(&pack).unwrap(),
            }
            let done = lab.moat(&["snapshots", "verify", "--json"]);
            assert_eq!(done.code, Some(1), "{done}");
            let found: Value = serde_json::from_str(&done.out).unwrap();
            let named = !found["packs_damaged"].as_array().unwrap().is_empty();
            assert!(bytes.is_none() || named, "{found}");
            let bad = found["snapshots_damaged"].as_array().unwrap().len();
            assert!(bad >= 1 && bad <= taken.len(), "{found}");
            let told = lab.moat(&["snapshots", "verify"]);
            assert!(told.out.contains("moat fork RUN --at SEQ"), "{told}");
            let run = format!("BAD  {run}@");
            assert!(told.out.contains(&run) && (bytes.is_none() || told.out.contains("packs/")));
            std::fs::write(&pack, &whole).unwrap();
        }
    }
    lab.ok(&["snapshots", "verify"]);
    let folder = Path::new(&lab.data).join("snapshots");
    assert!(folder.join(".leases").read_dir().unwrap().next().is_none(), "nobody writes");
}
