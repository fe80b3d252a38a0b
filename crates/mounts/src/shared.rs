//! Folders of this machine that several runs see.
//!
//! `read_only`: nobody can change it. `lock`: one run at a time has it and can change it; the lock
//! is this process's, so that it is free again when the process is gone. `copy_on_write`: each run
//! has a copy of its own, made when its sandbox is, in which equal blocks are shared where the file
//! system can do that.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::error::MountError;

/// How long it is waited for another run.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is tried.
const EVERY: Duration = Duration::from_millis(200);

/// A shared folder as one run has it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) folder: PathBuf,
    /// Held for as long as the run has it.
    pub(crate) lock: Option<File>,
}

pub(crate) async fn take(
    all: &Path,
    name: &str,
    sharing: &str,
    run: &str,
    own: &Path,
) -> Result<Shared, MountError> {
    let folder = all.join(name);
    // What is in one may be set-user-id: nobody else of this host is to reach it.
    let private = fs::DirBuilder::new().recursive(true).mode(0o700).create(all);
    private
        .and_then(|()| fs::set_permissions(all, fs::Permissions::from_mode(0o700)))
        .map_err(MountError::folder("make", all))?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder);
    made.map_err(MountError::folder("make", &folder))?;
    match sharing {
        "lock" => {
            let lock = lock(&all.join(format!("{name}.lock")), name, run).await?;
            Ok(Shared { folder, lock: Some(lock) })
        }
        "copy_on_write" => {
            copy(&folder, own).await?;
            Ok(Shared { folder: own.to_owned(), lock: None })
        }
        _ => Ok(Shared { folder, lock: None }),
    }
}

async fn lock(path: &Path, name: &str, run: &str) -> Result<File, MountError> {
    let failed = || MountError::folder("lock", path);
    let open = File::options().create(true).truncate(false).read(true).write(true).open(path);
    let mut file = open.map_err(failed())?;
    let began = tokio::time::Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if began.elapsed() > PATIENCE {
            let mut holder = String::new();
            let _ = (&mut file).take(100).read_to_string(&mut holder);
            let is_run = holder.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
            let holder = match is_run && !holder.is_empty() {
                true => format!("the run {holder}"),
                false => "another run".to_owned(),
            };
            return Err(MountError::Held { name: name.to_owned(), holder });
        }
        tokio::time::sleep(EVERY).await;
    }
    let write = || -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(run.as_bytes())
    };
    let mut write = write;
    write().map_err(failed())?;
    Ok(file)
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
