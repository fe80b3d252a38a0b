//! Who owns a run: whoever holds the `flock` on its file of the current generation.
//!
//! The file is there only while somebody owns the run, or was killed while owning it; the kernel
//! frees a dead owner's lock at once. The lock keeps owners apart, the epoch that is raised under
//! it keeps late writes out: a taker of the next generation holds another file, and whoever still
//! holds the old one appends under an epoch that no longer counts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use moat_core::{RunId, TenantId};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// A look at a lock (see [`Locks::holder`]) blocks it for a moment, so one refusal proves nothing.
const ATTEMPTS: u32 = 10;
const SIGKILL: u32 = 9;
const BETWEEN_ATTEMPTS: Duration = Duration::from_micros(500);
/// How long an owner that was killed is given to let go: the kernel frees its memory first.
const DYING_ATTEMPTS: u32 = 6_000;

pub(super) struct Locks {
    dir: PathBuf,
}

/// Held ownership. Its descriptor is closed on exec, so no child process inherits it.
pub(super) struct RunLock {
    file: File,
    path: PathBuf,
}

impl Locks {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("locks") }
    }

    fn path(&self, tenant: &TenantId, run: RunId, generation: u64) -> PathBuf {
        self.dir.join(format!("{tenant}.{run}.{generation}"))
    }

    /// Takes the lock of one generation; `None`: somebody holds it.
    pub(super) fn take(
        &self,
        tenant: &TenantId,
        run: RunId,
        generation: u64,
    ) -> io::Result<Option<RunLock>> {
        let path = self.path(tenant, run, generation);
        for attempt in 0..DYING_ATTEMPTS {
            let file = self.open(&path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, &path)? => return RunLock::new(file, path).map(Some),
                // Whoever had it removed the file before letting go: this lock guards nothing.
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) if attempt < ATTEMPTS || is_held_by_the_dying(&file)? => {
                    sleep(BETWEEN_ATTEMPTS);
                }
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
        };
        open().or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            open()
        })
    }

    /// The process that holds the lock of one generation; `None`: nobody does.
    pub(super) fn holder(
        &self,
        tenant: &TenantId,
        run: RunId,
        generation: u64,
    ) -> io::Result<Option<u32>> {
        let mut file = match File::open(self.path(tenant, run, generation)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Shared, so that several who look do not take each other for the owner.
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => {
                let mut record = String::new();
                (&mut file).take(100).read_to_string(&mut record)?;
                let pid = record.split_whitespace().next().and_then(|pid| pid.parse().ok());
                Ok(Some(pid.unwrap_or_default()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl RunLock {
    fn new(mut file: File, path: PathBuf) -> io::Result<Self> {
        file.set_len(0)?;
        // For people who look into the folder, and for the refusal that names the owner.
        writeln!(file, "{} {}", std::process::id(), process_start())?;
        Ok(Self { file, path })
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Removed while it is still locked; `take` looks whether what it locked is still there.
        if is_at(&self.file, &self.path).unwrap_or(false) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let mine = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((mine.dev(), mine.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the process that a lock's record names was killed and is only not gone yet.
fn is_held_by_the_dying(mut file: &File) -> io::Result<bool> {
    let mut record = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(100).read_to_string(&mut record)?;
    let Some(pid) = record.split_whitespace().next().and_then(|pid| pid.parse::<u32>().ok()) else {
        return Ok(false);
    };
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return Ok(true) };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    // A process gives back its memory before its files.
    let ended = field("State:").is_some_and(|state| state.starts_with(['Z', 'X']))
        || field("VmSize:").is_none();
    let pending = ["SigPnd:", "ShdPnd:"].into_iter().filter_map(field);
    let killed = pending
        .filter_map(|mask| u64::from_str_radix(mask, 16).ok())
        .any(|mask| mask & (1 << (SIGKILL - 1)) != 0);
    Ok(ended || killed)
}

/// When this process started, in clock ticks since the machine did: with the pid it names one
/// process even after pids were used again.
fn process_start() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in brackets may hold anything; the twentieth field after it is the start.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    fields.split_whitespace().nth(19).and_then(|start| start.parse().ok()).unwrap_or_default()
}
