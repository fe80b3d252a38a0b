//! What runs away is stopped, and a neighbour does not notice: as root, as root without control
//! groups, and as an ordinary user.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moat_core::{CallKey, Epoch, LimitName, RunId, SandboxLimitReached, SandboxLimits, Seq};
use moat_sandbox::{Command, ProcessEvent, ProcessExit, Provider as _, Sandbox, SandboxSpec};
use moat_sandbox_local::{LocalOptions, LocalProvider};

#[test]
fn limits_hold_as_root() {
    support::as_root("limits_hold_as_root", || on_runtime(|| limits_hold(true)));
}

#[test]
fn limits_hold_as_root_without_control_groups() {
    const NAME: &str = "limits_hold_as_root_without_control_groups";
    support::as_root(NAME, || on_runtime(|| limits_hold(false)));
}

#[test]
fn limits_hold_as_ordinary_user() {
    const NAME: &str = "limits_hold_as_ordinary_user";
    support::as_ordinary_user(NAME, || on_runtime(|| limits_hold(true)));
}

#[test]
fn used_and_paused_as_root() {
    support::as_root("used_and_paused_as_root", || on_runtime(used_and_paused));
}

#[test]
fn used_and_paused_as_ordinary_user() {
    const NAME: &str = "used_and_paused_as_ordinary_user";
    support::as_ordinary_user(NAME, || on_runtime(used_and_paused));
}

#[test]
fn control_groups_go_with_their_sandbox_as_root() {
    const NAME: &str = "control_groups_go_with_their_sandbox_as_root";
    support::as_root(NAME, || on_runtime(groups_go));
}

fn on_runtime<F: Future<Output = ()>>(body: impl FnOnce() -> F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body());
}

/// Small enough for any host that runs tests.
const MEMORY: u64 = 64 << 20;
const PIDS: u64 = 64;
const DISK: u64 = 32 << 20;
const FILES: u64 = 500;

fn small() -> SandboxLimits {
    SandboxLimits {
        memory_bytes: Some(MEMORY),
        pids: Some(PIDS),
        open_files: Some(64),
        cpu_time_ms: Some(700),
        disk_bytes: Some(DISK),
        disk_inodes: Some(FILES),
        tmp_bytes: Some(8 << 20),
        tmp_inodes: Some(100),
        output_bytes: Some(100_000),
        wall_ms: Some(30_000),
        ..SandboxLimits::default()
    }
}

/// One way to run away.
struct Case {
    name: &'static str,
    script: &'static str,
    limits: fn(SandboxLimits) -> SandboxLimits,
    /// The limits any of which it may reach.
    reaches: &'static [LimitName],
    ended: bool,
    /// What a watcher may see, in multiples of what is allowed.
    overshoot: u64,
}

const UNCHANGED: fn(SandboxLimits) -> SandboxLimits = |limits| limits;

