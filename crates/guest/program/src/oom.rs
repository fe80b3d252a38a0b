//! Who goes first when the machine's memory runs out: commands, before the guest and before others.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};

use crate::left_out::stands;

/// The guest's own score, and what it was.
static OWN: OnceLock<(OwnedFd, i32)> = OnceLock::new();

const OF_COMMANDS: i32 = 500;

/// Opens the guest's own score, which it can only do for as long as it can be looked into. Best
/// effort, as all of this.
pub(crate) fn open() {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open("/proc/self/oom_score_adj", flags, Mode::empty()) else {
        return;
    };
    let mut text = [0; 16];
    let count = rustix::io::read(&file, &mut text).unwrap_or_default();
    let score = text.get(..count).and_then(|text| std::str::from_utf8(text).ok());
    let _ = OWN.set((file, score.and_then(|text| text.trim().parse().ok()).unwrap_or_default()));
}

/// Makes a child that has the score of commands: a child begins with that of its parent.
pub(crate) fn with_score_of_commands<T>(make: impl FnOnce() -> T) -> T {
    let Some((file, own)) = OWN.get().filter(|_| stands("limits")) else { return make() };
    let _ = rustix::io::write(file, OF_COMMANDS.max(*own).to_string().as_bytes());
    let made = make();
    let _ = rustix::io::write(file, own.to_string().as_bytes());
    made
}
