use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use moat_core::{MountRecord, MountSource, RemoteRecord, RunId};
use moat_sandbox::materialise::{CredentialSource, Remotes};
use moat_sandbox::{FolderMount, HeldMounts, Mounter, SandboxError};

use crate::error::MountError;
use crate::rclone::Configured;
use crate::record::{Mounted, RunFolder, Serving};
use crate::shared;

/// Where mounts are made, and what they are made with.
#[derive(Clone, Debug)]
pub struct MountsOptions {
    /// A folder of ours: what runs have mounted.
    pub folder: PathBuf,
    /// Where shared folders are.
    pub shared: PathBuf,
    /// What reads the secrets that mounts name.
    pub credentials: CredentialSource,
}

/// Makes mounts for runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Mounts {
    options: MountsOptions,
}

/// What a run has mounted. While this lives nobody takes it away; [`Prepared::release`] does.
#[derive(Debug)]
pub struct Prepared {
    folder: RunFolder,
    /// What the provider is to show in the sandbox.
    pub mounts: Vec<FolderMount>,
    _locks: Vec<File>,
}

impl Prepared {
    /// Takes everything away: the sandbox is gone.
    ///
    /// # Errors
    /// If something is still there; the reaper tries again.
    pub fn release(self) -> Result<(), MountError> {
        let failed = MountError::folder("remove", &self.folder.path);
        self.folder.clear().map_err(failed)
    }
}

impl Mounts {
    /// Does no I/O.
    pub fn new(options: MountsOptions) -> Self {
        Self { options }
    }

    /// Makes everything that a fresh sandbox of the run is to see: all of it or nothing.
    ///
    /// # Errors
    /// [`MountError`] names what is missing, and what to do about it.
    pub async fn prepare(
        &self,
        run: RunId,
        records: &[MountRecord],
    ) -> Result<Prepared, MountError> {
        let folder = self.hold(run)?;
        // What an earlier sandbox of the run had is not this one's.
        let path = folder.path.clone();
        folder.clear().map_err(MountError::folder("clear", &path))?;
        let folder = self.hold(run)?;
        let mut prepared = Prepared { folder, mounts: Vec::new(), _locks: Vec::new() };
        let mut written = Vec::new();
        for (number, record) in records.iter().enumerate() {
            if let Err(error) = self.make(run, number, record, &mut prepared, &mut written).await {
                // What cannot be taken away now is left to the reaper.
                let _ = prepared.release();
                return Err(error);
            }
        }
        Ok(prepared)
    }

    /// Looks after what a run has mounted, for a sandbox that was found again.
    ///
    /// # Errors
    /// If it is not there any more.
    pub fn adopt(&self, run: RunId) -> Result<Prepared, MountError> {
        let folder = self.hold(run)?;
        folder.adopt();
        for mounted in folder.read() {
            if let Some(serving) = mounted.process
                && !serving.lives()
            {
                let gone = std::io::Error::other("what served it has ended");
                return Err(MountError::folder("use", &mounted.folder)(gone));
            }
        }
        Ok(Prepared { folder, mounts: Vec::new(), _locks: Vec::new() })
    }

    fn hold(&self, run: RunId) -> Result<RunFolder, MountError> {
        let path = self.options.folder.join(run.to_string());
        let held = RunFolder::hold(&path).map_err(MountError::folder("use", &path))?;
        held.ok_or_else(|| {
            let busy = std::io::Error::other("another process looks after this run's mounts");
            MountError::folder("use", &path)(busy)
        })
    }

    async fn make(
        &self,
        run: RunId,
        number: usize,
        record: &MountRecord,
        prepared: &mut Prepared,
        written: &mut Vec<Mounted>,
    ) -> Result<(), MountError> {
        let own = prepared.folder.path.join(number.to_string());
        let data = own.join("data");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&data);
        made.map_err(MountError::folder("make", &data))?;
        let (folder, process, owned) = match &record.source {
            MountSource::Remote(remote) => {
                let configured = Configured::write(&own, remote, &self.options.credentials).await?;
                let pid = configured.mount(&data, record.read_only).await?;
                (data, Serving::of(pid), false)
            }
            MountSource::Shared { name, sharing } => {
                let all = &self.options.shared;
                let shared = shared::take(all, name, sharing, &run.to_string(), &data).await?;
                prepared._locks.extend(shared.lock);
                (shared.folder, None, sharing != "read_only")
            }
        };
        written.push(Mounted { folder: folder.clone(), process });
        // What stays (a shared folder) is no mount: taking it away does nothing to it.
        let record_path = &prepared.folder.path;
        prepared.folder.write(written).map_err(MountError::folder("write", record_path))?;
        prepared.mounts.push(FolderMount {
            source: folder,
            target: PathBuf::from(&record.path),
            read_only: record.read_only,
            owned,
        });
        Ok(())
    }

    /// Takes away what runs had mounted that nobody has looked after for longer than `grace`. The
    /// count begins with the first call that finds it so. Answers how many runs there were. Blocks.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn reap(&self, grace: Duration) -> Result<usize, MountError> {
        let failed = || MountError::folder("read", &self.options.folder);
        let runs = match fs::read_dir(&self.options.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            runs => runs.map_err(failed())?,
        };
        let mut removed = 0;
        for run in runs {
            let path = run.map_err(failed())?.path();
            // What cannot be taken away now is tried again in the next pass.
            if reap_one(&path, grace).unwrap_or(false) {
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn reap_one(path: &Path, grace: Duration) -> std::io::Result<bool> {
    let Some(folder) = RunFolder::hold(path)? else { return Ok(false) };
    if folder.orphaned_for()? < grace {
        return Ok(false);
    }
    folder.clear()?;
    Ok(true)
}

#[async_trait]
impl Mounter for Mounts {
    async fn prepare(
        &self,
        run: RunId,
        records: &[MountRecord],
    ) -> Result<Box<dyn HeldMounts>, SandboxError> {
        let prepared = Self::prepare(self, run, records).await.map_err(setup)?;
        Ok(Box::new(prepared))
    }

    async fn adopt(&self, run: RunId) -> Result<Box<dyn HeldMounts>, SandboxError> {
        Ok(Box::new(Self::adopt(self, run).map_err(setup)?))
    }
}

fn setup(error: MountError) -> SandboxError {
    SandboxError::Setup {
        step: "mount what the manifest names".to_owned(),
        message: error.to_string(),
    }
}

impl HeldMounts for Prepared {
    fn mounts(&self) -> &[FolderMount] {
        &self.mounts
    }

    fn release(self: Box<Self>) {
        // The reaper tries again.
        let _ = Self::release(*self);
    }
}

#[async_trait]
impl Remotes for Mounts {
    async fn copy(&self, remote: &RemoteRecord, into: &Path) -> Result<(), String> {
        let copied = async {
            let above = into.parent().unwrap_or(Path::new("/tmp"));
            // Goes with the key in it, whatever becomes of this.
            let folder = tempfile::Builder::new()
                .prefix("moat-rclone-")
                .tempdir_in(above)
                .map_err(MountError::folder("make a folder in", above))?;
            let credentials = &self.options.credentials;
            Configured::write(folder.path(), remote, credentials).await?.copy(into).await
        };
        copied.await.map_err(|error: MountError| error.to_string())
    }
}
