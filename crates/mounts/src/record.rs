//! What a run has mounted, written down so that whoever comes later can take it away.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

const RECORD: &str = "mounts.json";
const LOCK: &str = "lock";
const ORPHANED: &str = "orphaned";

/// One mount of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mounted {
    /// The folder of the host.
    pub(crate) folder: PathBuf,
    /// The process that serves it; `None`: an ordinary folder.
    pub(crate) process: Option<Serving>,
}

/// A process that serves a mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Serving {
    pid: u32,
    /// When it began, in the kernel's ticks: numbers of processes come back.
    began: u64,
}

impl Serving {
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, began: began(pid)? })
    }

    fn end(&self) {
        if began(self.pid) != Some(self.began) {
            return;
        }
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    pub(crate) fn lives(&self) -> bool {
        began(self.pid) == Some(self.began)
    }
}

fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, blanks and brackets among it.
    let rest = stat.rsplit_once(')')?.1;
    let state = rest.split_whitespace().next()?;
    if state == "Z" { None } else { rest.split_whitespace().nth(19)?.parse().ok() }
}

/// The folder of one run, held by whoever drives it.
#[derive(Debug)]
pub(crate) struct RunFolder {
    pub(crate) path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Makes the folder, or takes it up again. `None`: somebody else holds it.
    pub(crate) fn hold(path: &Path) -> io::Result<Option<Self>> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(path.join(LOCK))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        Ok(Some(Self { path: path.to_owned(), _lock: lock }))
    }

    /// Somebody looks after it again.
    pub(crate) fn adopt(&self) {
        let _ = fs::remove_file(self.path.join(ORPHANED));
    }

    pub(crate) fn write(&self, mounted: &[Mounted]) -> io::Result<()> {
        let beside = self.path.join("mounts.json.new");
        fs::write(&beside, serde_json::to_vec(mounted)?)?;
        fs::rename(beside, self.path.join(RECORD))
    }

    pub(crate) fn read(&self) -> Vec<Mounted> {
        let text = fs::read(self.path.join(RECORD)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// How long nobody has looked after it. Begins to count with the first question.
    pub(crate) fn orphaned_for(&self) -> io::Result<Duration> {
        let mark = self.path.join(ORPHANED);
        match fs::metadata(&mark) {
            Ok(stat) => {
                let since = SystemTime::now().duration_since(stat.modified()?);
                Ok(since.unwrap_or_default())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::write(&mark, "")?;
                Ok(Duration::ZERO)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes everything away. A folder that is still mounted is never removed: what is in it is
    /// somebody's storage.
    pub(crate) fn clear(&self) -> io::Result<()> {
        for mounted in self.read() {
            // An ordinary folder stays, whatever somebody else may have mounted there.
            let Some(serving) = &mounted.process else { continue };
            unmount(&mounted.folder);
            serving.end();
        }
        // Also what was made after the record was written.
        for below in mounted_beneath(&self.path) {
            unmount(&below);
        }
        if let Some(below) = mounted_beneath(&self.path).first() {
            let text = format!("`{}` is still mounted", below.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        fs::remove_dir_all(&self.path)
    }
}

/// Takes a mount away, also while it is in use: who uses it loses it.
pub(crate) fn unmount(at: &Path) {
    if !is_mounted(at) {
        return;
    }
    let Some(program) = crate::rclone::unmounter() else { return };
    let mut command = std::process::Command::new(program);
    let _ = command.args(["-u", "-z", "--"]).arg(at).env_clear().status();
}

pub(crate) fn is_mounted(at: &Path) -> bool {
    mounts().iter().any(|mount| mount == at)
}

fn mounted_beneath(folder: &Path) -> Vec<PathBuf> {
    mounts().into_iter().filter(|mount| mount.starts_with(folder)).collect()
}

/// Every path of this process's mounts.
fn mounts() -> Vec<PathBuf> {
    let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let fields = text.split(|byte| *byte == b'\n').filter_map(|line| {
        let field = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(&unescaped(field))))
    });
    fields.collect()
}

/// Blanks and the like stand there as octal numbers.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}
