use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::{HostFolders, MaterialiseError};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens a source folder, which has to lie beneath an allowed one. Links on the way are followed
/// as long as they stay there.
pub(super) fn open_source(folders: &HostFolders, src: &Path) -> Result<OwnedFd, MaterialiseError> {
    let place = Place::find(folders, src)?;
    place.open(&place.below.clone())
}

/// Where a source is on the host: beneath which allowed folders.
pub(super) struct Place {
    whole: PathBuf,
    /// Beneath each of the allowed folders: the path there.
    below: Vec<(PathBuf, PathBuf)>,
}

impl Place {
    /// Checks by its text where a source is.
    pub(super) fn find(folders: &HostFolders, src: &Path) -> Result<Self, MaterialiseError> {
        let whole = normal(&folders.base.join(src));
        let above = std::iter::once(&folders.base).chain(&folders.allowed);
        let below: Vec<_> = above
            .filter_map(|folder| {
                let folder = normal(folder);
                let rest = whole.strip_prefix(&folder).ok()?.to_owned();
                Some((folder, rest))
            })
            .collect();
        if below.is_empty() {
            Err(MaterialiseError::NotAllowed { path: whole })
        } else {
            Ok(Self { whole, below })
        }
    }

    /// Opens the folder above a file, and says the file's name in it.
    pub(super) fn open_parent(self) -> Result<(OwnedFd, OsString), MaterialiseError> {
        let no_file = || host_error(&self.whole, Errno::ISDIR);
        let name = self.whole.file_name().ok_or_else(no_file)?.to_owned();
        let above = self
            .below
            .iter()
            .filter_map(|(folder, rest)| Some((folder.clone(), rest.parent()?.to_owned())));
        let above: Vec<_> = above.collect();
        if above.is_empty() {
            return Err(no_file());
        }
        Ok((self.open(&above)?, name))
    }

    fn open(&self, below: &[(PathBuf, PathBuf)]) -> Result<OwnedFd, MaterialiseError> {
        let mut error = None;
        for (folder, rest) in below {
            match open_in(folder, rest) {
                Ok(fd) => return Ok(fd),
                Err(Errno::XDEV) => {}
                Err(errno) => error = Some(errno),
            }
        }
        Err(match error {
            Some(errno) => {
                MaterialiseError::Host { path: self.whole.clone(), source: errno.into() }
            }
            None => MaterialiseError::NotAllowed { path: self.whole.clone() },
        })
    }
}

/// Opens a folder of our own.
pub(super) fn open_any(folder: &Path) -> Result<OwnedFd, MaterialiseError> {
    openat(CWD, folder, FOLDER, Mode::empty()).map_err(|error| host_error(folder, error))
}

fn open_in(folder: &Path, rest: &Path) -> Result<OwnedFd, Errno> {
    // The allowed folder itself may be reached through links: whoever allowed it meant that.
    let top = openat(CWD, folder, FOLDER, Mode::empty())?;
    if rest.as_os_str().is_empty() {
        return Ok(top);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match openat2(&top, rest, FOLDER, Mode::empty(), resolve) {
        Err(Errno::NOSYS | Errno::PERM) => step_by_step(&top, rest),
        opened => opened,
    }
}

/// For kernels without `openat2`, and containers that forbid it: part by part, no links at all.
fn step_by_step(top: &OwnedFd, rest: &Path) -> Result<OwnedFd, Errno> {
    let mut here = top.try_clone().map_err(|_| Errno::MFILE)?;
    for part in rest.components() {
        let Component::Normal(name) = part else { return Err(Errno::XDEV) };
        here = open_folder(here.as_fd(), name)?;
    }
    Ok(here)
}

/// Opens a folder in another one; not through a link.
pub(super) fn open_folder(above: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(above, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
}

/// Opens a file in a folder; not through a link, and without waiting for the other end of a pipe.
pub(super) fn open_file(above: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(above, name, flags, Mode::empty())
}

/// Takes `.` and `..` out by text alone.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

/// Whether a link that stands in the folder `at` (relative to a tree's top) stays in the tree, by
/// its text.
pub(super) fn stays_inside(at: &Path, target: &Path) -> bool {
    let mut depth = at.components().count();
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return false,
            },
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

pub(super) fn host_error(path: &Path, source: impl Into<io::Error>) -> MaterialiseError {
    MaterialiseError::Host { path: path.to_owned(), source: source.into() }
}
