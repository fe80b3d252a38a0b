use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use moat_core::BlobId;
use moat_snapshot::Snapshots;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
    fchmod, fchown, fsync, futimens, mkdirat, openat, renameat, renameat_with, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use super::{CHUNK, Facts, Host, Seen};
use crate::error::WriteBackError;
use crate::step::{State, Step};

/// From this many steps on, one sync of the whole file system is cheaper than one for each file.
const MANY: usize = 32;

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is as wanted, and was not before.
    Done,
    /// It was as wanted already.
    Already,
    /// Somebody else changed the path; it is as he left it.
    Conflict,
    /// A folder that was to go still has something in it that is not ours.
    NotEmpty,
}

impl Host {
    /// Takes a step, whatever an earlier, interrupted try left behind. `number` names its temporary
    /// file.
    pub(crate) fn take(&self, step: &Step, number: usize) -> Result<Outcome, WriteBackError> {
        let (Some(parent), Some(name)) = (self.parent(&step.path)?, step.path.file_name()) else {
            let gone = step.after == State::Absent;
            return Ok(if gone { Outcome::Already } else { Outcome::Conflict });
        };
        let temporary = |kind| OsString::from(format!(".moat-{}-{number}.{kind}", self.mark));
        let (unfinished, whole) = (temporary("new"), temporary("swap"));
        let place = Place { host: self, parent, name, unfinished, whole, step };
        place.clean_up()?;
        let seen = self.look(&step.path)?;
        // Also where only the mode of a folder differs, which `matches` does not tell.
        if seen.state == step.after {
            return Ok(Outcome::Already);
        }
        if !seen.state.matches(&step.before) {
            return Ok(Outcome::Conflict);
        }
        match &step.after {
            State::Absent if seen.state.is_dir() => place.remove_folder(),
            State::Absent => place.remove(&seen),
            State::File { content, mode, .. } => place.write_file(&seen, *content, *mode),
            State::Link { target } => place.write_link(&seen, target),
            State::Dir { mode } => place.make_folder(&seen, *mode),
            State::Other => Ok(Outcome::Conflict),
        }
    }

    /// Makes what these steps wrote durable.
    pub(crate) fn sync(&self, steps: &[Step]) -> Result<(), WriteBackError> {
        if steps.len() > MANY {
            return rustix::fs::syncfs(&self.top)
                .map_err(|error| WriteBackError::host("sync", self.path.clone(), error));
        }
        for step in steps {
            let (Some(parent), Some(name)) = (self.parent(&step.path)?, step.path.file_name())
            else {
                continue;
            };
            let fail = |error| self.error("sync", &step.path, error);
            // Only what is a file now; whoever put something else there sees to that himself.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            if let (State::File { .. }, Ok(file)) =
                (&step.after, openat(&parent, name, flags, Mode::empty()))
            {
                fsync(&file).map_err(fail)?;
            }
            fsync(&parent).map_err(fail)?;
        }
        Ok(())
    }
}

/// Where one step happens.
struct Place<'a> {
    host: &'a Host,
    parent: OwnedFd,
    name: &'a OsStr,
    /// The name of what is being made; only ever ours.
    unfinished: OsString,
    /// The name of what is whole and about to get its place, or was just taken out of it.
    whole: OsString,
    step: &'a Step,
}

