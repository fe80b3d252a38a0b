//! Starts the launcher with a plan and hears how far it came.

use std::fs::File;
use std::io::{IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recv, send as send_word, sendmsg, socketpair,
};

use crate::fences::Fence;
use crate::plan::Plan;
use crate::subordinate::{MAP_IDS, MapFailed, Maps, NoIds};

/// The launcher program for this host.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/moat-launcher"));

/// What making a sandbox may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program in memory that can be executed and can no longer be changed, by anyone.
#[derive(Debug)]
pub(crate) struct SealedProgram(OwnedFd);

impl SealedProgram {
    pub(crate) fn new(name: &str, bytes: &[u8]) -> std::io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 do not know the flag, and need none.
        let fd =
            memfd_create(name, flags | MemfdFlags::EXEC).or_else(|_| memfd_create(name, flags))?;
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        let fd = OwnedFd::from(file);
        fcntl_add_seals(
            &fd,
            SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
        )?;
        Ok(Self(fd))
    }

    pub(crate) fn launcher() -> std::io::Result<Self> {
        Self::new("moat-launcher", PROGRAM)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A step of a plan that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {step}: {message}")]
pub(crate) struct StepFailed {
    /// Completes the sentence "cannot …".
    pub(crate) step: String,
    /// What the system said.
    pub(crate) message: String,
    /// The same as a number, where a plan's step failed.
    pub(crate) errno: Option<i32>,
    /// The fence for want of which it failed, if it is known.
    pub(crate) fence: Option<Fence>,
    /// What is asked for cannot be had here, which the message says.
    pub(crate) unsupported: bool,
    /// The ids that the host lends cannot be used after all.
    pub(crate) no_ids: Option<Box<NoIds>>,
}

impl StepFailed {
    pub(crate) fn new(step: impl Into<String>, error: impl ToString) -> Self {
        Self {
            step: step.into(),
            message: error.to_string(),
            errno: None,
            fence: None,
            unsupported: false,
            no_ids: None,
        }
    }

    /// `what` completes the sentence "the sandbox cannot …".
    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self { unsupported: true, ..Self::new("make the sandbox", what.into()) }
    }
}

/// Executes a plan. Comes back when the last step has become another program, or has ended, or a
/// step has failed; blocks for that long. The first three `descriptors` are the plan's first slots,
/// those behind them the files of control groups in which all of it happens. Answers the number of
/// the first process.
pub(crate) fn launch(
    launcher: &SealedProgram,
    plan: &Plan,
    descriptors: &[BorrowedFd<'_>],
) -> Result<i32, StepFailed> {
    let start = |error: Errno| StepFailed::new("start the launcher", error);
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(start)?;
    set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE)).map_err(start)?;
    let mut child = spawn(launcher, theirs)?;
    let heard = send(&ours, plan, descriptors).and_then(|()| listen(&ours, plan));
    // It ends by itself once it was told everything, and nothing else ends it sooner.
    if heard.is_err() {
        drop(ours);
    }
    child.wait().map_err(|error| StepFailed::new("wait for the launcher", error))?;
    heard
}

fn spawn(launcher: &SealedProgram, control: OwnedFd) -> Result<Child, StepFailed> {
    Command::new(format!("/proc/self/fd/{}", launcher.as_fd().as_raw_fd()))
        .env_clear()
        .stdin(Stdio::from(control))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| StepFailed::new("start the launcher", error))
}

fn send(control: &OwnedFd, plan: &Plan, descriptors: &[BorrowedFd<'_>]) -> Result<(), StepFailed> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = SendAncillaryBuffer::new(&mut room);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let parts = [IoSlice::new(plan.as_bytes())];
    sendmsg(control, &parts, &mut ancillary, SendFlags::NOSIGNAL)
        .map(drop)
        .map_err(|error| StepFailed::new("hand the plan to the launcher", error))
}

/// Reads reports until both the launcher and the first process have let go of the socket.
fn listen(control: &OwnedFd, plan: &Plan) -> Result<i32, StepFailed> {
    let mut process = None;
    loop {
        let mut report = [0_u8; 12];
        let length = match recv(control, &mut report, RecvFlags::empty()) {
            Ok((length, _)) => length,
            // The launcher let go of the socket with data unread, which only a crash does.
            Err(Errno::CONNRESET) => 0,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                end(process);
                return Err(StepFailed::new("make the sandbox", "it takes too long"));
            }
            Err(error) => return Err(StepFailed::new("hear the launcher", error)),
        };
        let [kind, first, second] = words(&report);
        match (length, kind) {
            (0, _) => break,
            (12, 1) => {
                process = i32::try_from(first).ok();
                if let Some((pid, maps)) = process.zip(plan.mapped_outside())
                    && let Err(failed) = map(control, pid, maps)
                {
                    end(process);
                    return Err(ended_early(control, plan).unwrap_or(failed));
                }
            }
            (12, 2) => {
                end(process);
                return Err(step_failed(plan, first, second));
            }
            _ => return Err(StepFailed::new("hear the launcher", "it does not make sense")),
        }
    }
    process.ok_or_else(|| StepFailed::new("run the launcher", "it ended at once"))
}

/// Has the maps of the first process's namespace written, and tells the launcher.
fn map(control: &OwnedFd, pid: i32, maps: &Maps) -> Result<(), StepFailed> {
    maps.programs.map(pid, maps).map_err(|failed| match failed {
        MapFailed::Refused(why) => {
            StepFailed { no_ids: Some(Box::new(why.clone())), ..StepFailed::new(MAP_IDS, why) }
        }
        MapFailed::System(said) => StepFailed::new(MAP_IDS, said),
    })?;
    let told = send_word(control, &[1], SendFlags::NOSIGNAL);
    told.map(drop).map_err(|error| StepFailed::new("have the launcher go on", error))
}

/// Why the first process ended before it could be mapped, if that was so: it has said so before.
fn ended_early(control: &OwnedFd, plan: &Plan) -> Option<StepFailed> {
    let mut report = [0_u8; 12];
    let (length, _) = recv(control, &mut report, RecvFlags::DONTWAIT).ok()?;
    let [kind, step, error] = words(&report);
    ((length, kind) == (12, 2)).then(|| step_failed(plan, step, error))
}

/// A step, by what it is called, and what the system said to it.
fn step_failed(plan: &Plan, step: u32, error: u32) -> StepFailed {
    let (step, fence) = plan.name(step);
    let message = std::io::Error::from_raw_os_error(error as i32).to_string();
    StepFailed { fence, errno: Some(error as i32), ..StepFailed::new(step, message) }
}

/// Ends a first process whose making failed; it has not run any program yet.
fn end(process: Option<i32>) {
    if let Some(pid) = process.and_then(rustix::process::Pid::from_raw) {
        // That it is gone already is as good.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

fn words(report: &[u8; 12]) -> [u32; 3] {
    let mut words = [0; 3];
    for (word, bytes) in words.iter_mut().zip(report.chunks_exact(4)) {
        if let Ok(bytes) = bytes.try_into() {
            *word = u32::from_le_bytes(bytes);
        }
    }
    words
}
