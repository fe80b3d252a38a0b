//! Contents get their places, and what was there comes back if one of them cannot.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, chmodat, linkat, mkdirat, openat, renameat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use super::{ExtractError, FOLDER, open_above};
use crate::member::{Kind, Member};

/// Tries to find a name that nobody has.
const TRIES: u32 = 64;

/// The folder that contents wait in. Dropped, it goes with everything that is still in it.
pub(super) struct Placing<'a> {
    folder: &'a OwnedFd,
    stage: OwnedFd,
    name: String,
}

/// What was done, to be taken back.
enum Done {
    MadeFolder(PathBuf),
    Made(PathBuf),
    Replaced { path: PathBuf, kept: String },
}

impl<'a> Placing<'a> {
    /// Makes it, under a name that no member has: what waits there is nobody else's.
    pub(super) fn begin(folder: &'a OwnedFd, members: &[Member]) -> Result<Self, ExtractError> {
        let failed = |error: Errno| ExtractError::write(Path::new("."), error);
        for number in 0..TRIES {
            let name = format!(".moat-extract-{}-{number}", std::process::id());
            if members.iter().any(|member| member.path.starts_with(&name)) {
                continue;
            }
            match mkdirat(folder, &*name, Mode::RWXU) {
                Ok(()) => {
                    let stage = openat(folder, &*name, FOLDER, Mode::empty()).map_err(failed)?;
                    return Ok(Self { folder, stage, name });
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(Errno::EXIST))
    }

    pub(super) fn stage(&self) -> &OwnedFd {
        &self.stage
    }

    /// The name under which a member's content waits.
    pub(super) fn name(member: &Member) -> String {
        member.ordinal.to_string()
    }

    /// Links come last: nothing goes through one that the archive brought.
    pub(super) fn place(self, members: &[Member]) -> Result<(), ExtractError> {
        let mut done = Vec::new();
        let is_link = |member: &&Member| matches!(member.kind, Kind::Symlink(_));
        let first = members.iter().filter(|member| !is_link(member));
        for member in first.chain(members.iter().filter(is_link)) {
            if let Err(error) = self.put(member, &mut done) {
                self.take_back(done);
                return Err(ExtractError::write(&member.path, error));
            }
        }
        Ok(())
    }

    fn put(&self, member: &Member, done: &mut Vec<Done>) -> Result<(), Errno> {
        let above = open_above(self.folder, &member.path, |made| {
            done.push(Done::MadeFolder(made.to_owned()));
        })?;
        let name = member.path.file_name().unwrap_or_default();
        let is_there = match statat(&above, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        let path = member.path.clone();
        if member.kind == Kind::Folder && is_there == Some(FileType::Directory) {
            return Ok(());
        }
        let replaces = is_there.is_some();
        if replaces {
            let kept = format!("old-{}", done.len());
            renameat(&above, name, &self.stage, &*kept)?;
            done.push(Done::Replaced { path: path.clone(), kept });
        }
        self.make(member, &above, name)?;
        done.push(match member.kind {
            Kind::Folder => Done::MadeFolder(path),
            _ => Done::Made(path),
        });
        Ok(())
    }

    fn make(&self, member: &Member, above: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        match &member.kind {
            Kind::Folder => {
                mkdirat(above, name, Mode::RWXU)?;
                chmodat(above, name, Mode::from_raw_mode(member.mode), AtFlags::empty())
            }
            Kind::File { .. } => renameat(&self.stage, Self::name(member), above, name),
            Kind::Symlink(target) => symlinkat(target, above, name),
            Kind::Hardlink(to) => {
                let other = open_above(self.folder, to, |_| {})?;
                let to = to.file_name().unwrap_or_default();
                linkat(&other, to, above, name, AtFlags::empty())
            }
        }
    }

    /// As well as it goes: nothing more can be done about what fails here.
    fn take_back(&self, done: Vec<Done>) {
        for step in done.into_iter().rev() {
            let (path, flags) = match &step {
                Done::MadeFolder(path) => (path, AtFlags::REMOVEDIR),
                Done::Made(path) | Done::Replaced { path, .. } => (path, AtFlags::empty()),
            };
            let Ok(above) = open_above(self.folder, path, |_| {}) else { continue };
            let name = path.file_name().unwrap_or_default();
            let _ = match &step {
                Done::Replaced { kept, .. } => renameat(&self.stage, &**kept, &above, name),
                _ => unlinkat(&above, name, flags),
            };
        }
    }
}

impl Drop for Placing<'_> {
    fn drop(&mut self) {
        let Ok(entries) = rustix::fs::Dir::read_from(&self.stage) else { return };
        for entry in entries.flatten() {
            // Files only: what was kept of others is no folder either.
            let _ = unlinkat(&self.stage, entry.file_name(), AtFlags::empty());
        }
        let _ = unlinkat(self.folder, &*self.name, AtFlags::REMOVEDIR);
    }
}
