//! Objects as files.
//!
//! ```text
//! DIR/packs/0a1b…     an object: whole and durable
//! DIR/.new/RANDOM     bytes that have no name yet
//! DIR/.leases/TIME-…  held locked by whoever writes
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{CWD, FlockOperation, RenameFlags};

use super::{Lease, ListedObject, ObjectError, Objects, check_name, now_ms};
use crate::blocking;

#[cfg(test)]
mod killed;
#[cfg(test)]
use killed::step;

/// What comes next. Tests kill the process there.
#[cfg(not(test))]
fn step(_: &str) {}

const NEW: &str = ".new";
const LEASES: &str = ".leases";
/// Files without a name that are older than this were left by somebody who died.
const LEFT_OVER: Duration = Duration::from_secs(24 * 3600);

/// Objects in a folder. Cloning is cheap; several processes may use one folder.
#[derive(Clone)]
pub struct FolderObjects {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    swept: Once,
}

impl FolderObjects {
    /// Uses `dir`, which need not exist yet. Does no I/O.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { shared: Arc::new(Shared { dir: dir.into(), swept: Once::new() }) }
    }

    async fn run<T, F>(&self, work: F) -> T
    where
        F: FnOnce(&Shared) -> T + Send + 'static,
        T: Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        blocking(move || work(&shared)).await
    }

    async fn named<T, F>(&self, name: &str, work: F) -> Result<T, ObjectError>
    where
        F: FnOnce(&Shared, &str) -> Result<T, ObjectError> + Send + 'static,
        T: Send + 'static,
    {
        check_name(name)?;
        let name = name.to_owned();
        self.run(move |shared| work(shared, &name)).await
    }
}

#[async_trait]
impl Objects for FolderObjects {
    fn place(&self) -> String {
        self.shared.place()
    }

