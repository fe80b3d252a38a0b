//! The certificate authority of a run, kept encrypted so that a sandbox that is found again still
//! trusts it.

use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use moat_core::{RunId, SealingKey};
use moat_egress::{Authority, AuthorityError, SavedAuthority};
use zeroize::Zeroizing;

use super::{NetworkError, NetworkOptions};

/// A certificate and a key are far smaller.
const MAX_SAVED: u64 = 64 << 10;

/// How often an authority is looked for that somebody is just removing, and how long between.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// The authority of a run; made if there is none yet. Blocks, for as long as it takes to remove one
/// that was left. For some time after this it counts as used, and is left by nobody.
pub(super) fn of_run(options: &NetworkOptions, run: RunId) -> Result<Authority, NetworkError> {
    let path = path(options, run);
    let key = SealingKey::new(&options.tenant_key.derive("moat 2026 egress authorities v1"));
    let keep = |source| NetworkError::Keep { path: path.clone(), source };
    let mut made = None;
    for _ in 0..TRIES {
        match used(&path).map_err(keep)? {
            Stored::There(sealed) => return open(&key, run, &sealed),
            Stored::Going => {
                std::thread::sleep(PAUSE);
                continue;
            }
            Stored::None => {}
        }
        let (authority, sealed) = match made.take() {
            Some(made) => made,
            None => {
                let authority = Authority::generate()?;
                let saved = Zeroizing::new(serde_json::to_vec(&authority.save())?);
                let sealed = key.seal(&[], run.as_bytes(), &saved);
                (authority, sealed.map_err(|error| keep(io::Error::other(error)))?)
            }
        };
        match write(&options.folder, &path, &sealed) {
            Ok(()) => return Ok(authority),
            // Another process was quicker: both go on with the same one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                made = Some((authority, sealed));
            }
            Err(error) => return Err(keep(error)),
        }
    }
    Err(keep(io::Error::new(io::ErrorKind::WouldBlock, "somebody is removing it and does not end")))
}

/// Removes the authority of a run whose sandbox is no more. That there is none is no error.
///
/// # Errors
///
/// The file cannot be removed.
pub fn forget_authority(options: &NetworkOptions, run: RunId) -> io::Result<()> {
    match std::fs::remove_file(path(options, run)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes the authority of a run, if it is still so long that nobody used it: whoever takes the run
/// up at this moment either has used it before, or finds that there is none. Answers whether it was
/// removed.
///
/// # Errors
///
/// The file cannot be read or removed.
pub fn forget_unused_authority(
    options: &NetworkOptions,
    run: RunId,
    age: Duration,
) -> io::Result<bool> {
    let path = path(options, run);
    let Some(file) = find(&path)? else { return Ok(false) };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(false),
        locked => locked?,
    }
    if !is_at(&file, &path)? || !is_older(&file.metadata()?, age) {
        return Ok(false);
    }
    std::fs::remove_file(&path)?;
    Ok(true)
}

/// The runs whose authorities were last used longer ago than this.
///
/// # Errors
///
/// The folder cannot be read.
pub fn stored_authorities(options: &NetworkOptions, age: Duration) -> io::Result<Vec<RunId>> {
    let entries = match std::fs::read_dir(&options.folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut runs = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let run = name.to_str().and_then(|name| name.strip_suffix(".authority"));
        // One that is removed at this moment is not stored.
        let is_old = entry.metadata().is_ok_and(|metadata| is_older(&metadata, age));
        runs.extend(run.filter(|_| is_old).and_then(|run| run.parse::<RunId>().ok()));
    }
    Ok(runs)
}

fn path(options: &NetworkOptions, run: RunId) -> PathBuf {
    options.folder.join(format!("{run}.authority"))
}

fn open(key: &SealingKey, run: RunId, sealed: &[u8]) -> Result<Authority, NetworkError> {
    let damaged = || AuthorityError::Load("it was not written with this key".to_owned());
    let saved = Zeroizing::new(key.open(run.as_bytes(), sealed).ok_or_else(damaged)?);
    let saved: SavedAuthority = serde_json::from_slice(&saved)?;
    Ok(Authority::load(&saved)?)
}

/// What there is of an authority.
enum Stored {
    There(Vec<u8>),
    /// Somebody is removing it.
    Going,
    None,
}

/// Reads what is stored and notes that it is used, in one step for whoever removes what is not.
fn used(path: &Path) -> io::Result<Stored> {
    let Some(file) = find(path)? else { return Ok(Stored::None) };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => return Ok(Stored::Going),
        locked => locked?,
    }
    if !is_at(&file, path)? {
        return Ok(Stored::Going);
    }
    file.set_modified(SystemTime::now())?;
    let mut sealed = Vec::new();
    file.take(MAX_SAVED).read_to_end(&mut sealed)?;
    Ok(Stored::There(sealed))
}

fn find(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Whether the file has this name: it may have been removed before it was locked.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let here = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        there => there.map(|there| (here.dev(), here.ino()) == (there.dev(), there.ino())),
    }
}

fn is_older(metadata: &Metadata, age: Duration) -> bool {
    let used = metadata.modified().ok();
    used.and_then(|used| used.elapsed().ok()).is_some_and(|past| past > age)
}

/// Whole or not at all, and never over what is there.
fn write(folder: &Path, path: &Path, sealed: &[u8]) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let name = format!(".{}", RunId::generate());
    let temporary: PathBuf = folder.join(name);
    let written = (|| {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(sealed)?;
        file.sync_all()?;
        std::fs::hard_link(&temporary, path)
    })();
    // Best effort: a name that nothing looks for.
    let _ = std::fs::remove_file(&temporary);
    written
}

#[cfg(test)]
mod tests;
