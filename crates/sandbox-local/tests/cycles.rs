//! Sandboxes are made, used and ended while harness and guest are killed at random points: after
//! their grace and one pass of the reaper nothing is left.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stdout, reason = "says what it skips")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use moat_core::{CallKey, Epoch, RunId, Seq};
use moat_sandbox::{Provider as _, SandboxSpec};
use moat_sandbox_local::{LocalOptions, LocalProvider};

/// Where a child is to make its sandbox.
const STATE: &str = "MOAT_TEST_CYCLE";
/// How long a guest goes on without a harness.
const GRACE: Duration = Duration::from_millis(300);

#[test]
fn cycles_leave_nothing_behind_as_root() {
    const NAME: &str = "cycles_leave_nothing_behind_as_root";
    support::as_root(NAME, || run(NAME));
}

#[test]
fn cycles_leave_nothing_behind_as_ordinary_user() {
    const NAME: &str = "cycles_leave_nothing_behind_as_ordinary_user";
    support::as_ordinary_user(NAME, || run(NAME));
}

#[test]
fn cycles_leave_nothing_behind_as_user_with_subuids() {
    const NAME: &str = "cycles_leave_nothing_behind_as_user_with_subuids";
    support::as_user_with_subuids(NAME, || run(NAME));
}

fn run(name: &str) {
    match std::env::var_os(STATE) {
        Some(state) => runtime().block_on(cycle(Path::new(&state))),
        None => cycles(name),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// One life of a harness, from the sandbox to its end.
async fn cycle(state: &Path) {
    let provider = LocalProvider::new(LocalOptions::new(state)).unwrap();
    let run = RunId::generate();
    let spec = SandboxSpec { orphan_grace: GRACE, ..SandboxSpec::new(run, Epoch(1)) };
    let sandbox = provider.create(&spec).await.unwrap();
    let time = time_of(rustix::process::getppid().unwrap());
    let script = format!("setsid sleep {time} & exec sleep {time}");
    let command = moat_sandbox::Command {
        key: CallKey { run, seq: Seq(1), index: 0, attempt: 1 },
        argv: ["/bin/sh".to_owned(), "-c".to_owned(), script].to_vec(),
        cwd: PathBuf::from("/workspace"),
        environment: Default::default(),
        tty: None,
        user: None,
    };
    sandbox.guest().start(&command).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    provider.destroy(&sandbox.handle()).await.unwrap();
}

/// How long commands sleep, which says whose they are.
fn time_of(test: rustix::process::Pid) -> String {
    format!("6{}", test.as_raw_nonzero())
}

/// Numbers that are the same in each run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn cycles(name: &str) {
    let count = if std::env::var_os("MOAT_TEST_FULL").is_some() { 500 } else { 60 };
    let top = tempfile::tempdir().unwrap();
    let state = top.path().join("state");
    let provider = LocalProvider::new(LocalOptions::new(&state)).unwrap();
    let mut ids = BTreeSet::new();
    // An id may be drawn that somebody had who was killed with all that knew of his groups.
    let others = groups(|_| true);
    let before = Host::look(&state, &ids, &others);
    let mut random = Seeded(0x6d6f_6174);
    // How long an undisturbed cycle takes here: kills fall anywhere within it.
    let start = Instant::now();
    assert!(child(name, &state).wait().unwrap().success());
    let whole = start.elapsed().as_micros() as u64;
    let (mut harnesses, mut killed, mut undisturbed) = (0, 0, 0);
    for _ in 0..count {
        let mut harness = child(name, &state);
        std::thread::sleep(Duration::from_micros(random.below(whole)));
        let folders = std::fs::read_dir(state.join("sandboxes")).unwrap().flatten();
        ids.extend(folders.map(|folder| folder.file_name().to_string_lossy().into_owned()));
        if random.below(3) == 0 {
            killed += first_processes(&state).into_iter().filter(|pid| kill(*pid)).count();
        } else if harness.try_wait().unwrap().is_none() {
            harness.kill().unwrap();
            harnesses += 1;
        }
        undisturbed += usize::from(harness.wait().unwrap().success());
    }
    println!(
        "{count} cycles of {whole} µs: {harnesses} harnesses and {killed} guests killed, {undisturbed} undisturbed"
    );
    assert!(harnesses > count / 4 && killed > 0, "too few were killed");

    // A guest whose harness died before it knocked waits for it for longer than its grace.
    let start = Instant::now();
    while !guests(&state).is_empty() && start.elapsed() < Duration::from_secs(40) {
        std::thread::sleep(Duration::from_millis(20));
    }
    // A folder whose maker died before anything ran in it is left alone for half a minute: whoever
    // makes one is given that long to take hold of it. And a dying first process lets go of its
    // mounts before the last of its sandbox is gone.
    std::thread::sleep(Duration::from_millis(32_000).saturating_sub(start.elapsed()));
    println!("all had ended after {:?}; {} folders were seen", start.elapsed(), ids.len());
    provider.reap().unwrap();
    assert_eq!(Host::look(&state, &ids, &others), before);
    assert_eq!(std::fs::read_dir(state.join("sandboxes")).unwrap().count(), 0, "folders are left");
}

/// Guests of this test: by what they have mounted, which only root may read of them, or by whose
/// they are.
fn guests(state: &Path) -> Vec<PathBuf> {
    let root = rustix::process::geteuid().is_root();
    let state = state.to_string_lossy();
    let lent = support::own_range().unwrap_or_default();
    let is_own = |status: &str| {
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:\t")?.split('\t').next());
        let uid = uid.and_then(|uid| uid.parse().ok());
        uid.is_some_and(|uid| uid == rustix::process::geteuid().as_raw() || lent.contains(&uid))
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let text = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    all.filter(|process| {
        let status = text(process.join("status"));
        status.starts_with("Name:\tmoat-")
            && if root {
                text(process.join("mountinfo")).contains(&*state)
            } else {
                is_own(&status)
            }
    })
    .collect()
}

fn child(name: &str, state: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--test-threads=1"])
        .env(STATE, state)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The first processes of sandboxes that live, as their folders record them.
fn first_processes(state: &Path) -> Vec<i32> {
    let folders = std::fs::read_dir(state.join("sandboxes")).into_iter().flatten().flatten();
    let records = folders.filter_map(|folder| {
        let text = std::fs::read(folder.path().join("sandbox.json")).ok()?;
        let record: serde_json::Value = serde_json::from_slice(&text).ok()?;
        i32::try_from(record["process"]["pid"].as_i64()?).ok()
    });
    records.filter(|pid| Path::new(&format!("/proc/{pid}/ns/pid")).exists()).collect()
}

fn kill(pid: i32) -> bool {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok()
}

/// All of the host that a sandbox could have left something in.
#[derive(Debug, PartialEq)]
struct Host {
    descriptors: usize,
    mounts: usize,
    groups: BTreeSet<PathBuf>,
    processes: BTreeSet<String>,
}

impl Host {
    /// `others` are groups that were there before.
    fn look(state: &Path, ids: &BTreeSet<String>, others: &BTreeSet<PathBuf>) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let state = state.to_string_lossy();
        Self {
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            mounts: mounts.lines().filter(|line| line.contains(&*state)).count(),
            groups: groups(|id| ids.contains(id)).difference(others).cloned().collect(),
            processes: processes(),
        }
    }
}

/// Control groups of the sandboxes that are wanted.
fn groups(is_wanted: impl Fn(&str) -> bool) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if depth < 6 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.strip_prefix("moat-").is_some_and(&is_wanted) {
                    found.insert(entry.path());
                }
                folders.push((entry.path(), depth + 1));
            }
        }
    }
    found
}

/// Commands of this test's sandboxes.
fn processes() -> BTreeSet<String> {
    let wanted = format!("sleep\0{}\0", time_of(rustix::process::getpid()));
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|text| text == wanted.as_bytes())
    })
    .map(|entry| entry.file_name().to_string_lossy().into_owned())
    .collect()
}
