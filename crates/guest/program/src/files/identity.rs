//! Who commands and their files belong to.

use std::io;

use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::sys;

/// The guest's own user, and the one that commands run as.
pub(crate) struct Identity {
    own: (u32, u32),
    command: (u32, u32),
    groups: Vec<Gid>,
    /// Capabilities that commands keep.
    keep: CapabilitySet,
}

/// Until it is dropped, files are opened and made as the commands' user, so the guest can do
/// nothing to a file that a command could not, with one exception: as the first process of a
/// sandbox it looks past modes, since what a command closed to everyone has to be saved, restored
/// and removed as well. That reaches only files of users that the sandbox's own namespace has.
pub(crate) struct Assumed<'a>(&'a Identity);

impl Identity {
    pub(crate) fn new(uid: u32, gid: u32, groups: &[u32], keep: u64) -> Self {
        Self {
            own: (geteuid().as_raw(), getegid().as_raw()),
            command: (uid, gid),
            groups: groups.iter().copied().map(Gid::from_raw).collect(),
            keep: CapabilitySet::from_bits_retain(keep),
        }
    }

    /// The guest's own user and group.
    pub(crate) fn own(&self) -> (u32, u32) {
        self.own
    }

    pub(crate) fn assume(&self) -> io::Result<Assumed<'_>> {
        let guard = Assumed(self);
        if self.own != self.command {
            sys::set_file_identity(self.command.0, self.command.1)?;
            look_past_modes()?;
        }
        Ok(guard)
    }

    /// In a child: becomes the commands' user, with no way back.
    pub(crate) fn become_for_good(&self) -> io::Result<()> {
        if crate::left_out::stands("capabilities") {
            drop_bounding_set(self.keep);
        }
        let (uid, gid) = (Uid::from_raw(self.command.0), Gid::from_raw(self.command.1));
        let groups = set_thread_groups(&self.groups);
        if self.own == self.command {
            // A user namespace that its user made himself forbids setting groups, and there is
            // nothing to change.
            return Ok(());
        }
        groups?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    }
}

impl Identity {
    /// In a child, after it has become that user: has no capability but those that are kept.
    pub(crate) fn drop_capabilities(&self) -> rustix::io::Result<()> {
        let kept = CapabilitySets {
            effective: self.keep,
            permitted: self.keep,
            inheritable: CapabilitySet::empty(),
        };
        // Clearing what is not there, on a kernel without ambient sets, is refused and not needed.
        let _ = rustix::thread::clear_ambient_capability_set();
        rustix::thread::set_capabilities(None, kept)
    }
}

impl Assumed<'_> {
    /// The commands' user, as whom files are made.
    pub(crate) fn user(&self) -> u32 {
        self.0.command.0
    }

    /// Whether files can be given to other users than the commands' own.
    pub(crate) fn may_give_away(&self) -> bool {
        let may = rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.permitted.contains(giving_away()));
        may && rustix::process::getpid().is_init()
    }

    /// Does something for which files may be given away, and keep their set-id bits. What it does
    /// has to name files by descriptors that it has looked at: a command could put another's file
    /// where a path leads.
    pub(crate) fn giving_away<T>(
        &self,
        work: impl FnOnce() -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        let before = rustix::thread::capabilities(None)?;
        let mut more = before;
        more.effective |= giving_away() & before.permitted;
        rustix::thread::set_capabilities(None, more)?;
        let done = work();
        rustix::thread::set_capabilities(None, before)?;
        done
    }
}

fn giving_away() -> CapabilitySet {
    CapabilitySet::CHOWN | CapabilitySet::FOWNER | CapabilitySet::FSETID
}

impl Drop for Assumed<'_> {
    fn drop(&mut self) {
        let (uid, gid) = self.0.own;
        if self.0.own != self.0.command && sys::set_file_identity(uid, gid).is_err() {
            // Going on as somebody else would be worse than ending.
            sys::exit(70);
        }
    }
}

/// Becoming another user for files takes this from what is effective, though not from what may be.
fn look_past_modes() -> io::Result<()> {
    let first_process = rustix::process::getpid().is_init();
    let mut sets = rustix::thread::capabilities(None)?;
    if first_process && sets.permitted.contains(CapabilitySet::DAC_OVERRIDE) {
        sets.effective |= CapabilitySet::DAC_OVERRIDE;
        rustix::thread::set_capabilities(None, sets)?;
    }
    Ok(())
}

/// Takes capabilities away from every program that is ever executed from here on. Without the
/// capability to do so there is nothing to take: `no_new_privs` keeps it that way.
fn drop_bounding_set(keep: CapabilitySet) {
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if keep.contains(capability) {
            continue;
        }
        if rustix::thread::remove_capability_from_bounding_set(capability).is_err() {
            break;
        }
    }
}
