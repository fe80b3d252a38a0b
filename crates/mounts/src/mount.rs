use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use moat_core::{MountRecord, MountSource, RemoteRecord, RunId};
use moat_sandbox::materialise::{CredentialSource, Remotes};
use moat_sandbox::{FolderMount, HeldMounts, Mounter, SandboxError};

use crate::error::MountError;
use crate::rclone::Configured;
use crate::record::{Mounted, RunFolder};
use crate::serving::Serving;
use crate::shared::SharedFolders;

/// How long the end of a sandbox waits for what was written to be uploaded. It goes on afterwards.
const UPLOADED_WITHIN: Duration = Duration::from_secs(120);
/// How long each run's is waited for that nobody looks after: the next pass looks again.
const REAPED_WITHIN: Duration = Duration::from_secs(5);
/// How long it is waited for whoever takes away what a run had.
const HELD_WITHIN: Duration = Duration::from_secs(20);

/// Where mounts are made, and what they are made with.
#[derive(Clone, Debug)]
pub struct MountsOptions {
    /// A folder of ours: what runs have mounted.
    pub folder: PathBuf,
    /// Where shared folders are.
    pub shared: PathBuf,
    /// What reads the secrets that mounts name.
    pub credentials: CredentialSource,
    /// How long a sandbox lives whose harness is gone, and with it what it has mounted or locked.
    pub orphan_grace: Duration,
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
    written: Vec<Mounted>,
    /// Held as long as this is.
    locks: Vec<File>,
}

impl Prepared {
    /// Takes everything away: the sandbox is gone. What was written to storage elsewhere is
    /// uploaded first. Blocks, for two minutes at the most.
    ///
    /// # Errors
    /// If something is still there, or not uploaded yet; the reaper tries again.
    pub fn release(self) -> Result<(), MountError> {
        self.folder.clear(UPLOADED_WITHIN).map_err(MountError::folder("remove", &self.folder.path))
    }

    /// The first that nobody serves any more, and why.
    fn broken(&self) -> Option<MountError> {
        let ended = |mounted: &&Mounted| mounted.process.as_ref().is_some_and(|p| !p.lives());
        let mounted = self.written.iter().find(ended)?;
        Some(MountError::Ended { path: mounted.target.clone() })
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
        // What an earlier sandbox of the run had is not this one's.
        self.forget(run).await?;
        let folder = self.hold(run).await?;
        let (mounts, written, locks) = (Vec::new(), Vec::new(), Vec::new());
        let mut prepared = Prepared { folder, mounts, written, locks };
        for (number, record) in records.iter().enumerate() {
            if let Err(error) = self.make(run, number, record, &mut prepared).await {
                // What cannot be taken away now is left to the reaper.
                let _ = tokio::task::spawn_blocking(move || prepared.release()).await;
                let path = record.path.clone();
                return Err(MountError::At { path, source: Box::new(error) });
            }
        }
        Ok(prepared)
    }

    /// Looks after what a run has mounted, for a sandbox that was found again.
    ///
    /// # Errors
    /// If it is not there any more, or somebody else has a folder that was locked.
    pub async fn adopt(&self, run: RunId, records: &[MountRecord]) -> Result<Prepared, MountError> {
        let folder = self.hold(run).await?;
        let written = folder.read();
        if let Some(record) = records.get(written.len()) {
            return Err(MountError::Ended { path: record.path.clone() });
        }
        let mut prepared = Prepared { folder, mounts: Vec::new(), written, locks: Vec::new() };
        if let Some(broken) = prepared.broken() {
            return Err(broken);
        }
        for name in prepared.written.iter().filter_map(|mounted| mounted.lock.as_deref()) {
            prepared.locks.push(self.shared(run).lock_again(name).await?);
        }
        prepared.folder.adopt();
        Ok(prepared)
    }

    /// Takes away what a run had mounted, whose sandbox is gone, as [`Prepared::release`] does.
    ///
    /// # Errors
    /// If something is still there, or not uploaded yet; the reaper tries again.
    pub async fn forget(&self, run: RunId) -> Result<(), MountError> {
        let folder = self.hold(run).await?;
        let path = folder.path.clone();
        let cleared = tokio::task::spawn_blocking(move || folder.clear(UPLOADED_WITHIN)).await;
        let cleared = cleared.map_err(io::Error::other).and_then(|cleared| cleared);
        cleared.map_err(MountError::folder("clear", &path))
    }

