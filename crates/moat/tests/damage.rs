//! A disk that is full and a database that somebody changed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stdout, reason = "says what it skips")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/transcript.rs"]
mod transcript;

use std::path::{Path, PathBuf};
use std::process::Command;

use lab::Lab;
use serde_json::json;
use transcript::{exec, exec_with, say, transcript};

/// A file system of its own, a few megabytes large, gone at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m,mode=700", "moat-test"])
            .arg(at)
            .output();
        done.is_ok_and(|done| done.status.success()).then(|| Self(at.to_owned()))
    }

    /// Fills it to the last byte. Returns the file that does.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut file = std::fs::File::create(&ballast).unwrap();
        for size in [65536, 4096] {
            while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
        }
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// Whether a file of this name, with something in it, is beneath a folder.
fn holds(folder: &Path, name: &str) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let is_it = entry.file_name() == name && entry.metadata().is_ok_and(|meta| meta.len() > 0);
        is_it || (entry.file_type().is_ok_and(|kind| kind.is_dir()) && holds(&entry.path(), name))
    })
}

#[test]
fn a_full_disk_is_said_and_the_run_goes_on_once_there_is_room() {
    let lab = Lab::new();
    let Some(disk) = SmallDisk::mount(&lab.data) else {
        println!("SKIP full_disk: mounting a small file system takes root");
        return;
    };
    let long = "echo first >> log.txt; sleep 1; head -c 60000 /dev/urandom | od | head -c 9000";
    let slow = exec_with(json!({"cmd": long, "login": false, "yield_time_ms": 30000}));
    let turns = [vec![slow], vec![exec("echo second >> log.txt")], vec![say("done")]];
    let file = lab.write("t.jsonl", transcript(&turns));
    let args = ["exec", "--json", "--replay", file.to_str().unwrap(), "Go."];
    let running = lab.start(lab.command(&args));
    running.wait_for_output("\"kind\":\"call_started\"");
    // What it writes before the disk is full is there before the disk is full.
    lab::wait_until("the first line", || holds(&lab.data, "log.txt"));
    let ballast = disk.fill();
    let done = running.finish();
    assert_eq!(done.code, Some(5), "{done}");
    assert!(done.err.contains("full") || done.err.contains("space"), "{done}");
    assert!(done.err.contains("moat resume"), "{done}");
    // While it is full, what is there can still be read.
    let before = lab.moat(&["logs", "--last", "--json"]);
    std::fs::remove_file(ballast).unwrap();
    let resumed = lab.moat(&["resume", "--last", "--json"]);
    assert_eq!(resumed.code, Some(0), "{resumed}");
    let after = lab.ok(&["logs", "--last", "--json"]).out;
    assert_eq!(before.code, Some(0), "{before}");
    assert!(after.starts_with(&before.out) && before.out.lines().count() >= 4, "{before}");
    let applied = lab.moat(&["apply", "--last"]);
    assert_eq!(applied.code, Some(0), "{applied}");
    assert_eq!(std::fs::read_to_string(lab.work.join("log.txt")).unwrap(), "first\nsecond\n");
    assert_eq!(lab.json(&["verify", "--json"])["sound"], true);
}

#[test]
fn a_changed_byte_of_the_database_is_found() {
    let lab = Lab::new();
    let marker = "a-word-that-stands-in-the-headers";
    let file = lab.write("t.jsonl", transcript(&[vec![exec("true")], vec![say("done")]]));
    let mut command = lab.command(&["exec", "--replay", file.to_str().unwrap(), "Go."]);
    command.env("USER", marker);
    assert_eq!(lab.start(command).finish().code, Some(0));
    assert_eq!(lab.json(&["verify", "--json"])["sound"], true);

    // Everything into the database file itself, then each place in turn where a header names the
    // kind of an event.
    let database = database(&lab.data);
    let original = std::fs::read(&database).unwrap();
    let kind = b"model_answered";
    let places: Vec<_> =
        (0..original.len() - kind.len()).filter(|at| original[*at..].starts_with(kind)).collect();
    assert!(!places.is_empty(), "the kind is not found in {}", database.display());
    for at in places {
        let mut changed = original.clone();
        changed[at] ^= 1;
        std::fs::write(&database, &changed).unwrap();
        let verified = lab.moat(&["verify", "--json"]);
        assert!(matches!(verified.code, Some(1 | 5)), "byte {at}: {verified}");
        assert!(verified.out.contains("\"sound\":false") || !verified.err.is_empty(), "{verified}");
    }
    std::fs::write(&database, &original).unwrap();
    assert_eq!(lab.json(&["verify", "--json"])["sound"], true);
}

/// The database's file, with nothing left in its log.
fn database(data: &Path) -> PathBuf {
    let files = std::fs::read_dir(data).unwrap().flatten().map(|entry| entry.path());
    let is = |path: &PathBuf, ends: &str| path.to_string_lossy().ends_with(ends);
    let files: Vec<_> = files.filter(|path| path.is_file()).collect();
    let wal = files.iter().find(|path| is(path, "-wal"));
    let wal_bytes = wal.map_or(0, |path| std::fs::metadata(path).unwrap().len());
    assert_eq!(wal_bytes, 0, "the log was not written back at the end");
    let found = files.iter().find(|path| is(path, ".db") || is(path, ".sqlite")).cloned();
    found.unwrap_or_else(|| panic!("no database among {files:?}"))
}

/// Killed while the files of a snapshot come back, at different places: whoever goes on ends as if
/// nothing had been killed.
#[test]
fn killed_while_files_come_back() {
    let lab = Lab::new();
    for number in 0..3000 {
        lab.write(&format!("work/d{}/{number}", number % 40), format!("file {number}\n"));
    }
    let sum = "find . -type f ! -name '*.txt' -exec sha256sum {} + | sort | sha256sum > sum.txt";
    let check =
        format!("cp sum.txt before.txt; {sum}; cmp sum.txt before.txt && echo same > same.txt");
    let turns = [vec![exec(sum)], vec![say("done")], vec![exec(&check)], vec![say("checked")]];
    let replay = lab.write("t.jsonl", transcript(&turns)).to_str().unwrap().to_owned();
    let run = lab.ok(&["exec", "--json", "--replay", &replay, "Go."]).run();
    // Each fork fills a sandbox of its own.
    let fork = || lab.start(lab.command(&["fork", &run, "Check."]));
    let began = std::time::Instant::now();
    assert_eq!(fork().finish().code, Some(0));
    let whole = began.elapsed();
    let mut killed = 0;
    for part in [4, 6] {
        let before = lab.newest();
        let running = fork();
        std::thread::sleep(whole * part / 10);
        running.kill();
        let forked = lab.newest();
        if forked == before {
            continue;
        }
        let logged = lab.ok(&["logs", &forked, "--json"]).out;
        if lab.json(&["show", &forked, "--json"])["status"] != "finished" {
            killed += 1;
            lab.ok(&["resume", &forked]);
        }
        let after = lab.ok(&["logs", &forked, "--json"]).out;
        assert!(after.starts_with(&logged), "an event was lost or changed");
        let out = lab.path(&format!("out-{part}"));
        lab.ok(&["restore", &forked, out.to_str().unwrap()]);
        assert_eq!(std::fs::read_to_string(out.join("same.txt")).unwrap(), "same\n");
    }
    assert!(killed > 0, "all were over before they were killed");
    assert_eq!(lab.json(&["verify", "--json"])["sound"], true);
    lab.ok(&["snapshots", "verify"]);
}
