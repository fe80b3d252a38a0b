//! Names in archives, and where they are in the root.

use std::os::fd::OwnedFd;

use moat_guest::MAX_TAR_NAME;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::{Failure, failed};

/// Bytes of the longest part of a path.
const MAX_PART: usize = 255;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A name in an archive, from the root on, without empty parts and dots; empty: the root itself.
/// A leading slash is left out, as every engine does. `..` is refused.
pub(super) fn inside(name: &[u8], member: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut path = Vec::with_capacity(name.len());
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(Failure::refused(member, "its path has `..` in it")),
            _ if part.len() > MAX_PART => {
                return Err(Failure::refused(member, "a part of its path is over 255 bytes long"));
            }
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    if path.len() >= MAX_TAR_NAME {
        return Err(Failure::refused(member, "its path is too long"));
    }
    Ok(path)
}

/// The folder of a path and the name in it. The root has no name.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (path.get(..slash)?, path.get(slash + 1..)?),
        None => (b"", path),
    })
}

/// Opens folders, and remembers the one that was opened last: members of a folder stand together.
#[derive(Default)]
pub(super) struct Folders {
    last: Option<(Vec<u8>, std::rc::Rc<OwnedFd>)>,
}

impl Folders {
    /// To be called when something was removed, which the folder may have been a part of.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// The folder at a path; links on the way are followed, within the root. With `make`, folders
    /// that are not there are made.
    pub(super) fn open(
        &mut self,
        path: &[u8],
        make: bool,
        member: &[u8],
    ) -> Result<std::rc::Rc<OwnedFd>, Failure> {
        if let Some((last, folder)) = &self.last
            && last == path
        {
            return Ok(folder.clone());
        }
        let opened = match open(path) {
            Err(Errno::NOENT) if make => {
                make_all(path).map_err(failed("make the folder of", member))?;
                open(path)
            }
            opened => opened,
        };
        let folder = std::rc::Rc::new(opened.map_err(failed("enter the folder of", member))?);
        self.last = Some((path.to_vec(), folder.clone()));
        Ok(folder)
    }
}

fn open(path: &[u8]) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, from_root(path).as_slice(), FOLDER, Mode::empty())
}

fn from_root(path: &[u8]) -> Vec<u8> {
    [b"/", path].concat()
}

fn make_all(path: &[u8]) -> rustix::io::Result<()> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in ends.chain([path.len()]) {
        let part = from_root(path.get(..end).unwrap_or_default());
        match rustix::fs::mkdirat(CWD, part.as_slice(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
