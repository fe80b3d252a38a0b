//! Putting a whole file in the place of another.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, openat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;

use super::resolve::Target;

/// A whole new content beside the file that it is to replace.
pub(super) struct Prepared(String);

impl Prepared {
    pub(super) fn name(&self) -> &str {
        &self.0
    }

    pub(super) fn discard(&self, target: &Target<'_>) {
        let _ = unlinkat(&target.parent, self.name(), AtFlags::empty());
    }
}

/// Writes the content into a temporary file beside the target.
pub(super) fn prepare(target: &Target<'_>, content: &[u8], mode: u32) -> io::Result<Prepared> {
    let (prepared, file) = temporary(target)?;
    let written = write_all(&file, content)
        .and_then(|()| Ok(fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?));
    match written {
        Ok(()) => Ok(prepared),
        Err(error) => {
            prepared.discard(target);
            Err(error)
        }
    }
}

/// Writes the content into a temporary file beside the target and renames it.
pub(super) fn replace(target: &Target<'_>, content: &[u8], mode: u32) -> io::Result<()> {
    let prepared = prepare(target, content, mode)?;
    renameat(&target.parent, prepared.name(), &target.parent, target.name)
        .inspect_err(|_| prepared.discard(target))?;
    Ok(())
}

fn temporary(target: &Target<'_>) -> io::Result<(Prepared, OwnedFd)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    // Drawn, so that nobody can be there first.
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, GetRandomFlags::empty())?;
    let prepared = Prepared(format!(".moat-{:016x}.tmp", u64::from_le_bytes(random)));
    let file = openat(&target.parent, prepared.name(), flags, Mode::from_raw_mode(0o600))?;
    Ok((prepared, file))
}

/// Writes all bytes at the file's position.
pub(super) fn write_all(file: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&file, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
