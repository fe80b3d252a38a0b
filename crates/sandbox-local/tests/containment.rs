//! Nothing of the host can be reached from a command, as root, as an ordinary user, and as one
//! whom the host lends ids.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod support;

use std::time::{Duration, Instant};

use moat_core::Epoch;
use moat_sandbox::Provider as _;

use support::MARKER;
use support::inside::Inside;
use support::suite::{self, Suite};

#[test]
fn contains_as_root() {
    support::as_root("contains_as_root", || {
        suite::on_terminal("contains_as_root", || on_runtime(contains));
    });
}

#[test]
fn contains_as_ordinary_user() {
    support::as_ordinary_user("contains_as_ordinary_user", || {
        suite::on_terminal("contains_as_ordinary_user", || on_runtime(contains));
    });
}

#[test]
fn contains_as_user_with_subuids() {
    support::as_user_with_subuids("contains_as_user_with_subuids", || {
        suite::on_terminal("contains_as_user_with_subuids", || {
            support::assert_lent();
            on_runtime(contains);
        });
    });
}

#[test]
fn dies_with_its_first_process_as_user_with_subuids() {
    support::as_user_with_subuids("dies_with_its_first_process_as_user_with_subuids", || {
        on_runtime(dies);
    });
}

#[test]
fn dies_with_its_first_process_as_root() {
    support::as_root("dies_with_its_first_process_as_root", || on_runtime(dies));
}

#[test]
fn dies_with_its_first_process_as_ordinary_user() {
    support::as_ordinary_user("dies_with_its_first_process_as_ordinary_user", || on_runtime(dies));
}

fn on_runtime<F: Future<Output = ()>>(body: impl FnOnce() -> F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body());
}

/// What cannot be tried from a single process: each script has to say exactly this.
const SCRIPTS: &[(&str, &str, &str)] = &[
    ("accounts of the host", "3\n", "wc -l < /etc/passwd"),
    ("homes of the host", "agent\n", "ls /home; ls -A /root 2>/dev/null"),
    (
        "tokens in settings",
        "",
        "ls /etc/gitconfig /etc/npmrc /etc/pip.conf /etc/ssl/private 2>/dev/null",
    ),
    ("own temporary files", "", "find /tmp /dev/shm -mindepth 1"),
    ("sockets of services", "", "find / -xdev -type s 2>/dev/null"),
    (
        "devices",
        "fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n",
        "ls /dev",
    ),
    (
        "writable mounts",
        "/dev/pts\n/dev/shm\n/home/agent\n/moat/outputs\n/tmp\n/workspace\n",
        "awk '$6 ~ /^rw/ && $5 !~ \"^/(proc|dev/[a-z]*$|usr/local/lib/moat-among-)\" {print $5}' /proc/self/mountinfo | cat - /proc/self/mountinfo | awk 'NF == 1 || ($6 ~ /^rw/ && $5 ~ \"^/dev/(shm|pts)$\") {print NF == 1 ? $1 : $5}' | sort -u",
    ),
    (
        "who it is",
        "1000 1000 1000\n",
        "echo $(id -u) $(id -g) $(id -G | tr ' ' '\\n' | grep -vx 65534 | xargs)",
    ),
    (
        "the filter of the guest",
        "2 1\n",
        "awk '/^(Seccomp|NoNewPrivs):/ {print $2}' /proc/1/status | sort -r | xargs",
    ),
    ("names", "", "getent hosts example.com"),
];

async fn contains() {
    assert!(std::env::vars().any(|(_, value)| value == MARKER), "the environment is not marked");
    // First what it must not reach: a socket among programs is covered if it is there by then.
    let suite = Suite::new();
    let inside = Inside::new(|_| ()).await;
    let mut broken = Vec::new();
    for (name, expected, script) in SCRIPTS {
        let (code, said) = inside.sh(script).await;
        if said != *expected {
            broken.push(format!("{name}: `{script}` ended with {code} and said {said:?}"));
        }
    }
    environment(&inside, &mut broken).await;
    properties(&suite, &inside, &mut broken).await;
    broken.extend(suite.lacking(&inside).await);
    // After all that, the guest is as it was.
    assert_eq!(inside.sh("echo alive").await, (0, "alive\n".to_owned()));
    assert!(broken.is_empty(), "broken:\n{}", broken.join("\n"));
    inside.provider.destroy(&inside.sandbox.handle()).await.unwrap();
}

/// The environment is the documented list.
async fn environment(inside: &Inside, broken: &mut Vec<String>) {
    let (_, names) = inside.sh("env | cut -d= -f1 | sort | xargs").await;
    let expected = "DEBIAN_FRONTEND GIT_PAGER GIT_TERMINAL_PROMPT HOME LANG LOGNAME NO_COLOR \
        PAGER PATH PWD PYTHONUNBUFFERED SHELL TERM TMPDIR USER\n";
    // Some shells add their own.
    let names = names.replace(" OLDPWD", "").replace(" SHLVL", "").replace(" _ ", " ");
    if names != expected {
        broken.push(format!("the environment has {names:?}"));
    }
}

/// Every property of the list, all fences standing.
async fn properties(suite: &Suite, inside: &Inside, broken: &mut Vec<String>) {
    let list = suite::properties();
    assert!(list.len() >= 140, "the list has become short");
    let (verdicts, code) = suite.try_in(inside, &[]).await;
    assert_eq!(code, 0);
    for property in list {
        let (verdict, detail) = match verdicts.get(property.name) {
            Some((verdict, detail)) => (verdict.as_str(), detail.as_str()),
            None => ("lost", "the probe said nothing of it"),
        };
        println!("{:12} {:26} {verdict} ({detail})", property.group, property.name);
        let holds = verdict == "contained"
            || verdict == "unknown" && detail.starts_with("the host has no ");
        if !holds {
            broken.push(format!("{}: {verdict}, {detail}", property.name));
        }
    }
}

/// Everything in a sandbox dies with its first process, nobody in it was anybody on the host, and
/// what it leaves is removed by one pass of the reaper.
async fn dies() {
    let inside = Inside::new(|_| ()).await;
    let handle = inside.sandbox.handle();
    // Three times that no other test sleeps.
    let time = format!("9{}", std::process::id());
    inside.start(&["sleep", &time]).await;
    inside.start(&["sh", "-c", &format!("setsid sleep {time} & sleep {time}")]).await;
    eventually(|| sleepers(&time).len() == 3).await;
    for pid in sleepers(&time) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        let uid: u32 = uid.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_ne!(uid, 0);
        if rustix::process::geteuid().is_root() {
            assert!(uid >= 0x7000_0000, "uid {uid} is not of a private range");
        }
    }
    let pid = handle["process"]["pid"].as_i64().unwrap() as i32;
    let first = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(first, rustix::process::Signal::KILL).unwrap();
    eventually(|| sleepers(&time).is_empty()).await;
    let found = inside.provider.reattach(&handle, Epoch(2)).await.unwrap();
    assert!(found.is_none());
    assert_eq!(inside.provider.reap().unwrap(), 1);
    assert_eq!(inside.provider.reap().unwrap(), 0);
}

/// Processes of the host that sleep for this long.
fn sleepers(time: &str) -> Vec<String> {
    let wanted = format!("sleep\0{time}\0");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if command == wanted.as_bytes() {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

async fn eventually(holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never came true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
