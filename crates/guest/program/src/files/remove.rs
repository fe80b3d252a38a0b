//! Removing whatever is at a path, in steps.

use std::os::fd::{AsFd as _, OwnedFd};

use moat_guest::{Failure, RawBytes, Root};
use rustix::fs::{AtFlags, Mode, fchmod, unlinkat};
use rustix::io::Errno;

use super::resolve::{Path, Target};
use super::scan::names;
use super::{Beneath, Files, os_failure};

/// Times that a folder is looked through before it is taken that somebody keeps filling it.
const VISITS: u32 = 16;

/// A removal under way. Links are removed, never followed.
pub(crate) struct Remove {
    root: Root,
    /// Folders that are being emptied, each within the one before, and how often each was seen.
    folders: Vec<(Path, u32)>,
}

impl Remove {
    /// Removes what is no folder; a folder needs steps. Nothing there is no error.
    pub(crate) fn begin(files: &Files, root: Root, path: &RawBytes) -> Result<Self, Failure> {
        let path = Path::parse(path)?;
        Self::begin_beneath(&files.beneath(root)?, root, path)
    }

    fn begin_beneath(beneath: &Beneath<'_>, root: Root, path: Path) -> Result<Self, Failure> {
        let mut folders = Vec::new();
        match beneath.target(&path) {
            Ok(target) => match unlink(&target) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => folders.push((path, 0)),
                Err(error) => return Err(os_failure("remove", path.bytes(), &error.into())),
            },
            Err(Failure::Os { errno: libc::ENOENT | libc::ENOTDIR, .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { root, folders })
    }

    /// Empties one folder, or removes one that is empty. Gives whether all is done.
    pub(crate) fn step(&mut self, files: &Files) -> Result<bool, Failure> {
        self.step_beneath(&files.beneath(self.root)?)
    }

    fn step_beneath(&mut self, beneath: &Beneath<'_>) -> Result<bool, Failure> {
        let Some((path, visits)) = self.folders.last_mut() else { return Ok(true) };
        let failed = |path: &Path, error: Errno| os_failure("remove", path.bytes(), &error.into());
        *visits += 1;
        if *visits > VISITS {
            return Err(failed(path, Errno::NOTEMPTY));
        }
        let path = path.clone();
        let inner = match beneath.open_folder(&path) {
            Ok(folder) => empty(&folder).map_err(|error| failed(&path, error))?,
            Err(Failure::Os { errno: libc::ENOENT, .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        if !inner.is_empty() {
            self.folders.extend(inner.iter().map(|name| (path.join(name), 0)));
            return Ok(false);
        }
        let target = beneath.target(&path)?;
        match unlinkat(&target.parent, target.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {
                self.folders.pop();
            }
            // Somebody put something in.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(failed(&path, error)),
        }
        Ok(self.folders.is_empty())
    }
}

/// Removes what is at a path before something else is put there.
pub(super) fn remove_now(beneath: &Beneath<'_>, path: &Path) -> Result<(), Failure> {
    let mut remove = Remove::begin_beneath(beneath, Root::Workspace, path.clone())?;
    while !remove.step_beneath(beneath)? {}
    Ok(())
}

/// Removes a name that is no folder; for a folder the error is always `ISDIR`.
fn unlink(target: &Target<'_>) -> rustix::io::Result<()> {
    unlink_in(&target.parent, target.name)
}

fn unlink_in(folder: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        // What POSIX says about folders.
        Err(Errno::PERM) => {
            let stat = rustix::fs::statat(folder, name, super::NO_FOLLOW)?;
            let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
            Err(if kind.is_dir() { Errno::ISDIR } else { Errno::PERM })
        }
        result => result,
    }
}

/// Removes everything from a folder but folders, whose names it gives.
fn empty(folder: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut inner = Vec::new();
    let mut opened_up = false;
    for name in names(folder.as_fd())? {
        let result = match unlink_in(folder, &name) {
            // A read-only folder, as package caches have them: its owner may change that.
            Err(Errno::ACCESS) if !opened_up => {
                opened_up = true;
                fchmod(folder, Mode::from_raw_mode(0o700))?;
                unlink_in(folder, &name)
            }
            result => result,
        };
        match result {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => inner.push(name),
            Err(error) => return Err(error),
        }
    }
    Ok(inner)
}
