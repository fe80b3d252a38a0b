//! What a sandbox may use, and who holds it to that: the engine's control groups, the guest, and
//! file systems in memory.

use moat_core::SandboxLimits;
use moat_guest::GuestLimits;
use moat_sandbox::{SandboxError, check_limits};

use crate::engine::EngineFacts;
use crate::error::unsupported;

/// Processes and threads.
const PIDS: u64 = 4096;
/// Bytes of files in memory, unless half of the memory is less.
const TMP_BYTES: u64 = 2 << 30;
/// Files in memory.
const TMP_INODES: u64 = 262_144;
/// Bytes that a command may print.
const OUTPUT_BYTES: u64 = 256 << 20;

/// Memory that gVisor's kernel of one container takes beside that of commands. It counts as the
/// container's, and ends with it.
const GVISOR_MEMORY: u64 = 256 << 20;

/// Limits as they are for one sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// What the sandbox may use, none of it left to chance.
    pub(crate) limits: SandboxLimits,
    /// What the engine is told.
    pub(crate) container: SandboxLimits,
    /// The engine's kernel counts commands one by one, so that it ends the one that is too large.
    memory_is_hard: bool,
    /// The engine refuses processes past the limit.
    pids_are_hard: bool,
}

/// Limits that make sense together.
///
/// # Errors
/// One that is too small for any sandbox, or that this engine cannot hold anybody to.
pub(crate) fn resolve(
    wanted: SandboxLimits,
    options: SandboxLimits,
    facts: &EngineFacts,
    gvisor: bool,
) -> Result<Held, SandboxError> {
    let chosen = wanted.or(options);
    let limits = chosen.or(defaults(&chosen, facts));
    check_limits(&limits)?;
    let at = &facts.endpoint;
    if chosen.cpu_millis.is_some() && !facts.limits_cpu {
        return Err(unsupported(format!(
            "hold a share of the processor: the engine at {at} does not"
        )));
    }
    if chosen.swap_bytes.is_some() && !facts.limits_swap {
        return Err(unsupported(format!("limit swap: the engine at {at} does not")));
    }
    if gvisor && wanted.cpu_time_ms.is_some() {
        return Err(unsupported("hold commands to processor time: gVisor does not tell it apart"));
    }
    if gvisor && wanted.memory_bytes.is_some() {
        return Err(unsupported(
            "hold commands to memory: gVisor ends whatever it likes when its container has no more. \
             Leave the limit out (a container is still held to what the provider's options say), or \
             use another runtime",
        ));
    }
    let mut container = limits;
    if !facts.limits_memory {
        container.memory_bytes = None;
    } else if gvisor {
        container.memory_bytes =
            limits.memory_bytes.map(|bytes| bytes.saturating_add(GVISOR_MEMORY));
    }
    if !facts.limits_pids || gvisor {
        container.pids = None;
    }
    Ok(Held {
        limits,
        container,
        memory_is_hard: facts.limits_memory && !gvisor,
        pids_are_hard: facts.limits_pids && !gvisor,
    })
}

fn defaults(chosen: &SandboxLimits, facts: &EngineFacts) -> SandboxLimits {
    let memory = chosen.memory_bytes.or(facts.memory_bytes.map(|total| total / 4 * 3));
    SandboxLimits {
        memory_bytes: memory,
        swap_bytes: Some(0),
        pids: Some(PIDS),
        tmp_bytes: Some(memory.map_or(TMP_BYTES, |memory| (memory / 2).min(TMP_BYTES))),
        tmp_inodes: Some(TMP_INODES),
        output_bytes: Some(OUTPUT_BYTES),
        ..SandboxLimits::default()
    }
}

impl Held {
    /// What the guest is to hold commands to, beside what the engine does.
    pub(crate) fn for_guest(&self) -> GuestLimits {
        let limits = &self.limits;
        GuestLimits {
            memory_bytes: limits.memory_bytes,
            memory_is_hard: self.memory_is_hard,
            // The guest opens the kernel's counters itself.
            memory_events_fd: None,
            memory_peak_fd: None,
            pids: limits.pids,
            // The commands' user is nobody else's in a user namespace of gVisor's only.
            pids_rlimit: limits.pids.filter(|_| !self.pids_are_hard),
            pids_events_fd: None,
            cpu_time_ms: limits.cpu_time_ms,
            wall_ms: limits.wall_ms,
            output_bytes: limits.output_bytes,
            open_files: limits.open_files,
            file_bytes: limits.file_bytes,
            disk_bytes: limits.disk_bytes,
            disk_inodes: limits.disk_inodes,
            tmp_bytes: limits.tmp_bytes,
            tmp_inodes: limits.tmp_inodes,
        }
    }
}

#[cfg(test)]
mod tests {
    use moat_sandbox::GuestError;

    use super::*;

    fn facts() -> EngineFacts {
        EngineFacts {
            memory_bytes: Some(8 << 30),
            limits_memory: true,
            limits_pids: true,
            ..EngineFacts::default()
        }
    }

    #[test]
    fn what_an_engine_cannot_hold_is_refused_and_not_left_out() {
        let none = SandboxLimits::default();
        for wanted in [
            SandboxLimits { cpu_millis: Some(500), ..none },
            SandboxLimits { swap_bytes: Some(0), ..none },
        ] {
            let refused = resolve(wanted, none, &facts(), false).unwrap_err();
            assert!(
                matches!(refused, SandboxError::Guest(GuestError::Unsupported(_))),
                "{refused}"
            );
        }
        let little = SandboxLimits { memory_bytes: Some(1 << 20), ..none };
        assert!(matches!(resolve(little, none, &facts(), false), Err(SandboxError::Setup { .. })));
    }

    #[test]
    fn gvisors_own_memory_is_not_the_commands() {
        let wanted = SandboxLimits { memory_bytes: Some(64 << 20), ..SandboxLimits::default() };
        let held = resolve(SandboxLimits::default(), wanted, &facts(), true).unwrap();
        assert_eq!(held.limits.memory_bytes, Some(64 << 20));
        assert!(held.container.memory_bytes > Some(64 << 20));
        assert!(!held.for_guest().memory_is_hard);
        let held = resolve(wanted, SandboxLimits::default(), &facts(), false).unwrap();
        assert_eq!(held.container.memory_bytes, Some(64 << 20));
        assert!(held.for_guest().memory_is_hard);
    }
}
