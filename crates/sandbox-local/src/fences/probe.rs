//! Tries every fence for real, each in a process that is thrown away.

use std::path::Path;

use super::host::Host;
use super::remedy::remedy;
use super::{Fence, FenceState, FenceStatus};
use crate::identity::Identity;
use crate::landlock;
use crate::launcher::{SealedProgram, StepFailed, launch};
use crate::plan::{Plan, Step};
use crate::seccomp::Filter;

/// What trying takes.
pub(crate) struct Probe<'a> {
    pub(crate) launcher: &'a SealedProgram,
    pub(crate) filter: &'a Filter,
    pub(crate) identity: &'a Identity,
    /// An existing folder over which something can be mounted, in the process's own namespace.
    pub(crate) folder: &'a Path,
}

/// The state of every fence.
pub(crate) fn probe_all(probe: &Probe<'_>) -> Vec<FenceStatus> {
    let host = Host::look();
    Fence::ALL
        .into_iter()
        .map(|fence| match probe.stands(fence) {
            Ok(()) => status(fence, FenceState::Hard, String::new(), String::new()),
            Err(failed) => {
                let state = if fence.is_second() { FenceState::Soft } else { FenceState::Missing };
                let detail = format!("cannot {}: {}", failed.step, failed.message);
                status(fence, state, detail, remedy(fence, &host))
            }
        })
        .collect()
}

fn status(fence: Fence, state: FenceState, detail: String, remedy: String) -> FenceStatus {
    FenceStatus { fence, name: fence.name(), what: fence.what(), state, detail, remedy }
}

impl Probe<'_> {
    fn stands(&self, fence: Fence) -> Result<(), StepFailed> {
        match fence {
            Fence::Pidfd => pidfd(),
            Fence::NoNewPrivileges => self.try_steps(0, |_| {}),
            Fence::Landlock => self.try_steps(0, |plan| {
                landlock::step(true, false, &[], |step| plan.push("set Landlock rules", step));
            }),
            Fence::Seccomp => self.try_steps(0, |plan| {
                let step = Step::Filter(&self.filter.0);
                plan.push("install the filter on system calls", &step);
            }),
            // Being allowed to make one and being allowed anything in it are two things.
            Fence::User => self.in_namespaces(&[], |plan| {
                let step = Step::KeepCapabilities { keep: 0, through_exec: false };
                plan.push("use a capability in it", &step);
            }),
            Fence::Net => self.in_namespaces(&[fence], |plan| {
                plan.push("bring up the loopback device", &Step::Loopback);
            }),
            Fence::Uts => self.in_namespaces(&[fence], |plan| {
                plan.push("set the host name", &Step::HostName("moat"));
            }),
            Fence::Pid | Fence::Ipc | Fence::Cgroup => self.in_namespaces(&[fence], |_| {}),
            Fence::Mount => self.in_namespaces(&[fence], |plan| self.empty_root(plan)),
            Fence::Proc => self.in_namespaces(&[Fence::Mount, Fence::Pid], |plan| {
                self.empty_root(plan);
                let target = Path::new("proc");
                plan.push("make a folder", &Step::MakeDir { path: target, mode: 0o755 });
                let flags = (libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC) as u32;
                plan.push(
                    "mount a fresh /proc",
                    &Step::Mount { source: "proc", target, kind: "proc", flags, options: "" },
                );
            }),
        }
    }

    fn empty_root(&self, plan: &mut Plan) {
        plan.push("set mounts apart", &Step::MakePrivate(Path::new("/")));
        let guest = self.identity.guest();
        let step = Step::Mount {
            source: "moat",
            target: self.folder,
            kind: "tmpfs",
            flags: libc::MS_NOSUID as u32,
            options: &format!("mode=755,uid={guest},gid={guest}"),
        };
        plan.push("mount an empty root", &step);
        plan.push("enter it", &Step::ChangeDir(self.folder));
        plan.push("become a user of the namespace", &self.identity.become_guest());
    }

    /// In a user namespace and these.
    fn in_namespaces(
        &self,
        fences: &[Fence],
        steps: impl FnOnce(&mut Plan),
    ) -> Result<(), StepFailed> {
        let flags = fences.iter().fold(Fence::User.namespace(), |all, one| all | one.namespace());
        self.run(flags, steps)
    }

    fn try_steps(&self, flags: u64, steps: impl FnOnce(&mut Plan)) -> Result<(), StepFailed> {
        self.run(flags, |plan| {
            plan.push("forbid new privileges", &Step::NoNewPrivileges);
            steps(plan);
        })
    }

    fn run(&self, flags: u64, steps: impl FnOnce(&mut Plan)) -> Result<(), StepFailed> {
        let namespaces = if flags == 0 {
            crate::plan::Namespaces::default()
        } else {
            self.identity.namespaces(flags)
        };
        let mut plan = Plan::new(&namespaces);
        steps(&mut plan);
        plan.push("end", &Step::Exit);
        launch(self.launcher, &plan, &[]).map(drop)
    }
}

fn pidfd() -> Result<(), StepFailed> {
    let failed = |error| StepFailed::new("open a process descriptor", error);
    let me = rustix::process::getpid();
    rustix::process::pidfd_open(me, rustix::process::PidfdFlags::empty()).map_err(failed).map(drop)
}
