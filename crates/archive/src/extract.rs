//! Into a folder of the host: all of it or nothing.
//!
//! What is there is looked at first; then contents are written beside it, into a folder of their
//! own; only when all are there do they get their places, by renaming. No link that is there is
//! followed: every folder on the way is opened for itself.

mod place;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, chmodat, fchmod, mkdirat, openat, statat};
use rustix::io::Errno;

use crate::archive::{Archive, ReadError};
use crate::error::{ArchiveError, Refusal};
use crate::member::Kind;
use crate::rules::Trust;
use place::Placing;

/// Why nothing was extracted.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The archive is refused.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The folder could not be written.
    #[error("cannot write `{path}`: {source}")]
    Write {
        /// The member's path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl ExtractError {
    fn write(path: &Path, source: impl Into<io::Error>) -> Self {
        let path = crate::error::shown(path.as_os_str().as_bytes());
        Self::Write { path, source: source.into() }
    }
}

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Puts a checked archive into a folder. Files that are there are replaced, others stay. Blocks.
///
/// # Errors
/// If something that is there stands in the way, or a write fails; the folder is as it was then.
pub fn extract<S: Read + Seek>(
    archive: &mut Archive<S>,
    folder: &OwnedFd,
) -> Result<(), ExtractError> {
    check_existing(archive, folder)?;
    let placing = Placing::begin(folder, archive.members())?;
    stage(archive, &placing)?;
    placing.place(archive.members())
}

/// Looks at everything that members would replace or go through.
fn check_existing<S: Read + Seek>(
    archive: &Archive<S>,
    folder: &OwnedFd,
) -> Result<(), ExtractError> {
    let is_restore = archive.trust() == Trust::Restore;
    // Folders that take the place of something else: whatever was there is gone by then.
    let mut replaced: HashSet<&Path> = HashSet::new();
    for member in archive.members() {
        let refused = |reason| {
            let name = member.path.as_os_str().as_bytes();
            ExtractError::Archive(ArchiveError::refused(name, reason))
        };
        let above: Vec<_> = member.path.ancestors().skip(1).collect();
        if above.iter().any(|path| replaced.contains(path)) {
            continue;
        }
        let kind = |path: &Path| kind_of(folder, path).map_err(|e| ExtractError::write(path, e));
        for path in above.into_iter().rev().filter(|path| !path.as_os_str().is_empty()) {
            match kind(path)? {
                None => break,
                Some(FileType::Directory) => {}
                Some(FileType::Symlink) => return Err(refused(Refusal::ExistingSymlinkParent)),
                Some(_) => return Err(refused(Refusal::ExistingFile)),
            }
        }
        match (kind(&member.path)?, &member.kind) {
            (None, _) | (Some(FileType::Directory), Kind::Folder) => {}
            (Some(FileType::Symlink), _) if !is_restore => {
                return Err(refused(Refusal::ExistingSymlinkParent));
            }
            (Some(FileType::Directory), _) => return Err(refused(Refusal::ExistingDirectory)),
            (Some(_), Kind::Folder) if is_restore => {
                replaced.insert(&member.path);
            }
            (Some(_), Kind::Folder) => return Err(refused(Refusal::ExistingFile)),
            (Some(_), _) => {}
        }
    }
    Ok(())
}

/// What is at a path; `None` also beneath something that is no folder.
fn kind_of(folder: &OwnedFd, path: &Path) -> Result<Option<FileType>, Errno> {
    let mut here = None;
    let mut parts = path.iter().peekable();
    while let Some(part) = parts.next() {
        let above = here.as_ref().unwrap_or(folder);
        if parts.peek().is_none() {
            return match statat(above, part, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
                Err(Errno::NOENT) => Ok(None),
                Err(error) => Err(error),
            };
        }
        match openat(above, part, FOLDER, Mode::empty()) {
            Ok(next) => here = Some(next),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(FileType::Directory))
}

/// Writes every content under its number.
fn stage<S: Read + Seek>(archive: &mut Archive<S>, to: &Placing<'_>) -> Result<(), ExtractError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let done = archive.read(|member, content| {
        let failed = |error: io::Error| ExtractError::write(&member.path, error);
        let opened = openat(to.stage(), Placing::name(member), flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(opened.map_err(|error| failed(error.into()))?);
        io::copy(content, &mut file).map_err(failed)?;
        fchmod(&file, Mode::from_raw_mode(member.mode)).map_err(|error| failed(error.into()))
    });
    match done {
        Ok(()) => Ok(()),
        Err(ReadError::Archive(error)) => Err(error.into()),
        Err(ReadError::Taker(error)) => Err(error),
    }
}

/// Opens the folder above a path, making what is missing; calls `made` with each that was.
fn open_above(
    folder: &OwnedFd,
    path: &Path,
    mut made: impl FnMut(&Path),
) -> Result<OwnedFd, Errno> {
    let mut here = openat(folder, ".", FOLDER, Mode::empty())?;
    let mut at = std::path::PathBuf::new();
    for part in path.parent().into_iter().flat_map(Path::iter) {
        at.push(part);
        match mkdirat(&here, part, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                // The caller's mask may have taken bits.
                chmodat(&here, part, Mode::from_raw_mode(0o755), AtFlags::empty())?;
                made(&at);
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        here = openat(&here, part, FOLDER, Mode::empty())?;
    }
    Ok(here)
}
