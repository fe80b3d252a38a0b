//! Runs a test as root and as an ordinary user.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// A user that no host has.
const ORDINARY: u32 = 61_234;

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that a test did not run, past the test harness, which would swallow it.
pub(crate) fn skip(name: &str, reason: &str) {
    writeln!(std::io::stdout(), "SKIP {name}: {reason}").unwrap();
}

/// Runs `body` if this process is root.
pub(crate) fn as_root(name: &str, body: impl FnOnce()) {
    if is_root() {
        body();
    } else {
        skip(name, "needs root");
    }
}

/// Runs `body` as an ordinary user: at once if this process is one's, else by running the test of
/// this name again as somebody else.
pub(crate) fn as_ordinary_user(name: &str, body: impl FnOnce()) {
    if !is_root() {
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
    chown(&scratch, Some(ORDINARY), Some(ORDINARY)).unwrap();
    let status = Command::new(&program)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("TMPDIR", &scratch)
        .env("HOME", &scratch)
        .current_dir("/")
        .uid(ORDINARY)
        .gid(ORDINARY)
        .status()
        .unwrap();
    assert!(status.success(), "as an ordinary user: {status}");
}

/// A folder for a provider's state, whose path is longer than a socket's address may be.
pub(crate) fn state_folder(top: &Path) -> std::path::PathBuf {
    let long = "a-folder-with-a-name-that-is-much-longer-than-the-address-of-a-socket-may-be";
    top.join(long).join("state")
}
