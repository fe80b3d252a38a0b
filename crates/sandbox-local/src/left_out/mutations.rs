//! How each is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::LeftOut;
use crate::fences::Fence;
use crate::plan::{Namespaces, Plan, Slot, Step, attribute};
use crate::system::{self, Shown};

#[cfg(not(debug_assertions))]
compile_error!("the feature `mutations` is for tests: it makes sandboxes that hold nothing");

pub(crate) mod names {
    /// What of the machine `/proc` shows is hidden, and its switches are read-only.
    pub(crate) const MASKS: &str = "masks";
    /// The system is read-only.
    pub(crate) const READ_ONLY: &str = "read-only";
    /// Set-user-id bits and devices do not count.
    pub(crate) const MOUNT_FLAGS: &str = "mount-flags";
    /// Commands are another user than the guest.
    pub(crate) const ACCOUNTS: &str = "accounts";
    /// What may be done in the user namespace is given up.
    pub(crate) const CAPABILITIES: &str = "capabilities";
    /// The environment is made from a list.
    pub(crate) const ENVIRONMENT: &str = "environment";
    /// Descriptors are closed.
    pub(crate) const DESCRIPTORS: &str = "descriptors";
    /// Commands have a session of their own.
    pub(crate) const SESSION: &str = "session";
    /// Commands have a session's keyring of their own.
    pub(crate) const KEYRING: &str = "keyring";
}
use super::defence::LIMITS;
use names::*;

/// A variable that tells the guest of a test build what to leave out.
const VARIABLE: &str = "MOAT_TEST_LEFT_OUT";
/// Where a command finds the host's root if descriptors are not closed.
const LEAK: i32 = 20;
/// All capabilities that there are since Linux 5.9.
const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

impl LeftOut {
    /// Leaves these out; a name that is neither a fence's nor another defence's does nothing.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
        // Nothing but the process itself may confine a process that is to gain privileges.
        if names.contains(Fence::NoNewPrivileges.name()) {
            names.extend([Fence::Seccomp, Fence::Landlock].map(|fence| fence.name().to_owned()));
        }
        // The kernel makes a /proc only of the pid namespace that it is made in.
        if names.contains(Fence::Pid.name()) {
            names.insert(Fence::Proc.name().to_owned());
        }
        Self { names }
    }

    pub(crate) fn stands(&self, defence: &str) -> bool {
        !self.names.contains(defence)
    }

    fn lacks(&self, defence: &str) -> bool {
        self.names.contains(defence)
    }

    /// The fences among them, and those that the host lacks.
    pub(crate) fn fences(&self, missing: &BTreeSet<Fence>) -> BTreeSet<Fence> {
        let left_out = Fence::ALL.into_iter().filter(|fence| self.lacks(fence.name()));
        left_out.chain(missing.iter().copied()).collect()
    }

    /// Whoever is not in a user namespace of his own is himself.
    pub(crate) fn identify(&self, namespaces: &mut Namespaces) {
        if self.lacks(Fence::User.name()) {
            namespaces.uid_map.clear();
            namespaces.gid_map.clear();
            namespaces.deny_setgroups = false;
            namespaces.mapped_outside = None;
        }
    }

    /// All that the host's root holds, but for what each sandbox has its own of.
    pub(crate) fn system(&self) -> Option<Vec<Shown>> {
        const OWN: [&str; 6] = ["proc", "dev", "home", "workspace", "moat", "lost+found"];
        self.lacks(super::defence::FILES).then(|| {
            let entries = fs::read_dir("/").into_iter().flatten().flatten();
            let shown = entries.filter(|entry| !OWN.iter().any(|own| entry.file_name() == **own));
            shown.filter_map(|entry| system::shown(&entry.path())).collect()
        })
    }

    pub(crate) fn environment(&self, environment: &mut BTreeMap<String, String>) {
        if self.lacks(ENVIRONMENT) {
            environment.extend(std::env::vars());
        }
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        if names.is_empty() {
            return;
        }
        environment.insert(VARIABLE.to_owned(), names.join(","));
    }

    /// The id that commands have instead of their own.
    pub(crate) fn user(&self, own: u32, guest: u32) -> u32 {
        if self.lacks(ACCOUNTS) { guest } else { own }
    }

    /// Opens the host's root while it is there.
    pub(crate) fn open_leak(&self, plan: &mut Plan) {
        if self.lacks(DESCRIPTORS) {
            let slot = Slot::LEAK;
            let flags = libc::O_PATH as u32;
            let step = Step::Open { slot, flags, optional: false, path: Path::new("/") };
            plan.push("open the host's root", &step);
        }
    }

    /// Passes it on; the first number of those that are closed.
    pub(crate) fn pass_leak(&self, plan: &mut Plan, keep: u32) -> u32 {
        if self.stands(DESCRIPTORS) {
            return keep;
        }
        let step = Step::PassDescriptor { slot: Slot::LEAK, number: LEAK };
        plan.push("leave the host's root open", &step);
        keep.max(LEAK as u32 + 1)
    }

    /// What is done instead of a step.
    pub(crate) fn change<'a>(&self, step: Step<'a>) -> Option<Step<'a>> {
        let dropped = match &step {
            Step::Mask { .. } | Step::ReadOnly { bind: true, .. } => self.lacks(MASKS),
            Step::ReadOnly { bind: false, .. } => self.lacks(READ_ONLY),
            Step::NewSession => self.lacks(SESSION),
            Step::LeaveKeyring => self.lacks(KEYRING),
            Step::Limit { .. } | Step::Setting { .. } => self.lacks(LIMITS),
            Step::NoNewPrivileges => self.lacks(Fence::NoNewPrivileges.name()),
            Step::KeepCapabilities { through_exec: false, .. } => self.lacks(CAPABILITIES),
            _ => false,
        };
        if dropped {
            return None;
        }
        Some(match step {
            Step::Bind { slot, attributes, target } => {
                Step::Bind { slot, attributes: self.attributes(attributes), target }
            }
            Step::Mount { source, target, kind, flags, options } => {
                let gone = (libc::MS_NOSUID | libc::MS_NODEV) as u32;
                let gone = if self.lacks(MOUNT_FLAGS) { gone } else { 0 };
                Step::Mount { source, target, kind, flags: flags & !gone, options }
            }
            Step::KeepCapabilities { through_exec, .. } if self.lacks(CAPABILITIES) => {
                Step::KeepCapabilities { keep: ALL_CAPABILITIES, through_exec }
            }
            step => step,
        })
    }

    fn attributes(&self, mut attributes: u32) -> u32 {
        if self.lacks(READ_ONLY) {
            attributes &= !attribute::READ_ONLY;
        }
        if self.lacks(MOUNT_FLAGS) {
            attributes &= !(attribute::NO_SUID | attribute::NO_DEVICES);
        }
        attributes
    }
}