const CASES: &[Case] = &[
    Case {
        name: "fork bomb",
        // A shell that tries again when it cannot fork.
        script: "exec bash -c 'bomb() { bomb | bomb & }; bomb; while :; do :; done'",
        limits: |limits| SandboxLimits {
            cpu_time_ms: None,
            memory_bytes: Some(512 << 20),
            ..limits
        },
        reaches: &[LimitName::Pids],
        ended: true,
        overshoot: 8,
    },
    Case {
        name: "too many children",
        script: "for i in $(seq 1000); do sleep 100 & done; wait",
        limits: |limits| SandboxLimits {
            cpu_time_ms: None,
            memory_bytes: Some(512 << 20),
            ..limits
        },
        reaches: &[LimitName::Pids],
        ended: false,
        overshoot: 8,
    },
    Case {
        name: "memory hog",
        script: "exec tail /dev/zero",
        limits: UNCHANGED,
        reaches: &[LimitName::Memory],
        ended: true,
        overshoot: 16,
    },
    Case {
        name: "memory hog beneath a shell",
        script: "tail /dev/zero; echo it said $?; exit 137",
        limits: UNCHANGED,
        reaches: &[LimitName::Memory],
        ended: true,
        overshoot: 16,
    },
    Case {
        name: "disk filler",
        script: "i=0; while :; do head -c 1000000 /dev/zero > fill.$i; i=$((i+1)); done",
        limits: |limits| SandboxLimits { cpu_time_ms: None, ..limits },
        reaches: &[LimitName::Disk],
        ended: true,
        overshoot: 64,
    },
    Case {
        name: "filler of one file",
        script: "exec cat /dev/zero > ~/file",
        limits: UNCHANGED,
        reaches: &[LimitName::Disk],
        ended: true,
        overshoot: 64,
    },
    Case {
        name: "filler of a file without a name",
        script: "exec 7> gone 8> gone2 9> gone3; rm gone*; \
                 head -c 20000000 /dev/zero >&7; head -c 20000000 /dev/zero >&8; sleep 100",
        limits: UNCHANGED,
        reaches: &[LimitName::Disk],
        ended: true,
        overshoot: 64,
    },
    Case {
        name: "many files",
        script: "i=0; while :; do i=$((i+1)); : > f$i; done",
        limits: |limits| SandboxLimits { cpu_time_ms: None, ..limits },
        reaches: &[LimitName::DiskInodes],
        ended: true,
        overshoot: 1000,
    },
    Case {
        name: "too large a file",
        script: "head -c 100000 /dev/zero > file",
        limits: |limits| SandboxLimits { file_bytes: Some(50_000), ..limits },
        reaches: &[LimitName::FileSize],
        ended: true,
        overshoot: 1,
    },
    Case {
        name: "temporary files",
        script: "head -c 20000000 /dev/zero > /tmp/file; exit 3",
        limits: UNCHANGED,
        reaches: &[LimitName::Tmp],
        ended: false,
        overshoot: 1,
    },
    Case {
        name: "many temporary files",
        script: "i=0; while [ $i -lt 200 ]; do i=$((i+1)); true > /dev/shm/f$i; done; exit 3",
        limits: UNCHANGED,
        reaches: &[LimitName::TmpInodes],
        ended: false,
        overshoot: 1,
    },
    Case {
        name: "descriptor leak",
        script: "exec bash -c 'sleep 1 & i=3; while [ $i -lt 200 ]; do \
                 eval \"exec $i< /dev/null\" || break; i=$((i+1)); done; wait; exit 3'",
        limits: UNCHANGED,
        reaches: &[LimitName::OpenFiles],
        ended: false,
        overshoot: 2,
    },
    Case {
        name: "busy loop",
        script: "while :; do :; done",
        limits: UNCHANGED,
        reaches: &[LimitName::CpuTime],
        ended: true,
        overshoot: 8,
    },
    Case {
        name: "busy loops of children",
        script: "for i in 1 2 3; do (while :; do :; done) & done; wait",
        limits: UNCHANGED,
        reaches: &[LimitName::CpuTime],
        ended: true,
        overshoot: 8,
    },
    Case {
        name: "output flood",
        script: "exec yes",
        limits: UNCHANGED,
        reaches: &[LimitName::Output],
        ended: true,
        overshoot: u64::MAX,
    },
    Case {
        name: "sleeper",
        script: "sleep 1000",
        limits: |limits| SandboxLimits { wall_ms: Some(300), ..limits },
        reaches: &[LimitName::WallTime],
        ended: true,
        overshoot: 50,
    },
];

