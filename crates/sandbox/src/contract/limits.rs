use moat_core::SandboxLimits;

use crate::SandboxError;

/// Less memory than this is not enough for the guest and one small program.
const LEAST_MEMORY: u64 = 16 << 20;
/// Less than this is no file system.
const LEAST_TMP: u64 = 64 << 10;

/// Refuses limits within which no sandbox of any provider works.
///
/// # Errors
/// [`SandboxError::Setup`] names the limit and the least that it can be.
pub fn check_limits(limits: &SandboxLimits) -> Result<(), SandboxError> {
    let least = [
        ("memory", limits.memory_bytes, LEAST_MEMORY, "bytes"),
        ("`/tmp`", limits.tmp_bytes, LEAST_TMP, "bytes"),
        ("the files of `/tmp`", limits.tmp_inodes, 16, "files"),
        ("processes", limits.pids, 1, "processes"),
        ("the processor's share", limits.cpu_millis, 10, "thousandths of a core"),
        ("open files", limits.open_files, 16, "descriptors"),
    ];
    for (what, value, least, unit) in least {
        if value.is_some_and(|value| value < least) {
            let message = format!("no sandbox works with less than {least} {unit}");
            return Err(SandboxError::Setup { step: format!("limit {what} that much"), message });
        }
    }
    Ok(())
}
