//! Runs a test as root and as an ordinary user, in a process of its own that has a marked
//! environment.

#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod inside;
pub(crate) mod suite;

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use moat_sandbox_local::{LocalOptions, LocalProvider, UsersState};

/// A user that no host has.
const ORDINARY: u32 = 61_234;
/// The user with ranges of ids whom `scripts/setup` makes.
const WITH_RANGES: &str = "moat-subuid";

/// A value in the environment of the process that makes sandboxes.
pub(crate) const MARKER: &str = "a-value-of-the-hosts-environment";
const MARKED: &str = "MOAT_TEST_MARKER";

/// Says that a test did not run, past the test harness, which would swallow it.
pub(crate) fn skip(name: &str, reason: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "SKIP {name}: {reason}").unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs `body` as root.
pub(crate) fn as_root(name: &str, body: impl FnOnce()) {
    if is_root() {
        apart(name, None, body);
    } else {
        skip(name, "needs root");
    }
}

/// Runs `body` as an ordinary user.
pub(crate) fn as_ordinary_user(name: &str, body: impl FnOnce()) {
    apart(name, is_root().then_some((ORDINARY, ORDINARY)), body);
}

/// Runs `body` as an ordinary user whom the host lends ranges of ids.
pub(crate) fn as_user_with_subuids(name: &str, body: impl FnOnce()) {
    let programs = ["newuidmap", "newgidmap"];
    if programs.iter().any(|name| !Path::new("/usr/bin").join(name).exists()) {
        skip(name, "needs `newuidmap` and `newgidmap`; scripts/setup installs them");
    } else if !is_root() {
        let own = rustix::process::geteuid().as_raw();
        match account(|_, uid| uid == own).filter(|(name, ..)| lent(name).is_some()) {
            Some(_) => apart(name, None, body),
            None => skip(name, "needs ranges in /etc/subuid and /etc/subgid, or root"),
        }
    } else if let Some((_, uid, gid)) =
        account(|name, _| name == WITH_RANGES).filter(|(name, ..)| lent(name).is_some())
    {
        apart(name, Some((uid, gid)), body);
    } else {
        skip(name, "needs the user `moat-subuid`; scripts/setup makes it");
    }
}

/// Sandboxes of this process's user do have ids that the host lends: without, they could pass the
/// same tests as others.
pub(crate) fn assert_lent() {
    let top = tempfile::tempdir().unwrap();
    let users = provider(top.path()).users().unwrap();
    assert_eq!(users.state, UsersState::Lent, "{}", users.detail);
}

/// Name, user and group of somebody of the host.
fn account(is_he: impl Fn(&str, u32) -> bool) -> Option<(String, u32, u32)> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap();
    text.lines().find_map(|line| {
        let parts: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, ..] = parts[..] else { return None };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        is_he(name, uid).then(|| (name.to_owned(), uid, gid))
    })
}

/// The first range of users that the host lends somebody.
fn lent(name: &str) -> Option<std::ops::Range<u32>> {
    let text = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
    text.lines().find_map(|line| {
        let mut parts = line.split(':');
        let is_his = parts.next() == Some(name);
        let (first, count): (u32, u32) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        is_his.then(|| first..first + count)
    })
}

/// The range of users that the host lends this process's user.
pub(crate) fn own_range() -> Option<std::ops::Range<u32>> {
    let own = rustix::process::geteuid().as_raw();
    account(|_, uid| uid == own).and_then(|(name, ..)| lent(&name))
}

/// Runs the test of this name again, as this user if one is given; there, runs `body`.
fn apart(name: &str, user: Option<(u32, u32)>, body: impl FnOnce()) {
    if std::env::var_os(MARKED).is_some() {
        body();
        return;
    }
    // The test's own program may lie where only root may look.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let scratch = folder.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let mut again = Command::new(&program);
    again
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARKED, MARKER)
        .env("TMPDIR", &scratch)
        .current_dir("/");
    if let Some((user, group)) = user {
        chown(&scratch, Some(user), Some(group)).unwrap();
        again.env("HOME", &scratch).uid(user).gid(group);
    }
    let output = output_of(&mut again);
    println!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}", output.status);
}

/// Runs the test of this name again as root of a user namespace that has everybody of the host,
/// where `script` has taken something away; there, runs `body`.
pub(crate) fn where_this_was_done(name: &str, script: &str, body: impl FnOnce()) {
    const DONE: &str = "MOAT_TEST_DONE";
    if std::env::var_os(DONE).is_some() {
        body();
        return;
    }
    if !is_root() {
        skip(name, "needs root");
        return;
    }
    // It waits until it is somebody, and only the next program is then root.
    let mut child = Command::new("unshare")
        .args(["-Um", "sh", "-c"])
        .arg("read _ && exec sh -c \"$1\" \"$0\"")
        .arg(std::env::current_exe().unwrap())
        .arg(format!("{script} || exit 77; exec \"$0\" {name} --exact --nocapture"))
        .env(DONE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Not before the namespace is there: its links differ.
    let own = std::fs::read_link("/proc/self/ns/user").unwrap();
    let theirs = format!("/proc/{}/ns/user", child.id());
    let start = std::time::Instant::now();
    while std::fs::read_link(&theirs).is_ok_and(|theirs| theirs == own) {
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "no namespace is made");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    for map in ["uid_map", "gid_map"] {
        // Where it is not taken, the script fails.
        let _ = std::fs::write(format!("/proc/{}/{map}", child.id()), "0 0 4294967295\n");
    }
    drop(child.stdin.take().map(|mut input| input.write_all(b"\n")));
    let output = child.wait_with_output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{}", String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(77) => skip(name, "this host cannot be made lesser"),
        _ => assert!(output.status.success(), "{name}: {}", output.status),
    }
}

/// Another test's child may hold the copy open for writing for the moment before it executes.
fn output_of(command: &mut Command) -> std::process::Output {
    for _ in 0..100 {
        match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            output => return output.unwrap(),
        }
    }
    panic!("the test's copy stays busy");
}

/// A folder for a provider's state, whose path is longer than a socket's address may be.
pub(crate) fn state_folder(top: &Path) -> PathBuf {
    let long = "a-folder-with-a-name-that-is-much-longer-than-the-address-of-a-socket-may-be";
    top.join(long).join("state")
}

/// A provider that keeps its state beneath a folder of the test.
pub(crate) fn provider(top: &Path) -> LocalProvider {
    // How full this host's disk is decides nothing here.
    let options = LocalOptions { workspaces_leave_free: 0, ..LocalOptions::new(state_folder(top)) };
    LocalProvider::new(options).unwrap()
}

/// A program from its source in C.
pub(crate) fn build_program(source: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (code, program) = (folder.path().join("probe.c"), folder.path().join("probe"));
    std::fs::write(&code, source).unwrap();
    let status = Command::new("cc").args(["-O1", "-o"]).args([&program, &code]).status().unwrap();
    assert!(status.success(), "the probe cannot be built");
    std::fs::read(program).unwrap()
}