async fn limits_hold(control_groups: bool) {
    let top = tempfile::tempdir().unwrap();
    let state = support::state_folder(top.path());
    let options = LocalOptions { control_groups, ..LocalOptions::new(&state) };
    let provider = LocalProvider::new(options).unwrap();
    let neighbour = Lab::new(&provider, small()).await;
    let filter = std::env::var("MOAT_CHECK").unwrap_or_default();
    for case in CASES.iter().filter(|case| case.name.contains(&filter)) {
        let began = Instant::now();
        let lab = Lab::new(&provider, (case.limits)(small())).await;
        let key = lab.start(case.script).await;
        // The neighbour works while the other runs away.
        let beside = neighbour.run("printf '%s' well; : > file; rm file").await;
        assert_eq!((beside.0.code, beside.1.as_str()), (0, "well"), "beside the {}", case.name);
        assert_eq!(beside.0.limit, None, "beside the {}", case.name);
        let (exit, said) = lab.hear(key).await;
        let took = began.elapsed().as_millis();
        println!("{:<34} {took:>6} ms  code {:>4}  {:?}", case.name, exit.code, exit.limit);
        let Some(reached) = &exit.limit else {
            panic!("the {} reached no limit: {exit:?}, {said:?}", case.name)
        };
        check(case, &exit, reached);
        if case.reaches.contains(&LimitName::Output) {
            assert_eq!(said.len(), 100_000);
        }
        // The sandbox itself is well, and whatever the command left is gone or harmless.
        let after = lab.run("echo still here").await;
        assert_eq!(after.1, "still here\n", "after the {}: {:?}", case.name, after.0);
        lab.end(&provider).await;
    }
    let beside = neighbour.run("echo well").await;
    assert_eq!(beside.1, "well\n");
    neighbour.end(&provider).await;
    provider.reap().unwrap();
    assert_eq!(std::fs::read_dir(state.join("sandboxes")).unwrap().count(), 0);
}

fn check(case: &Case, exit: &ProcessExit, reached: &SandboxLimitReached) {
    let name = case.name;
    assert!(case.reaches.contains(&reached.limit), "the {name} reached {reached:?}");
    assert_eq!(reached.ended, case.ended, "the {name} reached {reached:?}");
    if let Some(seen) = reached.seen {
        let most = reached.allowed.saturating_mul(case.overshoot);
        assert!(seen >= reached.allowed && seen <= most, "the {name} reached {reached:?}");
    }
    if case.ended {
        assert!(exit.code < 0 || exit.code > 128, "the {name} ended with {}", exit.code);
    }
    let metered = exit.metered.unwrap();
    match reached.limit {
        LimitName::CpuTime => assert!(metered.cpu_ms >= 500, "{metered:?}"),
        LimitName::Memory => assert!(metered.peak_memory_bytes > 20 << 20, "{metered:?}"),
        _ => {}
    }
}