impl Place<'_> {
    /// Before every change of the disk.
    fn tick(&self) -> Result<(), WriteBackError> {
        #[cfg(test)]
        if self.host.kill.is_dead() {
            return Err(self.error("go on with", Errno::CANCELED));
        }
        Ok(())
    }

    fn error(&self, verb: &'static str, error: Errno) -> WriteBackError {
        self.host.error(verb, &self.step.path, error)
    }

    /// Deals with what an interrupted try left. What is neither as before nor as after is somebody
    /// else's edit that was swapped out in the very moment of the kill: it goes back.
    fn clean_up(&self) -> Result<(), WriteBackError> {
        self.forget(&self.unfinished)?;
        let left = self.host.look_in(&self.parent, &self.whole, &self.step.path)?;
        let Some(left) = left else { return Ok(()) };
        let is_known = |state: &State| state == &self.step.before || state == &self.step.after;
        if is_known(&left.state) {
            return self.forget(&self.whole);
        }
        let now = self.host.look(&self.step.path)?;
        // If the place is taken by yet another edit, both are kept.
        if is_known(&now.state) { self.swap_back(now.state == State::Absent) } else { Ok(()) }
    }

    /// Removes a temporary file or folder.
    fn forget(&self, name: &OsStr) -> Result<(), WriteBackError> {
        let fail = |error| self.error("clean up beside", error);
        match statat(&self.parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(fail(error)),
            Ok(stat) => {
                self.tick()?;
                let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                unlinkat(&self.parent, name, flags).map_err(fail)
            }
        }
    }

    /// Puts what was swapped out back in its place.
    fn swap_back(&self, is_absent: bool) -> Result<(), WriteBackError> {
        self.tick()?;
        let flags = if is_absent { RenameFlags::NOREPLACE } else { RenameFlags::EXCHANGE };
        renameat_with(&self.parent, &self.whole, &self.parent, self.name, flags)
            .map_err(|error| self.error("put back", error))?;
        if is_absent { Ok(()) } else { self.forget(&self.whole) }
    }

    /// Whether what was swapped out is what was looked at.
    fn is_same(&self, seen: &Seen) -> Result<bool, WriteBackError> {
        let stat = statat(&self.parent, &self.whole, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.error("look at", error))?;
        Ok(seen.facts == Some(Facts::of(&stat)))
    }

    fn write_file(
        &self,
        seen: &Seen,
        content: BlobId,
        mode: u32,
    ) -> Result<Outcome, WriteBackError> {
        self.tick()?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.parent, &self.unfinished, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| self.error("write", error))?;
        let mut file = File::from(file);
        self.fill(&mut file, content)?;
        self.dress(&file, mode)?;
        self.put_in_place(seen)
    }

    fn fill(&self, file: &mut File, content: BlobId) -> Result<(), WriteBackError> {
        let snapshots = &self.host.snapshots;
        let mut hasher = snapshots.hasher();
        let mut offset = 0;
        loop {
            let part = snapshots.read_part(content, offset, CHUNK);
            let part = self.host.runtime.block_on(part)?;
            if part.is_empty() {
                break;
            }
            self.tick()?;
            hasher.update(&part);
            offset += part.len() as u64;
            file.write_all(&part).map_err(|source| {
                WriteBackError::host("write", self.host.path.join(&self.step.path), source)
            })?;
        }
        if hasher.id() == content { Ok(()) } else { Err(Snapshots::damaged(content).into()) }
    }

    /// Owner, time and mode.
    fn dress(&self, file: &File, mode: u32) -> Result<(), WriteBackError> {
        if let Ok(old) = statat(&self.parent, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            // Best effort: without privileges a file of somebody else becomes the caller's.
            let (uid, gid) = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
            let _ = fchown(file, Some(uid), Some(gid));
        }
        if let Some(mtime_ns) = self.step.after_mtime_ns {
            let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            let last_modification = Timespec {
                tv_sec: mtime_ns.div_euclid(1_000_000_000),
                tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
            };
            let times = Timestamps { last_access: omit, last_modification };
            futimens(file, &times).map_err(|error| self.error("set the time of", error))?;
        }
        fchmod(file, Mode::from_raw_mode(mode & 0o777))
            .map_err(|error| self.error("set the mode of", error))
    }

    fn write_link(&self, seen: &Seen, target: &Path) -> Result<Outcome, WriteBackError> {
        self.tick()?;
        symlinkat(target, &self.parent, &self.unfinished)
            .map_err(|error| self.error("write", error))?;
        self.put_in_place(seen)
    }

    /// Gives the temporary file its name. If something is there, the two are swapped first, and
    /// what came out is looked at again: an edit of the last moment goes back.
    fn put_in_place(&self, seen: &Seen) -> Result<Outcome, WriteBackError> {
        let (from, to) = (&self.parent, &self.parent);
        self.tick()?;
        renameat(from, &self.unfinished, to, &self.whole)
            .map_err(|error| self.error("write", error))?;
        self.tick()?;
        if seen.state == State::Absent {
            return match renameat_with(from, &self.whole, to, self.name, RenameFlags::NOREPLACE) {
                Ok(()) => Ok(Outcome::Done),
                Err(Errno::EXIST) => self.forget(&self.whole).map(|()| Outcome::Conflict),
                Err(error) => Err(self.error("write", error)),
            };
        }
        match renameat_with(from, &self.whole, to, self.name, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            // A file system that cannot swap.
            Err(Errno::INVAL | Errno::NOSYS) => {
                return renameat(from, &self.whole, to, self.name)
                    .map(|()| Outcome::Done)
                    .map_err(|error| self.error("write", error));
            }
            // Removed meanwhile.
            Err(Errno::NOENT) => return self.forget(&self.whole).map(|()| Outcome::Conflict),
            Err(error) => return Err(self.error("write", error)),
        }
        if !self.is_same(seen)? {
            return self.swap_back(false).map(|()| Outcome::Conflict);
        }
        self.forget(&self.whole).map(|()| Outcome::Done)
    }

    fn remove(&self, seen: &Seen) -> Result<Outcome, WriteBackError> {
        self.tick()?;
        let moved = renameat_with(
            &self.parent,
            self.name,
            &self.parent,
            &self.whole,
            RenameFlags::NOREPLACE,
        );
        match moved {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(Outcome::Already),
            Err(error) => return Err(self.error("remove", error)),
        }
        if !self.is_same(seen)? {
            return self.swap_back(true).map(|()| Outcome::Conflict);
        }
        self.forget(&self.whole).map(|()| Outcome::Done)
    }

    fn remove_folder(&self) -> Result<Outcome, WriteBackError> {
        self.tick()?;
        match unlinkat(&self.parent, self.name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(Outcome::Done),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(Outcome::NotEmpty),
            Err(error) => Err(self.error("remove", error)),
        }
    }

    fn make_folder(&self, seen: &Seen, mode: u32) -> Result<Outcome, WriteBackError> {
        let fail = |error| self.error("make", error);
        if seen.state.is_dir() {
            return self.set_mode(self.name, mode).map(|()| Outcome::Done);
        }
        self.tick()?;
        mkdirat(&self.parent, &self.unfinished, Mode::from_raw_mode(0o700)).map_err(fail)?;
        self.set_mode(&self.unfinished, mode)?;
        self.put_in_place(seen)
    }

    /// Sets the nine permission bits of a folder; the others stay.
    fn set_mode(&self, name: &OsStr, mode: u32) -> Result<(), WriteBackError> {
        let fail = |error| self.error("set the mode of", error);
        let flags = super::FOLDER | OFlags::NOFOLLOW;
        let folder = openat(&self.parent, name, flags, Mode::empty()).map_err(fail)?;
        let special = rustix::fs::fstat(&folder).map_err(fail)?.st_mode & 0o7000;
        self.tick()?;
        fchmod(&folder, Mode::from_raw_mode(special | (mode & 0o777))).map_err(fail)
    }
}
