//! Names by which a layer takes away what the layers below it have.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::ops::Bound;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use super::remove::{list_all, remove};
use super::{Failure, failed};

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Bytes of names that are remembered.
const MAX_REMEMBERED: usize = 256 << 20;

/// What a name means.
pub(super) enum Meaning<'a> {
    /// Itself.
    File,
    /// The file or folder of this name is taken away.
    Hide(&'a [u8]),
    /// Everything in the folder is taken away.
    HideAll,
    /// Something of an engine's own, which means nothing here.
    Nothing,
}

pub(super) fn meaning<'a>(name: &'a [u8], member: &[u8]) -> Result<Meaning<'a>, Failure> {
    Ok(match name.strip_prefix(PREFIX) {
        None => Meaning::File,
        Some(_) if name == OPAQUE => Meaning::HideAll,
        Some(hidden) if hidden.starts_with(PREFIX) => Meaning::Nothing,
        Some(b"" | b"." | b"..") => {
            return Err(Failure::refused(member, "it takes away a folder that it is in"));
        }
        Some(hidden) => Meaning::Hide(hidden),
    })
}

/// The paths that a layer made, which its own whiteouts leave alone.
#[derive(Default)]
pub(super) struct Made {
    paths: BTreeSet<Vec<u8>>,
    bytes: usize,
}

impl Made {
    pub(super) fn note(&mut self, path: &[u8]) -> Result<(), Failure> {
        const OVERHEAD: usize = 64;
        self.bytes += path.len() + OVERHEAD;
        if self.bytes > MAX_REMEMBERED {
            return Err(Failure::refused(path, "the layer has too many names"));
        }
        self.paths.insert(path.to_vec());
        Ok(())
    }

    /// Whether the layer made it, or something in it.
    fn has(&self, path: &[u8]) -> bool {
        if self.paths.contains(path) {
            return true;
        }
        let start = [path, b"/"].concat();
        let from = (Bound::Included(start.as_slice()), Bound::Unbounded);
        let mut following = self.paths.range::<[u8], _>(from);
        following.next().is_some_and(|next| next.starts_with(&start))
    }

    /// Takes away what lower layers have at a path.
    pub(super) fn hide(&self, folder: &OwnedFd, path: &[u8], name: &[u8]) -> Result<(), Failure> {
        let name = CString::new(name).map_err(failed("read the name of", path))?;
        if !self.has(path) {
            return remove(folder, &name).map(drop).map_err(failed("take away", path));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(folder.as_fd(), &*name, flags, Mode::empty()) {
            Ok(inner) => self.hide_all(&inner, path),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(failed("take away", path)(error)),
        }
    }

    /// Takes away what lower layers have in a folder. Goes only as deep as the layer's own names.
    pub(super) fn hide_all(&self, folder: &OwnedFd, path: &[u8]) -> Result<(), Failure> {
        for (name, kind) in list_all(folder).map_err(failed("list", path))? {
            let mut inner = path.to_vec();
            if !inner.is_empty() {
                inner.push(b'/');
            }
            inner.extend_from_slice(name.to_bytes());
            if kind == FileType::Directory || !self.has(&inner) {
                self.hide(folder, &inner, name.to_bytes())?;
            }
        }
        Ok(())
    }
}
