//! The programs that may write the maps of a user namespace: `newuidmap` and `newgidmap`. They have
//! rights that the caller has not, and are run with nothing of his: no environment, no input.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Line, Maps, NoIds};

/// What writing the maps is called when it fails.
pub(crate) const MAP_IDS: &str = "have `newuidmap` and `newgidmap` map the caller's ranges of ids";

/// Where distributions have them.
const PLACES: [&str; 4] = ["/usr/bin", "/bin", "/run/wrappers/bin", "/usr/sbin"];

/// What both may take together.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of what one says that are looked at.
const MAX_SAID: u64 = 1024;

/// Why the maps were not written.
#[derive(Clone, Debug)]
pub(crate) enum MapFailed {
    /// They are not written for this caller.
    Refused(NoIds),
    /// Something else, which may not be so the next time.
    System(String),
}

/// Both programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Programs {
    uids: PathBuf,
    gids: PathBuf,
}

impl Programs {
    pub(super) fn find() -> Result<Self, NoIds> {
        Ok(Self { uids: find("newuidmap", &PLACES)?, gids: find("newgidmap", &PLACES)? })
    }

    /// None that could be run.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { uids: PathBuf::new(), gids: PathBuf::new() }
    }

    /// Writes the maps of the namespace that the process `pid` is in, who waits for that.
    pub(crate) fn map(&self, pid: i32, maps: &Maps) -> Result<(), MapFailed> {
        let end = Instant::now() + PATIENCE;
        // At the same time: each takes as long as the other.
        let uids = Running::start("newuidmap", &self.uids, pid, &maps.uids)?;
        let gids = Running::start("newgidmap", &self.gids, pid, &maps.gids)?;
        uids.finish(end)?;
        gids.finish(end)
    }
}

/// The first that is there has to be one that can do it.
fn find(name: &'static str, places: &[&str]) -> Result<PathBuf, NoIds> {
    let problem = |problem: String| NoIds::NoProgram { name, problem };
    let paths = places.iter().map(|place| Path::new(place).join(name));
    let Some((path, about)) = paths.into_iter().find_map(|path| {
        let about = std::fs::metadata(&path).ok()?;
        Some((path, about))
    }) else {
        return Err(problem("is not installed".to_owned()));
    };
    let mode = about.permissions().mode();
    if !about.is_file() || about.uid() != 0 || mode & 0o022 != 0 {
        return Err(problem(format!("at `{}` is not root's alone", path.display())));
    }
    // Some distributions give it capabilities instead.
    if mode & 0o4000 == 0 && !has_capabilities(&path) {
        return Err(problem(format!("at `{}` is not set-user-id", path.display())));
    }
    Ok(path)
}

fn has_capabilities(path: &Path) -> bool {
    let mut nothing: [u8; 0] = [];
    rustix::fs::getxattr(path, c"security.capability", &mut nothing).is_ok_and(|size| size > 0)
}

/// One of them at work; ended when this is dropped.
struct Running {
    name: &'static str,
    child: Child,
}

impl Running {
    fn start(
        name: &'static str,
        program: &Path,
        pid: i32,
        lines: &[Line],
    ) -> Result<Self, MapFailed> {
        let numbers = lines.iter().flat_map(|line| [line.inside, line.outside, line.count]);
        let child = Command::new(program)
            .arg(OsStr::new(&pid.to_string()))
            .args(numbers.map(|number| number.to_string()))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let child = child.map_err(|error| MapFailed::System(format!("{name}: {error}")))?;
        Ok(Self { name, child })
    }

    fn finish(mut self, end: Instant) -> Result<(), MapFailed> {
        let name = self.name;
        match self.wait(end) {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => {
                let said = self.said().unwrap_or_else(|| status.to_string());
                Err(MapFailed::Refused(NoIds::Refused { name, said }))
            }
            Ok(None) => Err(MapFailed::System(format!("{name} takes too long"))),
            Err(error) => Err(MapFailed::System(format!("{name}: {error}"))),
        }
    }

    fn wait(&mut self, end: Instant) -> std::io::Result<Option<ExitStatus>> {
        let pid = Pid::from_child(&self.child);
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let Some(descriptor) = &descriptor else {
                // Kernels before 5.3.
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            // Whatever it answers, the child is asked again.
            let _ = poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&timeout));
        }
    }

    /// The first line that it said, for people to read.
    fn said(&mut self) -> Option<String> {
        let mut said = Vec::new();
        self.child.stderr.take()?.take(MAX_SAID).read_to_end(&mut said).ok()?;
        let said = String::from_utf8_lossy(&said);
        let line: String = said.lines().next()?.chars().take(200).collect();
        Some(line.escape_debug().to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // That it has ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
