//! What a sandbox may use when nobody says so.

use std::path::Path;

use moat_core::SandboxLimits;

/// Processes and threads.
const PIDS: u64 = 4096;
/// Bytes of files in memory, unless half of the memory is less.
const TMP_BYTES: u64 = 2 << 30;
/// Files in memory.
const TMP_INODES: u64 = 262_144;
/// Bytes that a command may print.
const OUTPUT_BYTES: u64 = 256 << 20;

/// The defaults on this host: ¾ of its memory and no swap, 4096 processes, half of what is free
/// where sandboxes are kept, 2 GiB and 262,144 files in each of `/tmp` and `/dev/shm` (at most half
/// of the memory), 256 MiB of output. No limit on time, on the processor or on single files.
pub(crate) fn defaults(chosen: &SandboxLimits, state: &Path) -> SandboxLimits {
    let total = total_memory();
    let memory = chosen.memory_bytes.or(total.map(|total| total / 4 * 3));
    let (disk_bytes, disk_inodes) = half_of_free(state);
    SandboxLimits {
        memory_bytes: memory,
        swap_bytes: Some(0),
        pids: Some(PIDS),
        disk_bytes,
        disk_inodes,
        tmp_bytes: Some(memory.map_or(TMP_BYTES, |memory| (memory / 2).min(TMP_BYTES))),
        tmp_inodes: Some(TMP_INODES),
        output_bytes: Some(OUTPUT_BYTES),
        ..SandboxLimits::default()
    }
}

/// Bytes of memory of the host.
fn total_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Half of the bytes and files that are free. Some file systems have no number of files.
fn half_of_free(path: &Path) -> (Option<u64>, Option<u64>) {
    let Ok(state) = rustix::fs::statvfs(path) else { return (None, None) };
    let bytes = state.f_bavail.saturating_mul(state.f_frsize) / 2;
    let inodes = (state.f_files > 0).then_some(state.f_favail / 2);
    (Some(bytes), inodes)
}
