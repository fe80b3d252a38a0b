//! `/proc`: what of it is there, and what may be changed.

use std::path::Path;

use super::tree::Tree;
use super::{Parts, Sources, WRITABLE};
use crate::fences::Fence;
use crate::plan::attribute;

/// Files of `/proc` that say something about the machine that is not the sandbox's to know.
const HIDDEN_FILES: [&str; 11] = [
    "kcore",
    "keys",
    "key-users",
    "kmsg",
    "kallsyms",
    "latency_stats",
    "sched_debug",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
    "interrupts",
];
/// Folders of the same kind.
const HIDDEN_FOLDERS: [&str; 7] = ["acpi", "asound", "bus", "driver", "fs", "irq", "scsi"];
/// Folders with switches of the kernel.
const READ_ONLY_FOLDERS: [&str; 1] = ["sys"];

/// What a sandbox may take of what the kernel counts for whoever made it too: he has 128 watchers of
/// files (`inotify`), and some 10,000 to 1,000,000 watches in them.
const MOST_WATCHERS: &str = "32";
const PART_OF_WATCHES: u64 = 4;
const WATCHES: &str = "/proc/sys/fs/inotify/max_user_watches";
/// Of old kernels, where it cannot be read.
const FEWEST_WATCHES: u64 = 8192;

/// A fresh one of this pid namespace, with what is of the machine hidden.
pub(super) fn private_proc(tree: &mut Tree<'_>, parts: &Parts<'_>, sources: &Sources<'_>) {
    let proc = Path::new("proc");
    match sources.proc {
        Some(slot) => tree.bind(slot, proc, true, WRITABLE | attribute::NO_EXEC),
        None => {
            tree.plan().relies_on(Some(Fence::Proc));
            let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            tree.mount("proc", proc, flags, "");
            // Elsewhere they would be the host's.
            if parts.has(Fence::User) {
                few_watches(tree);
            }
        }
    }
    for name in HIDDEN_FILES {
        tree.mask(&proc.join(name), Path::new("dev/null"));
    }
    for name in HIDDEN_FOLDERS {
        tree.mask(&proc.join(name), Path::new("sys"));
    }
    for name in READ_ONLY_FOLDERS {
        tree.read_only(&proc.join(name));
    }
    let missing = parts.missing.contains(&Fence::Proc);
    debug_assert_eq!(missing, sources.proc.is_some());
    tree.plan().relies_on(Some(Fence::Mount));
}

fn few_watches(tree: &mut Tree<'_>) {
    let all = std::fs::read_to_string(WATCHES).ok().and_then(|text| text.trim().parse().ok());
    let some = (all.unwrap_or(FEWEST_WATCHES) / PART_OF_WATCHES).max(1).to_string();
    tree.setting(Path::new("proc/sys/user/max_inotify_instances"), MOST_WATCHERS);
    tree.setting(Path::new("proc/sys/user/max_inotify_watches"), &some);
}
