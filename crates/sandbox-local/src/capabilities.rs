//! What the guest may do in its own user namespace, and why. Commands have none of it.

use crate::identity::Identity;

/// Numbers of `linux/capability.h`, each with the reason why the guest keeps it. They reach only
/// files, processes and ids that the sandbox's own range maps: over the host's files, which belong
/// to nobody in it, they give nothing.
const KEPT: [(u32, &str); 8] = [
    (0, "CHOWN: files of a checkpoint get their owners back"),
    (1, "DAC_OVERRIDE: a folder that a command closed to everyone is still scanned and restored"),
    (3, "FOWNER: modes and times of files that commands own are set back"),
    (4, "FSETID: set-group-id bits of a checkpoint come back"),
    (5, "KILL: signals reach commands, which are another user"),
    (6, "SETGID: commands become the agent's group"),
    (7, "SETUID: commands become the agent"),
    (8, "SETPCAP: commands lose the rest of this list from their bounding set as well"),
];

/// A bit for each capability that the guest keeps. Where it is the same user as the commands it
/// needs none.
pub(crate) fn kept_by_guest(identity: &Identity) -> u64 {
    match identity {
        Identity::Private { .. } => {
            KEPT.iter().fold(0, |mask, (number, _reason)| mask | 1 << number)
        }
        Identity::Caller { .. } => 0,
    }
}
