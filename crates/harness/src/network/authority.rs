//! The certificate authority of a run, kept encrypted so that a sandbox that is found again still
//! trusts it.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use moat_core::{RunId, SealingKey};
use moat_egress::{Authority, AuthorityError, SavedAuthority};
use zeroize::Zeroizing;

use super::{NetworkError, NetworkOptions};

/// A certificate and a key are far smaller.
const MAX_SAVED: u64 = 64 << 10;

/// The authority of a run; made if there is none yet.
pub(super) fn of_run(options: &NetworkOptions, run: RunId) -> Result<Authority, NetworkError> {
    let path = path(options, run);
    let key = SealingKey::new(&options.tenant_key.derive("moat 2026 egress authorities v1"));
    let keep = |source| NetworkError::Keep { path: path.clone(), source };
    if let Some(sealed) = read(&path).map_err(keep)? {
        return open(&key, run, &sealed);
    }
    let made = Authority::generate()?;
    let saved = Zeroizing::new(serde_json::to_vec(&made.save())?);
    let sealed = key.seal(&[], run.as_bytes(), &saved);
    let sealed = sealed.map_err(|error| keep(io::Error::other(error)))?;
    match write(&options.folder, &path, &sealed) {
        Ok(()) => Ok(made),
        // Another process was quicker: both go on with the same one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let sealed = read(&path).map_err(keep)?.unwrap_or_default();
            open(&key, run, &sealed)
        }
        Err(error) => Err(keep(error)),
    }
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

/// The runs whose authorities were made longer ago than this.
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
        let made = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let is_old = made.and_then(|made| made.elapsed().ok()).is_some_and(|past| past > age);
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

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut sealed = Vec::new();
    file.take(MAX_SAVED).read_to_end(&mut sealed)?;
    Ok(Some(sealed))
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
