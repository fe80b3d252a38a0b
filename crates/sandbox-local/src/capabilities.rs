//! What the guest may do in its own user namespace, and why. Commands have none of it.

use crate::identity::Identity;

/// A capability of `linux/capability.h` that the guest keeps.
struct Kept {
    number: u32,
    /// Whether it is needed even where guest and commands are the same user.
    always: bool,
    reason: &'static str,
}

const fn kept(number: u32, always: bool, reason: &'static str) -> Kept {
    Kept { number, always, reason }
}

/// They reach only files, processes and ids that the sandbox's own namespace maps: over the host's
/// files, which belong to nobody in it, they give nothing.
const KEPT: [Kept; 9] = [
    kept(0, false, "CHOWN: files of a checkpoint get their owners back"),
    kept(1, true, "DAC_OVERRIDE: what a command closed to everyone is still saved and restored"),
    kept(3, false, "FOWNER: modes and times of files that commands own are set back"),
    kept(4, false, "FSETID: set-group-id bits of a checkpoint come back"),
    kept(5, false, "KILL: signals reach commands, which are another user"),
    kept(6, false, "SETGID: commands become the agent's group"),
    kept(7, false, "SETUID: commands become the agent"),
    kept(
        19,
        true,
        "SYS_PTRACE: what commands hold open and use is looked at, also where they hide",
    ),
    kept(8, true, "SETPCAP: commands lose all of this from their bounding set as well"),
];

/// A bit for each capability that the guest keeps.
pub(crate) fn kept_by_guest(identity: &Identity) -> u64 {
    mask(&KEPT, identity)
}

/// What unpacking an image's layer takes, beneath the one folder that it sees.
const KEPT_BY_JOB: [Kept; 4] = [
    kept(0, false, "CHOWN: files get the owners that the layer names"),
    kept(1, true, "DAC_OVERRIDE: a layer goes on in folders that it closed"),
    kept(3, true, "FOWNER: modes, times and links of files that belong to others already"),
    kept(4, true, "FSETID: set-group-id bits stay"),
];

/// A bit for each capability that unpacking keeps.
pub(crate) fn kept_by_job(identity: &Identity) -> u64 {
    mask(&KEPT_BY_JOB, identity)
}

fn mask(kept: &[Kept], identity: &Identity) -> u64 {
    let same_user = identity.is_one_user();
    kept.iter()
        .inspect(|kept| debug_assert!(!kept.reason.is_empty()))
        .filter(|kept| kept.always || !same_user)
        .fold(0, |mask, kept| mask | 1 << kept.number)
}

/// What commands keep that run as root of an image: what package managers do to the image's own
/// files and users. Never what reaches beyond them: mounts, devices, networks, other processes'
/// memory.
const KEPT_BY_ROOT: [Kept; 7] = [
    kept(0, true, "CHOWN: packages have files of several owners"),
    kept(1, true, "DAC_OVERRIDE: packages change files whatever their modes"),
    kept(3, true, "FOWNER: modes and times of files of other owners"),
    kept(4, true, "FSETID: set-id bits survive changes; no mount honours them"),
    kept(5, true, "KILL: what was started as another user is ended"),
    kept(6, true, "SETGID: downloads run as a group without rights"),
    kept(7, true, "SETUID: downloads run as a user without rights"),
];

/// A bit for each capability that commands keep which run as root of an image.
pub(crate) fn kept_by_root(identity: &Identity) -> u64 {
    // More than the guest has cannot be given.
    mask(&KEPT_BY_ROOT, identity) & kept_by_guest(identity)
}
