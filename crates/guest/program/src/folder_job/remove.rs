//! Removing trees: without following a link, without recursion, with two descriptors however deep
//! it is.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::{Errno, Result};

use super::{Failure, failed};

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes everything in the root.
pub(super) fn empty_root() -> std::result::Result<(), Failure> {
    let root = openat(CWD, c"/", FOLDER, Mode::empty()).map_err(failed("open", b"/"))?;
    empty(&root).map_err(failed("empty", b"/"))
}

/// Removes whatever has this name; nothing is no error. Answers whether something was there.
pub(super) fn remove(folder: impl AsFd, name: &CStr) -> Result<bool> {
    match unlinkat(folder.as_fd(), name, AtFlags::empty()) {
        Ok(()) => return Ok(true),
        Err(Errno::NOENT) => return Ok(false),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let inner = openat(folder.as_fd(), name, FOLDER, Mode::empty())?;
    empty(&inner)?;
    drop(inner);
    unlinkat(folder, name, AtFlags::REMOVEDIR)?;
    Ok(true)
}

/// Removes everything in a folder.
fn empty(folder: &OwnedFd) -> Result<()> {
    let mut here = openat(folder, c".", FOLDER, Mode::empty())?;
    // Names of the folders between `folder` and `here`.
    let mut names: Vec<CString> = Vec::new();
    loop {
        if let Some(name) = remove_all_but_folders(&here)? {
            here = openat(&here, &*name, FOLDER, Mode::empty())?;
            names.push(name);
            continue;
        }
        let Some(name) = names.pop() else { return Ok(()) };
        here = openat(&here, c"..", FOLDER, Mode::empty())?;
        unlinkat(&here, &*name, AtFlags::REMOVEDIR)?;
    }
}

/// Answers a folder that is not empty, if there is any.
fn remove_all_but_folders(folder: &OwnedFd) -> Result<Option<CString>> {
    loop {
        let mut removed = false;
        for (name, kind) in list(folder)? {
            let flags = match kind {
                FileType::Directory => AtFlags::REMOVEDIR,
                _ => AtFlags::empty(),
            };
            match unlinkat(folder, &*name, flags) {
                Ok(()) => removed = true,
                Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Some(name)),
                Err(error) => return Err(error),
            }
        }
        // Removing while listing may skip names; the last listing has to find nothing.
        if !removed {
            return Ok(None);
        }
    }
}

/// Some hundred names of a folder, with what they are. An empty list: there is nothing.
fn list(folder: &OwnedFd) -> Result<Vec<(CString, FileType)>> {
    const SOME: usize = 512;
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        names.push((name.to_owned(), kind(folder, name, entry.file_type())?));
        if names.len() == SOME {
            break;
        }
    }
    Ok(names)
}

/// All names of a folder; its reader bounds how many there can be.
pub(super) fn list_all(folder: &OwnedFd) -> Result<Vec<(CString, FileType)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push((name.to_owned(), kind(folder, name, entry.file_type())?));
        }
    }
    Ok(names)
}

fn kind(folder: &OwnedFd, name: &CStr, said: FileType) -> Result<FileType> {
    if said != FileType::Unknown {
        return Ok(said);
    }
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}
