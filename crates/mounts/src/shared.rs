//! Folders of this machine that several runs see.
//!
//! `read_only`: nobody can change it. `lock`: one run at a time has it and can change it. The lock
//! is this process's, so that it cannot outlive it; but the sandbox of a run whose process is gone
//! may write on until its grace is over, and as long as that may be so nobody else is given the
//! folder. `copy_on_write`: each run has a copy of its own, made when its sandbox is, in which equal
//! blocks are shared where the file system can do that.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::error::MountError;
use crate::record::may_still_use;

/// How long it is waited for another run.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long for one that only looks whether it can have the folder.
const SHORT_PATIENCE: Duration = Duration::from_secs(3);
/// How often it is tried.
const EVERY: Duration = Duration::from_millis(200);
/// Bytes of a run's id, and a few more.
const HOLDER: u64 = 100;

/// The shared folders, as a run sees them.
pub(crate) struct SharedFolders<'a> {
    pub(crate) all: &'a Path,
    /// What runs have mounted.
    pub(crate) runs: &'a Path,
    /// How long a sandbox lives whose harness is gone.
    pub(crate) grace: Duration,
    pub(crate) run: String,
}

/// A shared folder as one run has it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) folder: PathBuf,
    /// Held for as long as the run has it.
    pub(crate) lock: Option<File>,
}

impl SharedFolders<'_> {
    pub(crate) async fn take(
        &self,
        name: &str,
        sharing: &str,
        own: &Path,
    ) -> Result<Shared, MountError> {
        let folder = self.all.join(name);
        // What is in one may be set-user-id: nobody else of this host is to reach it.
        let private = fs::DirBuilder::new().recursive(true).mode(0o700).create(self.all);
        private
            .and_then(|()| fs::set_permissions(self.all, fs::Permissions::from_mode(0o700)))
            .map_err(MountError::folder("make", self.all))?;
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder);
        made.map_err(MountError::folder("make", &folder))?;
        match sharing {
            "lock" => Ok(Shared { folder, lock: Some(self.lock(name, PATIENCE).await?) }),
            "copy_on_write" => {
                copy(&folder, own).await?;
                Ok(Shared { folder: own.to_owned(), lock: None })
            }
            _ => Ok(Shared { folder, lock: None }),
        }
    }

    /// The lock of a run whose process had it and is gone.
    pub(crate) async fn lock_again(&self, name: &str) -> Result<File, MountError> {
        self.lock(name, SHORT_PATIENCE).await
    }

    async fn lock(&self, name: &str, patience: Duration) -> Result<File, MountError> {
        let path = self.all.join(format!("{name}.lock"));
        let failed = || MountError::folder("lock", &path);
        let began = tokio::time::Instant::now();
        loop {
            let open =
                File::options().create(true).truncate(false).read(true).write(true).open(&path);
            let mut file = open.map_err(failed())?;
            let is_locked = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            let mut holder = String::new();
            let _ = (&mut file).take(HOLDER).read_to_string(&mut holder);
            let is_run = holder.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
            let other =
                Some(&*holder).filter(|holder| is_run && !holder.is_empty() && *holder != self.run);
            let is_left =
                other.is_some_and(|other| may_still_use(&self.runs.join(other), name, self.grace));
            if is_locked && !is_left {
                let mut write = || -> io::Result<()> {
                    file.set_len(0)?;
                    file.rewind()?;
                    file.write_all(self.run.as_bytes())
                };
                write().map_err(failed())?;
                return Ok(file);
            }
            drop(file);
            if began.elapsed() > patience {
                return Err(held(name, other, is_locked));
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// `is_left`: the run's process is gone, and its sandbox may not be.
fn held(name: &str, run: Option<&str>, is_left: bool) -> MountError {
    let holder = match run {
        Some(run) if is_left => format!(
            "the run {run}, which nobody drives but whose sandbox may still be there \
             (`moat resume {run}` goes on with it)"
        ),
        Some(run) => format!("the run {run}"),
        None => "another run".to_owned(),
    };
    MountError::Held { name: name.to_owned(), holder }
}

/// A copy with everything that a file has, sharing blocks where that is possible.
async fn copy(from: &Path, to: &Path) -> Result<(), MountError> {
    let failed = |message: String| MountError::Folder {
        step: "copy",
        path: from.to_owned(),
        source: io::Error::other(message),
    };
    let made = tokio::process::Command::new("/bin/cp")
        .args(["-a", "--reflink=auto", "--"])
        .arg(from.join("."))
        .arg(to)
        .env_clear()
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if made.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&made.stderr);
    Err(failed(said.trim().chars().take(500).collect()))
}
