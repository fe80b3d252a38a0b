//! Work in one folder of hostile content, by a program that sees nothing but that folder.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use moat_guest::{FOLDER_JOB, FolderJob, FolderJobReport, JOB_REPORT_FD, MAX_JOB_REPORT};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown,
    socketpair,
};

use crate::fences::Fence;
use crate::identity::Identity;
use crate::launcher::{StepFailed, launch};
use crate::plan::{Plan, Slot, Step, attribute};
use crate::prepared::Prepared;
use crate::process::ProcessId;
use crate::{capabilities, landlock};

/// How long a job may neither take input nor say anything; removing a large tree is one such time.
const PATIENCE: Duration = Duration::from_secs(600);

/// Bytes that are handed over at once.
const CHUNK: usize = 256 << 10;

/// Bytes of memory that a job may have: what it remembers of names, and its buffers.
const MEMORY: u64 = 1 << 30;

/// Whose files they are, and which fences are missing.
pub(crate) struct Confinement<'a> {
    pub(crate) prepared: &'a Prepared,
    pub(crate) identity: &'a Identity,
    pub(crate) missing: &'a BTreeSet<Fence>,
}

/// A job that was started; ended when this is dropped.
pub(crate) struct Running {
    socket: OwnedFd,
    process: Option<ProcessId>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(process) = self.process.as_ref().and_then(ProcessId::find) {
            process.kill();
        }
    }
}

/// Starts a job in a folder.
pub(crate) fn start(
    confinement: &Confinement<'_>,
    folder: &Path,
    job: FolderJob,
) -> Result<Running, StepFailed> {
    let failed = |error: Errno| StepFailed::new("start a job", error);
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(failed)?;
    for side in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&ours, side, Some(PATIENCE)).map_err(failed)?;
    }
    let job = serde_json::to_string(&job).map_err(|error| StepFailed::new("name a job", error))?;
    let plan = plan(confinement, folder, &job);
    let prepared = confinement.prepared;
    let descriptors = [theirs.as_fd(), theirs.as_fd(), prepared.guest.as_fd()];
    let pid = launch(&prepared.launcher, &plan, &descriptors)?;
    // One that has ended before it was looked for has said what it had to say.
    Ok(Running { socket: ours, process: ProcessId::of(pid).ok() })
}

impl Running {
    /// Hands the input over and hears what came of it. An error of the input is given as it is.
    pub(crate) fn finish(
        self,
        input: &mut dyn Read,
    ) -> std::io::Result<Result<FolderJobReport, StepFailed>> {
        let mut chunk = vec![0; CHUNK];
        let mut wants_more = true;
        while wants_more {
            let count = match input.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            wants_more = match self.hand_over(chunk.get(..count).unwrap_or_default()) {
                Ok(()) => true,
                // It has ended, and said why.
                Err(Errno::PIPE | Errno::CONNRESET) => false,
                Err(error) => return Ok(Err(StepFailed::new("hand a job its input", error))),
            };
        }
        // That it has ended already is as good.
        let _ = shutdown(&self.socket, Shutdown::Write);
        Ok(self.hear())
    }

    fn hand_over(&self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn hear(&self) -> Result<FolderJobReport, StepFailed> {
        let mut said = Vec::new();
        let mut part = vec![0; 4096];
        loop {
            match recv(&self.socket, part.as_mut_slice(), RecvFlags::empty()) {
                Ok((0, _)) | Err(Errno::CONNRESET) => break,
                Ok((count, _)) => said.extend_from_slice(part.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(StepFailed::new("hear of a job", "it is stuck")),
                Err(error) => return Err(StepFailed::new("hear of a job", error)),
            }
            if said.len() > MAX_JOB_REPORT {
                return Err(StepFailed::new("hear of a job", "it says too much"));
            }
        }
        serde_json::from_slice(&said)
            .map_err(|_| StepFailed::new("hear of a job", "it ended without a word"))
    }
}

/// The folder becomes the root of a process that may do nothing but change it.
fn plan(confinement: &Confinement<'_>, folder: &Path, job: &str) -> Plan {
    let Confinement { identity, missing, .. } = confinement;
    let has = |fence: Fence| !missing.contains(&fence);
    let namespaces = Fence::ALL.into_iter().filter(|fence| has(*fence)).map(Fence::namespace);
    let mut plan = Plan::new(&identity.namespaces(namespaces.fold(0, |all, one| all | one)));
    plan.relies_on(Some(Fence::Mount));
    plan.push("set mounts apart from the host's", &Step::MakePrivate(Path::new("/")));
    let (root, null) = (plan.slot(), plan.slot());
    for (slot, flags, path) in
        [(root, libc::O_PATH, folder), (null, libc::O_RDWR, Path::new("/dev/null"))]
    {
        let name = format!("open `{}`", path.display());
        let step = Step::Open { slot, flags: flags as u32, optional: false, path };
        plan.push(name, &step);
    }
    let attributes = attribute::NO_SUID | attribute::NO_DEVICES | attribute::NO_EXEC;
    plan.push("mount the folder", &Step::Bind { slot: root, attributes, target: folder });
    plan.push("enter the folder", &Step::ChangeDir(folder));
    plan.relies_on(Some(Fence::User));
    let guest = identity.guest();
    plan.push("become the owner of the folder", &identity.become_guest());
    plan.push("leave the caller's session", &Step::NewSession);
    plan.relies_on(Some(Fence::Mount));
    plan.push("move into the folder", &Step::PivotRoot);
    plan.relies_on(None);
    plan.push("leave the caller's keyring", &Step::LeaveKeyring);
    for (resource, most) in [(libc::RLIMIT_CORE, 0), (libc::RLIMIT_AS, MEMORY)] {
        plan.push("limit the job", &Step::Limit { resource, soft: most, hard: most });
    }
    let streams = [(null, 0), (null, 1), (null, 2), (Slot::LISTENER, 3), (Slot::CONFIG, 4)];
    for (slot, number) in streams {
        plan.push("pass a descriptor on", &Step::PassDescriptor { slot, number });
    }
    give_up(&mut plan, confinement, guest);
    let arguments = ["moat-guest", FOLDER_JOB, job];
    let keep = JOB_REPORT_FD as u32 + 1;
    let step = Step::Execute { slot: Slot::PROGRAM, keep, arguments: &arguments, variables: &[] };
    plan.push("start the job", &step);
    plan
}

fn give_up(plan: &mut Plan, confinement: &Confinement<'_>, guest: u32) {
    let Confinement { prepared, identity, missing } = confinement;
    plan.relies_on(Some(Fence::User));
    let keep = capabilities::kept_by_job(identity);
    let step = Step::KeepCapabilities { keep, through_exec: guest != 0 };
    plan.push("give up capabilities", &step);
    plan.relies_on(Some(Fence::NoNewPrivileges));
    plan.push("forbid new privileges", &Step::NoNewPrivileges);
    if !missing.contains(&Fence::Landlock) {
        plan.relies_on(Some(Fence::Landlock));
        landlock::whole_root(|step| plan.push("set Landlock rules", step));
    }
    if !missing.contains(&Fence::Seccomp) {
        plan.relies_on(Some(Fence::Seccomp));
        plan.push("install the filter on system calls", &Step::Filter(&prepared.filter.0));
    }
    plan.relies_on(None);
}