    /// The folder of a run, which somebody may be about to take away.
    async fn hold(&self, run: RunId) -> Result<RunFolder, MountError> {
        let path = self.options.folder.join(run.to_string());
        let began = tokio::time::Instant::now();
        while began.elapsed() < HELD_WITHIN {
            let held = RunFolder::hold(&path).map_err(MountError::folder("use", &path))?;
            if let Some(held) = held {
                return Ok(held);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let busy = io::Error::other("another process looks after this run's mounts");
        Err(MountError::folder("use", &path)(busy))
    }

    fn shared(&self, run: RunId) -> SharedFolders<'_> {
        let MountsOptions { folder, shared, orphan_grace, .. } = &self.options;
        SharedFolders { all: shared, runs: folder, grace: *orphan_grace, run: run.to_string() }
    }

    async fn make(
        &self,
        run: RunId,
        number: usize,
        record: &MountRecord,
        prepared: &mut Prepared,
    ) -> Result<(), MountError> {
        let own = prepared.folder.path.join(number.to_string());
        let data = own.join("data");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&data);
        made.map_err(MountError::folder("make", &data))?;
        let target = record.path.clone();
        let mut mounted =
            Mounted { target, folder: data.clone(), process: None, written: None, lock: None };
        let mut owned = false;
        match &record.source {
            MountSource::Remote(remote) => {
                let configured = Configured::write(&own, remote, &self.options.credentials).await?;
                mounted.process = Serving::of(configured.mount(&data, record.read_only).await?);
                mounted.written = (!record.read_only).then_some(configured.remote);
            }
            MountSource::Shared { name, sharing } => {
                let shared = self.shared(run).take(name, sharing, &data).await?;
                mounted.folder = shared.folder;
                mounted.lock = shared.lock.is_some().then(|| name.clone());
                prepared.locks.extend(shared.lock);
                owned = sharing != "read_only";
            }
        }
        let folder = mounted.folder.clone();
        prepared.written.push(mounted);
        let written = prepared.folder.write(&prepared.written);
        written.map_err(MountError::folder("write", &prepared.folder.path))?;
        prepared.mounts.push(FolderMount {
            source: folder,
            target: PathBuf::from(&record.path),
            read_only: record.read_only,
            owned,
        });
        Ok(())
    }

    /// Takes away what runs had mounted that nobody has looked after for longer than their
    /// sandboxes live then. The count begins with the first call that finds it so. Answers how many
    /// runs there were. Blocks.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn reap(&self) -> Result<usize, MountError> {
        let failed = || MountError::folder("read", &self.options.folder);
        let runs = match fs::read_dir(&self.options.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            runs => runs.map_err(failed())?,
        };
        let mut removed = 0;
        for run in runs {
            let path = run.map_err(failed())?.path();
            // What cannot be taken away now is tried again in the next pass.
            if reap_one(&path, self.options.orphan_grace).unwrap_or(false) {
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn reap_one(path: &Path, grace: Duration) -> io::Result<bool> {
    let Some(folder) = RunFolder::hold(path)? else { return Ok(false) };
    if folder.orphaned_for()? < grace {
        return Ok(false);
    }
    folder.clear(REAPED_WITHIN)?;
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

    async fn adopt(
        &self,
        run: RunId,
        records: &[MountRecord],
    ) -> Result<Box<dyn HeldMounts>, SandboxError> {
        Ok(Box::new(Self::adopt(self, run, records).await.map_err(setup)?))
    }

    async fn forget(&self, run: RunId) -> Result<(), SandboxError> {
        Self::forget(self, run).await.map_err(left)
    }
}

fn left(error: MountError) -> SandboxError {
    SandboxError::Setup {
        step: "take away what it had mounted".to_owned(),
        message: error.to_string(),
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

    fn broken(&self) -> Option<String> {
        Self::broken(self).map(|error| error.to_string())
    }

    fn release(self: Box<Self>) -> Result<(), SandboxError> {
        Self::release(*self).map_err(left)
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
