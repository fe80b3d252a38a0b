//! Storage elsewhere, from the command line: what a run sees of it, what it leaves there, and what is
//! nowhere.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test; what is skipped is said"
)]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/transcript.rs"]
mod transcript;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lab::{Lab, wait_until};
use transcript::{exec, say, transcript};

const KEY: &str = "s3cr3t-k3y-of-the-test";

/// A server of a folder of this machine, ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves a folder with `in/a.txt` and an empty `out`, and writes an agent that mounts both.
fn served(lab: &Lab) -> Option<Server> {
    let skip = |reason: &str| {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        eprintln!("SKIP {test}: {reason}");
    };
    let missing = ["/usr/bin/rclone", "/usr/bin/fusermount3"];
    if let Some(missing) = missing.iter().find(|program| !Path::new(program).exists()) {
        skip(&format!("there is no {missing}"));
        return None;
    }
    let able = lab.moat(&["doctor", "--json"]);
    let able: serde_json::Value = serde_json::from_str(able.out.trim()).unwrap();
    if able["storage"]["mounts"] != true {
        skip(&able["storage"]["mounts_reason"].to_string());
        return None;
    }
    lab.write("store/in/a.txt", "content\n");
    fs::create_dir(lab.path("store/out")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new("/usr/bin/rclone");
    command.args(["serve", "webdav", "--addr", &address, "--user", "me"]).arg(lab.path("store"));
    // Not in its arguments, which sandboxes of other tests might look for.
    command.env("RCLONE_PASS", KEY).stdin(Stdio::null());
    let server = Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_until("the server", || TcpStream::connect(&address).is_ok());
    let entry = |path: &str, rest: &str| {
        format!(
            "{{ type: rclone_mount, backend: webdav, path: {path}, options: {{ url: \"http://{address}\", \
             vendor: other, user: me }}, secrets: {{ pass: {{ secret: PASS }} }}{rest} }}"
        )
    };
    let (raw, out) = (entry("in", ""), entry("out", ", read_only: false"));
    let copied = entry("in", ", strategy: copy");
    lab.write(
        "agent/AGENT.md",
        format!(
            "---\nname: Archivist\nmanifest:\n  entries:\n    raw: {raw}\n    out: {out}\n    \
             copied: {copied}\n---\nLook after it.\n"
        ),
    );
    let key = lab.write("pass", format!("{KEY}\n"));
    let config = fs::read_to_string(lab.path("config/config.toml")).unwrap();
    let config = format!("{config}[credentials]\nPASS = \"file:{}\"\n", key.display());
    lab.write("config/config.toml", config);
    Some(server)
}

/// Every file beneath a folder that holds the key.
fn with_key(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(with_key(&path));
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            let holds = bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
            found.extend(holds.then_some(path));
        }
    }
    found
}

fn is_mounted(folder: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.contains(folder.to_str().unwrap())
}

/// The processes of rclone that serve something in this folder.
fn rclone_of(folder: &Path) -> Vec<rustix::process::Pid> {
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let is_one = line.contains("rclone mount") && line.contains(folder.to_str()?);
        let pid = entry.file_name().to_str()?.parse().ok()?;
        is_one.then(|| rustix::process::Pid::from_raw(pid)).flatten()
    });
    processes.collect()
}

#[test]
fn a_run_reads_and_writes_storage_and_never_sees_its_key() {
    let lab = Lab::new();
    let Some(_server) = served(&lab) else { return };
    let agent = lab.path("agent");
    // The pattern does not match itself.
    let look = "cat raw/a.txt copied/a.txt; (echo x > raw/x) 2>&1; echo mine > own.txt; \
        (env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; cat /proc/mounts; \
         cat $HOME/.* /etc/*) 2>/dev/null | grep -a 's[3]cr3t' && echo SEEN; echo made > out/b.txt";
    let turns =
        [vec![exec(look)], vec![exec("cat out/b.txt; echo late > out/c.txt")], vec![say("done")]];
    let replay = lab.write("t.jsonl", transcript(&turns));
    let replay = replay.to_str().unwrap();
    let agent = agent.to_str().unwrap();
    let done = lab.moat(&["run", agent, "--json", "--replay", replay, "Go."]);
    assert_eq!(done.code, Some(0), "{done}");
    let shown = lab.json(&["show", "--last", "--json"]);
    let output = |turn: usize| shown["turns"][turn]["calls"][0]["output"].to_string();
    assert!(output(0).contains("content\\ncontent\\n"), "{}", output(0));
    assert!(output(0).contains("Read-only file system"), "{}", output(0));
    assert!(!output(0).contains("SEEN") && output(1).contains("made"), "{shown}");

    // It is there when the run is over, and nothing else is.
    let store = lab.path("store/out");
    assert_eq!(fs::read_to_string(store.join("b.txt")).unwrap(), "made\n");
    assert_eq!(fs::read_to_string(store.join("c.txt")).unwrap(), "late\n");
    assert_eq!(fs::read_dir(lab.path("store/in")).unwrap().count(), 1);
    assert!(!is_mounted(&lab.data) && rclone_of(&lab.data).is_empty());
    assert_eq!(fs::read_dir(lab.data.join("mounts")).unwrap().count(), 0);
    // Checkpoints hold what was copied, and nothing that is mounted.
    let run = lab.newest();
    let kept = lab.ok(&["snapshots", "show", &run]).out;
    assert!(kept.contains("own.txt") && kept.contains("copied/a.txt"), "{kept}");
    assert!(!kept.contains("raw/a.txt") && !kept.contains("b.txt"), "{kept}");
    let held = with_key(&lab.data);
    assert!(held.is_empty() && !format!("{done}").contains(KEY), "{held:?}");
}

#[test]
fn a_run_whose_mount_broke_goes_on_with_another() {
    let lab = Lab::new();
    let Some(_server) = served(&lab) else { return };
    let agent = lab.path("agent");
    let turns = [
        vec![exec("echo one > own.txt; exec 3> out/b.txt; echo half >&3; exec sleep 600")],
        vec![exec("cat own.txt out/b.txt raw/a.txt")],
        vec![say("done")],
    ];
    let replay = lab.write("t.jsonl", transcript(&turns));
    let args =
        ["run", agent.to_str().unwrap(), "--json", "--replay", replay.to_str().unwrap(), "Go."];
    let running = lab.start(lab.command(&args));
    wait_until("what is half written", || {
        let cache = lab.data.join("mounts");
        fs::read_dir(cache).is_ok_and(|mut runs| {
            // Mounts are numbered in the order of their names.
            let cached = |run: fs::DirEntry| run.path().join("0/cache/vfs/moat/out/b.txt");
            runs.any(|run| {
                fs::read_to_string(cached(run.unwrap())).is_ok_and(|text| text == "half\n")
            })
        })
    });
    // The harness and what served its mounts, at once.
    running.kill();
    for pid in rclone_of(&lab.data) {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    let done = lab.moat(&["resume", "--last", "--json"]);
    assert_eq!(done.code, Some(0), "{done}");
    let lost = done.lines().into_iter().find(|line| line["kind"] == "sandbox_lost").unwrap();
    assert!(lost.to_string().contains("has ended"), "{lost}");
    let shown = lab.json(&["show", "--last", "--json"]).to_string();
    assert!(shown.contains("half\\ncontent"), "{shown}");
    assert_eq!(fs::read_to_string(lab.path("store/out/b.txt")).unwrap(), "half\n");
    assert!(!is_mounted(&lab.data) && rclone_of(&lab.data).is_empty());
}
