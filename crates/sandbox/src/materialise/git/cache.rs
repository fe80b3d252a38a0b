//! Repositories that were fetched before, by address: what is fetched again is only what is new.
//!
//! A repository here belongs to an address and to the credential that it was fetched with, so that
//! nobody is given what somebody else was allowed to fetch.

use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A repository of the cache, held: nobody else fetches into it meanwhile.
pub(super) struct Held {
    pub(super) folder: PathBuf,
    _lock: File,
}

/// Holds the repository of an address, which may be empty yet. Blocks while somebody else has it.
pub(super) fn hold(cache: &Path, key: &str) -> io::Result<Held> {
    let name: String = moat_core::Hash::of(key.as_bytes()).to_string().chars().take(32).collect();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(cache)?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(cache.join(format!("{name}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    Ok(Held { folder: cache.join(format!("{name}.git")), _lock: lock })
}

impl Held {
    pub(super) fn is_new(&self) -> bool {
        !self.folder.join("HEAD").exists()
    }

    /// Forgets what is there, which is of no use.
    pub(super) fn clear(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
