//! The second fence on files: whatever becomes of mounts, nothing but this can be touched.

use std::path::Path;

use crate::plan::Step;

// The kernel's `LANDLOCK_ACCESS_FS_…`.
const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEVICE: u64 = 1 << 15;
/// All of them, up to the newest that the launcher knows.
const ALL: u64 = 0xffff;

/// Sockets without a path, and signals, stay among the processes of the sandbox.
const SCOPED: u64 = 3;

const LOOK: u64 = READ_FILE | READ_DIR;
const RUN: u64 = LOOK | EXECUTE;
const CHANGE: u64 = LOOK | WRITE_FILE | TRUNCATE;

/// What is allowed beneath which folder of the finished root. What other users' rights, read-only
/// mounts and masks forbid stays forbidden.
const RULES: [(u64, &str, &str); 8] = [
    // Everything in the root is there to be seen: the system, toolchains, the generated `/etc`.
    (RUN, "/", "programs and their libraries"),
    (ALL, "/workspace", "the work"),
    // Not all of `/home`: toolchains of the caller's are shown beneath it, and a mount that is
    // read-only keeps nobody from writing into a pipe.
    (ALL, "/home/agent", "caches and settings of tools"),
    (ALL, "/tmp", "temporary files"),
    // The guest writes here through a descriptor of its own; the path is mounted read-only.
    (ALL, "/moat/outputs", "whole outputs of calls"),
    (CHANGE | IOCTL_DEVICE, "/dev", "the few devices, and terminals"),
    (ALL, "/dev/shm", "shared memory"),
    // A process may change some of what is known of itself (its name, its out-of-memory score).
    (CHANGE, "/proc", "what is known of processes"),
];

/// Hands the rules to `add` as a step. A root that is the sandbox's own may be written as a whole;
/// so may `own`: homes of others, and mounts.
pub(crate) fn step<R>(
    required: bool,
    writable_root: bool,
    own: &[&Path],
    add: impl FnOnce(&Step<'_>) -> R,
) -> R {
    let fixed = RULES.map(|(access, path, _reason)| {
        let access = if writable_root && path == "/" { ALL } else { access };
        (access, Path::new(path))
    });
    let own = own.iter().map(|path| (ALL, *path));
    let rules: Vec<_> = fixed.into_iter().chain(own).collect();
    add(&Step::Landlock { required, files: ALL, scoped: SCOPED, rules: &rules })
}

/// The same for a program whose root is a single folder, which it may change.
pub(crate) fn whole_root<R>(add: impl FnOnce(&Step<'_>) -> R) -> R {
    let rules = [(ALL, Path::new("/"))];
    add(&Step::Landlock { required: false, files: ALL, scoped: SCOPED, rules: &rules })
}
