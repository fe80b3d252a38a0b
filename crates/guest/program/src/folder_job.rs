//! What the program does instead of being a guest: applying an image's layer to the folder that is
//! its root, or emptying it.
//!
//! It runs confined to that folder, which its caller made the root of everything: links are
//! followed as the kernel does it, and lead nowhere else. Input is hostile all the same: it may not
//! exhaust memory, and what is wrong with it is said by name.

mod layer;
mod place;
mod remove;
mod whiteout;

use std::fs::File;
use std::io::{self, Write as _};

use moat_guest::{FolderJob, FolderJobReport, JOB_INPUT_FD, JOB_REPORT_FD, RawBytes};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::DumpableBehavior;

use crate::sys;

/// Why a job ended early.
enum Failure {
    Refused { member: Vec<u8>, reason: String },
    System { step: &'static str, path: Vec<u8>, errno: i32 },
}

impl Failure {
    fn refused(member: &[u8], reason: impl Into<String>) -> Self {
        Self::Refused { member: member.to_vec(), reason: reason.into() }
    }
}

/// An error of the system while something was done to a path.
fn failed<E: Into<io::Error>>(step: &'static str, path: &[u8]) -> impl FnOnce(E) -> Failure {
    move |error: E| {
        let errno = error.into().raw_os_error().unwrap_or(Errno::IO.raw_os_error());
        Failure::System { step, path: path.to_vec(), errno }
    }
}

/// Does the job and tells of it.
pub(crate) fn run(job: &str) -> Result<(), String> {
    let failed = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
    let job: FolderJob =
        serde_json::from_str(job).map_err(|error| format!("the job makes no sense: {error}"))?;
    let input = sys::adopt(JOB_INPUT_FD).map_err(failed("take over the input"))?;
    let report = sys::adopt(JOB_REPORT_FD).map_err(failed("take over the report"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| format!("cannot hide: {error}"))?;
    rustix::process::umask(Mode::empty());

    let done = match job {
        FolderJob::Unpack { owners, max_entries, max_bytes } => {
            layer::unpack(File::from(input), layer::Rules { owners, max_entries, max_bytes })
        }
        FolderJob::Clear => remove::empty_root().map(|()| FolderJobReport::Done {
            entries: 0,
            bytes: 0,
            devices: 0,
        }),
    };
    let said = match done {
        Ok(report) => report,
        Err(Failure::Refused { member, reason }) => {
            FolderJobReport::Refused { member: RawBytes(member), reason }
        }
        Err(Failure::System { step, path, errno }) => {
            FolderJobReport::Failed { step: step.to_owned(), path: RawBytes(path), errno }
        }
    };
    let text = serde_json::to_vec(&said).map_err(|error| error.to_string())?;
    File::from(report).write_all(&text).map_err(failed("report"))
}