async fn used_and_paused() {
    let top = tempfile::tempdir().unwrap();
    let state = support::state_folder(top.path());
    let provider = LocalProvider::new(LocalOptions::new(&state)).unwrap();
    let limits = SandboxLimits { wall_ms: Some(30_000), ..SandboxLimits::default() };
    let lab = Lab::new(&provider, limits).await;
    // Children, waited for and not, count for their command.
    let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done & wait; \
        head -c 3000000 /dev/zero > file; sync file 2>/dev/null; \
        (x=$(head -c 30000000 /dev/zero | tr '\\0' x); echo ${#x})";
    let (exit, said) = lab.run(script).await;
    assert_eq!(said, "30000000\n");
    let used = exit.metered.unwrap();
    assert!(used.cpu_ms > 50 && used.wall_ms >= used.cpu_ms / 8, "{used:?}");
    assert!(used.peak_memory_bytes > 20 << 20, "{used:?}");
    let all = lab.sandbox.metered().await.unwrap();
    assert!(all.cpu_ms >= used.cpu_ms && all.peak_memory_bytes > 10 << 20, "{all:?}");

    // The guest's own limits are not a command's to set, though it may be the same user.
    let (exit, said) = lab.run("prlimit --pid 1 --nofile=10:10 && echo set").await;
    assert!(exit.code != 0 && !said.contains("set\n"), "{exit:?} {said:?}");

    // A pause holds when this side goes away and comes again.
    let key = lab.start("while :; do echo x >> beats; sleep 0.02; done").await;
    lab.until("test -s beats").await;
    lab.sandbox.pause().await.unwrap();
    let handle = lab.sandbox.handle();
    let run = lab.run;
    drop(lab);
    let sandbox = provider.reattach(&handle, Epoch(2)).await.unwrap().unwrap();
    let lab = Lab { run, sandbox };
    let beats = || std::fs::metadata(beats_file(&state)).unwrap().len();
    let before = beats();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(beats(), before, "it went on while it was paused");
    lab.sandbox.resume().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while beats() == before {
        assert!(Instant::now() < deadline, "it does not go on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lab.sandbox.guest().signal(key, 9).await.unwrap();
    lab.hear(key).await;
    lab.end(&provider).await;
}

fn beats_file(state: &std::path::Path) -> PathBuf {
    let mut sandboxes = std::fs::read_dir(state.join("sandboxes")).unwrap();
    sandboxes.next().unwrap().unwrap().path().join("workspace/beats")
}

/// Whatever is killed, and by whomever it is found.
async fn groups_go() {
    let top = tempfile::tempdir().unwrap();
    let state = support::state_folder(top.path());
    let provider = LocalProvider::new(LocalOptions::new(&state)).unwrap();
    let mut groups = Vec::new();
    for end in ["destroyed", "killed", "shut down"] {
        let lab = Lab::new(&provider, small()).await;
        let handle = lab.sandbox.handle();
        let id = handle["id"].as_str().unwrap().to_owned();
        let record = std::fs::read(state.join("sandboxes").join(&id).join("cgroups.json"));
        let Ok(record) = record else {
            support::skip("control_groups_go_with_their_sandbox_as_root", "no control groups");
            return;
        };
        let mine: Vec<PathBuf> = serde_json::from_slice(&record).unwrap();
        assert!(mine.iter().all(|group| group.exists()), "{mine:?}");
        let inside = lab.run("cat /proc/self/cgroup; ls /sys").await.1;
        assert!(!inside.contains(&id), "the control group can be seen: {inside}");
        match end {
            "destroyed" => provider.destroy(&handle).await.unwrap(),
            "killed" => {
                let pid = handle["process"]["pid"].as_i64().unwrap();
                let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                while provider.reattach(&handle, Epoch(9)).await.is_ok_and(|found| found.is_some())
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                provider.reap().unwrap();
            }
            _ => {
                lab.sandbox.guest().shutdown().await.unwrap();
                provider.destroy(&handle).await.unwrap();
            }
        }
        assert!(mine.iter().all(|group| !group.exists()), "{end}, and there are still {mine:?}");
        groups.extend(mine);
    }
    assert!(!groups.is_empty());
}

struct Lab {
    run: RunId,
    sandbox: Box<dyn Sandbox>,
}

impl Lab {
    async fn new(provider: &LocalProvider, limits: SandboxLimits) -> Self {
        let run = RunId::generate();
        let spec = SandboxSpec {
            limits,
            orphan_grace: Duration::from_secs(120),
            ..SandboxSpec::new(run, Epoch(1))
        };
        Self { run, sandbox: provider.create(&spec).await.unwrap() }
    }

    async fn start(&self, script: &str) -> CallKey {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let seq = Seq(NEXT.fetch_add(1, Ordering::Relaxed));
        let key = CallKey { run: self.run, seq, index: 0, attempt: 1 };
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let command = Command {
            key,
            argv,
            cwd: PathBuf::from("/workspace"),
            environment: BTreeMap::new(),
            tty: None,
            user: None,
        };
        self.sandbox.guest().start(&command).await.unwrap();
        key
    }

    async fn hear(&self, key: CallKey) -> (ProcessExit, String) {
        let guest = self.sandbox.guest();
        let mut events = guest.attach(key, 0).await.unwrap();
        let mut said = Vec::new();
        let hear = async {
            loop {
                match events.recv().await {
                    Some(ProcessEvent::Output { offset, bytes, .. }) => {
                        let end = offset + bytes.len() as u64;
                        said.extend(bytes);
                        guest.acknowledge(key, end).await.unwrap();
                    }
                    Some(ProcessEvent::Exited(exit)) => break exit,
                    other => panic!("{other:?}"),
                }
            }
        };
        let exit = tokio::time::timeout(Duration::from_secs(60), hear).await.unwrap();
        guest.release(key).await.unwrap();
        (exit, String::from_utf8_lossy(&said).into_owned())
    }

    async fn run(&self, script: &str) -> (ProcessExit, String) {
        let key = self.start(script).await;
        self.hear(key).await
    }

    async fn until(&self, script: &str) {
        for _ in 0..500 {
            if self.run(script).await.0.code == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {script}");
    }

    async fn end(self, provider: &LocalProvider) {
        provider.destroy(&self.sandbox.handle()).await.unwrap();
    }
}
