//! What is mounted on this machine, as this process sees it.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Takes a mount away, also while it is in use: who uses it loses it.
pub(crate) fn unmount(at: &Path) {
    if !is_mounted(at) {
        return;
    }
    let Some(program) = crate::rclone::unmounter() else { return };
    let mut command = std::process::Command::new(program);
    let _ = command.args(["-u", "-z", "--"]).arg(at).env_clear().status();
}

pub(crate) fn is_mounted(at: &Path) -> bool {
    mounts().iter().any(|mount| mount == at)
}

pub(crate) fn mounted_beneath(folder: &Path) -> Vec<PathBuf> {
    mounts().into_iter().filter(|mount| mount.starts_with(folder)).collect()
}

/// Every path of this process's mounts.
fn mounts() -> Vec<PathBuf> {
    let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let fields = text.split(|byte| *byte == b'\n').filter_map(|line| {
        let field = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(&unescaped(field))))
    });
    fields.collect()
}

/// Blanks and the like stand there as octal numbers.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}
