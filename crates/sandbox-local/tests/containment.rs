//! Nothing of the host can be reached from a command, as root and as an ordinary user.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod support;

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::{Duration, Instant};

use moat_core::Epoch;
use moat_sandbox::{Provider as _, Root};

use support::MARKER;
use support::inside::Inside;

#[test]
fn contains_as_root() {
    support::as_root("contains_as_root", || on_runtime(contains));
}

#[test]
fn contains_as_ordinary_user() {
    support::as_ordinary_user("contains_as_ordinary_user", || on_runtime(contains));
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

/// What a script has to do.
enum Must {
    /// End with an error.
    Fail,
    /// Say this and nothing else.
    Say(&'static str),
}

use Must::{Fail, Say};

/// Properties by name, each with a script that would show that it does not hold.
const SCRIPTS: &[(&str, Must, &str)] = &[
    ("passwords of the host", Fail, "cat /etc/shadow || cat /etc/gshadow || cat /etc/shadow-"),
    ("accounts of the host", Say("3\n"), "wc -l < /etc/passwd"),
    ("homes of the host", Say("agent\n"), "ls /home; ls -A /root 2>/dev/null"),
    (
        "folders of the host",
        Say(""),
        "find /run /mnt /srv /sys /var -mindepth 1 -not -path /var/tmp",
    ),
    ("tokens in settings", Fail, "ls /etc/gitconfig /etc/npmrc /etc/pip.conf /etc/ssl/private"),
    ("own temporary files", Say(""), "find /tmp /dev/shm -mindepth 1"),
    ("sockets of services", Say(""), "find / -xdev -type s 2>/dev/null"),
    ("writing to the system", Fail, "touch /usr/x || touch /bin/x || touch /lib/x || touch /opt/x"),
    (
        "writing to settings",
        Fail,
        "touch /etc/x || echo x >> /etc/passwd || echo > /etc/resolv.conf",
    ),
    (
        "writing to the root",
        Fail,
        "touch /x || mkdir /y || touch /moat/x || touch /home/x || touch /dev/x",
    ),
    (
        "removing from the root",
        Fail,
        "rm -f /bin || rm -f /etc/hosts || rmdir /srv || ln /etc/hosts /tmp/x",
    ),
    (
        "switches of the kernel",
        Fail,
        "echo x > /proc/sys/kernel/hostname || echo 1 > /proc/sys/vm/drop_caches",
    ),
    ("switches of the network", Fail, "echo 1 > /proc/sys/net/ipv4/ip_forward"),
    ("out-of-memory score of others", Fail, "echo -1000 > /proc/1/oom_score_adj"),
    (
        "memory of the kernel",
        Say("0\n"),
        "cat /proc/kcore /proc/kallsyms /proc/keys /proc/kmsg /proc/timer_list 2>/dev/null | wc -c",
    ),
    ("the panic button", Say("1:3\n"), "stat -c %t:%T /proc/sysrq-trigger 2>/dev/null || echo 1:3"),
    ("processes of the host", Say("ok\n"), "test $(ls -d /proc/[0-9]* | wc -l) -lt 12 && echo ok"),
    ("threads of the kernel", Fail, "grep -lsa kthreadd /proc/[0-9]*/comm"),
    (
        "devices",
        Say("fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"),
        "ls /dev",
    ),
    (
        "disks of the host",
        Fail,
        "test -e /dev/sda -o -e /dev/vda -o -e /dev/kmsg -o -e /dev/mem -o -e /dev/kvm -o -e /dev/fuse",
    ),
    (
        "set-user-id on any mount",
        Say(""),
        "awk '{print $5, $6}' /proc/self/mountinfo | grep -v nosuid",
    ),
    (
        "writable mounts",
        Say("/dev/pts\n/dev/shm\n/home/agent\n/moat/outputs\n/tmp\n/workspace\n"),
        "awk '$6 ~ /^rw/ && $5 !~ \"^/(proc|dev/[a-z]*$)\" {print $5}' /proc/self/mountinfo | cat - /proc/self/mountinfo | awk 'NF == 1 || ($6 ~ /^rw/ && $5 ~ \"^/dev/(shm|pts)$\") {print NF == 1 ? $1 : $5}' | sort -u",
    ),
    (
        "capabilities",
        Say("0000000000000000\n"),
        "awk '/^Cap/ {print $2}' /proc/self/status | sort -u",
    ),
    ("new privileges", Say("1\n"), "awk '/^NoNewPrivs/ {print $2}' /proc/self/status"),
    ("the filter", Say("2\n"), "awk '/^Seccomp:/ {print $2}' /proc/self/status"),
    (
        "the filter of the guest",
        Say("2 1\n"),
        "awk '/^(Seccomp|NoNewPrivs):/ {print $2}' /proc/1/status | sort -r | xargs",
    ),
    ("becoming root", Fail, "su -c true || sudo -n true || passwd -d root"),
    (
        "who it is",
        Say("1000 1000 1000\n"),
        "echo $(id -u) $(id -g) $(id -G | tr ' ' '\\n' | grep -vx 65534 | xargs)",
    ),
    ("names", Fail, "getent hosts example.com"),
    (
        "networks",
        Say("lo\n"),
        "ls /proc/self/net/dev >/dev/null && awk -F: 'NR > 2 {gsub(/ /, \"\", $1); print $1}' /proc/net/dev",
    ),
    (
        "its own loopback",
        Say("up\n"),
        "grep -q 0100007F /proc/net/fib_trie 2>/dev/null || grep -q 127.0.0.1 /proc/net/fib_trie && echo up",
    ),
    ("name of the host", Say("moat\n"), "cat /proc/sys/kernel/hostname"),
    ("message queues of the host", Say("1\n"), "wc -l < /proc/sysvipc/shm"),
    ("core dumps", Say("0\n"), "ulimit -c"),
];

/// What the probe may be answered; everything else it tries has to be refused.
const ANSWERS: &[(&str, &str)] = &[
    ("clone_plain", "done"),
    ("clone3", "ENOSYS"),
    ("unknown_call", "ENOSYS"),
    ("personality_linux32", "done"),
    ("unix", "done"),
    ("inet", "done"),
    ("inet6", "done"),
    ("netlink_route", "done"),
    ("host_loopback", "ECONNREFUSED"),
    ("outside", "ENETUNREACH"),
    ("metadata", "ENETUNREACH"),
    ("abstract", "ECONNREFUSED"),
    ("guest_memory", "EACCES"),
    ("guest_environment", "EACCES"),
    ("guest_root", "EACCES"),
    ("guest_descriptor", "EACCES"),
    ("ptrace_own", "done"),
    // Ids that the user namespace does not map cannot even be named.
    ("setuid", "EPERM|EINVAL"),
    ("setgid", "EPERM|EINVAL"),
    ("seteuid_guest", "EPERM|EINVAL"),
    ("chown", "EPERM|EINVAL"),
    ("nice", "EACCES"),
    ("controlling_terminal", "ENXIO"),
    ("openpt", "done"),
];

async fn contains() {
    assert!(std::env::vars().any(|(_, value)| value == MARKER), "the environment is not marked");
    let inside = Inside::new(|_| ()).await;
    let mut broken = Vec::new();
    for (name, must, script) in SCRIPTS {
        let (code, said) = inside.sh(script).await;
        let holds = match must {
            Fail => code != 0,
            Say(expected) => said == *expected,
        };
        println!("{} {name}", if holds { "ok    " } else { "BROKEN" });
        if !holds {
            broken.push(format!("{name}: `{script}` ended with {code} and said {said:?}"));
        }
    }
    environment(&inside, &mut broken).await;
    probe(&inside, &mut broken).await;
    // After all that, the guest is as it was.
    assert_eq!(inside.sh("echo alive").await, (0, "alive\n".to_owned()));
    assert!(broken.is_empty(), "broken:\n{}", broken.join("\n"));
    inside.provider.destroy(&inside.sandbox.handle()).await.unwrap();
}

/// The environment is the documented list, and nothing of the host's is found anywhere.
async fn environment(inside: &Inside, broken: &mut Vec<String>) {
    let (_, names) = inside.sh("env | cut -d= -f1 | sort | xargs").await;
    let expected = "DEBIAN_FRONTEND GIT_PAGER GIT_TERMINAL_PROMPT HOME LANG LOGNAME NO_COLOR \
        PAGER PATH PWD PYTHONUNBUFFERED SHELL TERM TMPDIR USER\n";
    // Some shells add their own.
    let names = names.replace(" OLDPWD", "").replace(" SHLVL", "").replace(" _ ", " ");
    if names != expected {
        broken.push(format!("the environment has {names:?}"));
    }
    let search = format!("grep -lsa {MARKER} /proc/[0-9]*/environ");
    let (_, found) = inside.sh(&search).await;
    if !found.is_empty() {
        broken.push(format!("the host's environment is in {found:?}"));
    }
}

async fn probe(inside: &Inside, broken: &mut Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let name = format!("moat-containment-{}", std::process::id());
    let hidden = SocketAddr::from_abstract_name(&name).unwrap();
    let _hidden = UnixListener::bind_addr(&hidden).unwrap();

    let program = support::build_program(include_str!("containment/probe.c"));
    let path = Path::new("probe");
    inside.guest.write(Root::Workspace, path, &program, 0o755).await.unwrap();
    let (code, said) = inside.run(&["/workspace/probe", &port, &name]).await;
    assert_eq!(code, 0, "the probe said {said}");
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("descriptors 0 1 2"));
    let answers: Vec<_> = lines.filter_map(|line| line.split_once(' ')).collect();
    assert_eq!(answers.last().map(|(name, _)| *name), Some("tioclinux"), "it ended early: {said}");
    for (name, answer) in &answers {
        let special = ANSWERS.iter().find(|(special, _)| special == name);
        let expected = special.map_or("EPERM", |(_, expected)| *expected);
        let holds = expected.split('|').any(|expected| expected == *answer);
        println!("{} {name}: {answer}", if holds { "ok    " } else { "BROKEN" });
        if !holds {
            broken.push(format!("{name}: {answer} instead of {expected}"));
        }
    }
    for (special, _) in ANSWERS {
        assert!(answers.iter().any(|(name, _)| name == special), "`{special}` was not tried");
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