    fn is_near(&self) -> bool {
        true
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, ObjectError> {
        self.named(name, move |shared, name| {
            shared.create(name, &bytes).map_err(|error| shared.failed("write", name, error))
        })
        .await
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, ObjectError> {
        self.named(name, move |shared, name| shared.get(name, limit)).await
    }

    async fn read(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        self.named(name, move |shared, name| {
            let read = shared.read(name, offset, length);
            read.map_err(|error| shared.failed("read", name, error))
        })
        .await
    }

    async fn list(&self, folder: &str) -> Result<Vec<ListedObject>, ObjectError> {
        self.named(folder, |shared, folder| {
            shared.list(folder).map_err(|error| shared.failed("list", folder, error))
        })
        .await
    }

    async fn remove(&self, name: &str) -> Result<bool, ObjectError> {
        self.named(name, |shared, name| {
            let removed = fs::remove_file(shared.dir.join(name));
            match removed {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(shared.failed("remove", name, error)),
            }
        })
        .await
    }

    async fn lease(&self) -> Result<Box<dyn Lease>, ObjectError> {
        self.run(|shared| {
            let lease = shared.lease().map_err(|error| shared.failed("write", LEASES, error))?;
            Ok(Box::new(lease) as Box<dyn Lease>)
        })
        .await
    }

    async fn leases(&self) -> Result<Vec<u64>, ObjectError> {
        self.run(|shared| shared.leases().map_err(|error| shared.failed("list", LEASES, error)))
            .await
    }

    async fn free_bytes(&self) -> Result<Option<u64>, ObjectError> {
        self.run(|shared| {
            // The nearest folder that is there: before the first object, this one is not.
            let there = shared.dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
            let stat = rustix::fs::statvfs(there);
            let stat = stat.map_err(|error| shared.failed("measure", "", error.into()))?;
            Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
        })
        .await
    }
}

impl Shared {
    fn place(&self) -> String {
        format!("the folder `{}`", self.dir.display())
    }

    fn failed(&self, doing: &'static str, name: &str, error: io::Error) -> ObjectError {
        let (place, name) = (self.place(), name.to_owned());
        match error.kind() {
            io::ErrorKind::NotFound => ObjectError::Missing { place, name },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ObjectError::Full { place }
            }
            _ => ObjectError::Failed { doing, place, name, source: Box::new(error) },
        }
    }

    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        let path = self.dir.join(name);
        if path.exists() {
            // Whoever made it may have died before its name was durable.
            self.sync_name(&path)?;
            return Ok(false);
        }
        let new = self.new_file(bytes)?;
        step("named");
        let renamed = rename_new(&new, &path).or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            self.make_dir(path.parent().unwrap_or(&self.dir))?;
            rename_new(&new, &path)
        });
        if !matches!(renamed, Ok(true)) {
            let _ = fs::remove_file(&new);
        }
        let created = renamed?;
        self.sync_name(&path)?;
        Ok(created)
    }

    fn sync_name(&self, path: &Path) -> io::Result<()> {
        step("its name synced");
        File::open(path.parent().unwrap_or(&self.dir))?.sync_all()
    }

    /// Bytes that are durable and have no name yet. A power cut cannot leave a short object.
    fn new_file(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let folder = self.dir.join(NEW);
        self.swept.call_once(|| sweep(&folder));
        let mut builder = tempfile::Builder::new();
        builder.prefix("n").rand_bytes(16);
        let file = match builder.tempfile_in(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_dir(&folder)?;
                builder.tempfile_in(&folder)?
            }
            made => made?,
        };
        step("written");
        // Removed with `file` unless everything went well.
        file.as_file().write_all(bytes)?;
        step("synced");
        file.as_file().sync_all()?;
        Ok(file.into_temp_path().keep()?)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let missing: Vec<_> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        step("its folder synced");
        for made in missing {
            if let Some(parent) = made.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(())
    }

    fn get(&self, name: &str, limit: u64) -> Result<Bytes, ObjectError> {
        let failed = |error| self.failed("read", name, error);
        let file = File::open(self.dir.join(name)).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        if size > limit {
            let (place, name) = (self.place(), name.to_owned());
            return Err(ObjectError::TooLarge { place, name, size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes.into())
    }

    fn read(&self, name: &str, offset: u64, length: u64) -> io::Result<Bytes> {
        let file = File::open(self.dir.join(name))?;
        let left = file.metadata()?.len().saturating_sub(offset).min(length);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<ListedObject>> {
        let entries = match fs::read_dir(self.dir.join(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut listed = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Some(file) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let name = format!("{folder}/{file}");
            match entry.metadata() {
                Ok(meta) if meta.is_file() && check_name(&name).is_ok() => {
                    listed.push(ListedObject { name, size: meta.len() });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn lease(&self) -> io::Result<FolderLease> {
        let folder = self.dir.join(LEASES);
        self.make_dir(&folder)?;
        loop {
            let began = now_ms();
            let file = tempfile::Builder::new()
                .prefix(&format!("{began}-"))
                .rand_bytes(8)
                .tempfile_in(&folder)?;
            let (file, path) = file.keep()?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            // Somebody who counted leases before it was locked has taken it for a dead one.
            if path.exists() {
                return Ok(FolderLease { began, path, _lock: file });
            }
        }
    }

    fn leases(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(self.dir.join(LEASES)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut began = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let at = name.to_str().and_then(|name| name.split_once('-')?.0.parse().ok());
            let file = OpenOptions::new().write(true).mode(0o600).open(entry.path());
            let (Some(at), Ok(file)) = (at, file) else { continue };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => drop(fs::remove_file(entry.path())),
                Err(_) => began.push(at),
            }
        }
        Ok(began)
    }
}

/// Gives a file its name unless that is taken.
fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        // A file system without that flag: a link does not replace anything either.
        Err(rustix::io::Errno::INVAL) => match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        },
        Err(error) => Err(error.into()),
    }
}

/// Removes what writers left behind that were killed. Best effort: it only frees space.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let changed = entry.metadata().and_then(|meta| meta.modified());
        let age = changed.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > LEFT_OVER) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A file that is locked for as long as its writer lives.
struct FolderLease {
    began: u64,
    path: PathBuf,
    _lock: File,
}

impl Lease for FolderLease {
    fn began(&self) -> u64 {
        self.began
    }
}

impl Drop for FolderLease {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
