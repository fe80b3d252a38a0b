//! Making paths as a checkpoint says they were.

use std::io;
use std::os::fd::AsFd;

use moat_guest::{ApplyKind, ApplyRecord, Failure, RawBytes, Xattrs};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::identity::Assumed;
use super::remove::remove_now;
use super::resolve::{Path, Target};
use super::{Beneath, NO_FOLLOW, data, os_failure};

/// Makes what the records say, over what is there.
pub(super) fn apply(beneath: &Beneath<'_>, records: &[u8]) -> Result<(), Failure> {
    for_each(records, |record, path| {
        let made = match &record.kind {
            ApplyKind::Dir => make_folder(beneath, path, record),
            _ => make_entry(beneath, path, record),
        };
        made.map_err(|error| error.into_failure("make", path))
    })
}

/// Sets what the records say about modes, owners and times, in their order: a folder has to come
/// after what is in it.
pub(super) fn finish(beneath: &Beneath<'_>, records: &[u8]) -> Result<(), Failure> {
    let gives = beneath.assumed.as_ref().filter(|assumed| assumed.may_give_away());
    for_each(records, |record, path| {
        settle(beneath, path, record, gives).map_err(|error| error.into_failure("finish", path))
    })
}

/// An error of a step, or one that already says where.
enum ApplyError {
    Os(io::Error),
    Failure(Failure),
}

impl ApplyError {
    fn into_failure(self, operation: &str, path: &Path) -> Failure {
        match self {
            Self::Os(error) => os_failure(operation, path.bytes(), &error),
            Self::Failure(failure) => failure,
        }
    }
}

impl From<io::Error> for ApplyError {
    fn from(error: io::Error) -> Self {
        Self::Os(error)
    }
}

impl From<Errno> for ApplyError {
    fn from(error: Errno) -> Self {
        Self::Os(error.into())
    }
}

impl From<Failure> for ApplyError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

fn for_each(
    mut records: &[u8],
    mut visit: impl FnMut(&ApplyRecord, &Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    while !records.is_empty() {
        let record = ApplyRecord::decode(&mut records)
            .map_err(|error| Failure::Unsupported { what: format!("apply: {error}") })?;
        let path = Path::parse(&RawBytes(record.path.clone()))?;
        visit(&record, &path)?;
    }
    Ok(())
}

fn make_folder(beneath: &Beneath<'_>, path: &Path, record: &ApplyRecord) -> Result<(), ApplyError> {
    if !path.is_empty() {
        let target = beneath.target_with_parents(path)?;
        // Only its owner, and writable, until all that is in it was made.
        let mode = Mode::from_raw_mode(0o700);
        match rustix::fs::mkdirat(&target.parent, target.name, mode) {
            Ok(()) => {}
            Err(Errno::EXIST) if is_folder(&target)? => {}
            Err(Errno::EXIST) => {
                remove_now(beneath, path)?;
                rustix::fs::mkdirat(&target.parent, target.name, mode)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let folder = beneath.open_folder(path)?;
    set_xattrs(&folder, &record.xattrs)?;
    Ok(())
}

fn is_folder(target: &Target<'_>) -> rustix::io::Result<bool> {
    let stat = rustix::fs::statat(&target.parent, target.name, NO_FOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
}

fn make_entry(beneath: &Beneath<'_>, path: &Path, record: &ApplyRecord) -> Result<(), ApplyError> {
    let target = beneath.target_with_parents(path)?;
    remove_now(beneath, path)?;
    match &record.kind {
        ApplyKind::Dir => Ok(()),
        ApplyKind::File(size, content) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o600);
            let file = rustix::fs::openat(&target.parent, target.name, flags, mode)?;
            set_xattrs(&file, &record.xattrs)?;
            let Some(content) = content else {
                rustix::fs::ftruncate(&file, *size)?;
                return Ok(());
            };
            data::write_around_holes(&file, content)?;
            drop(file);
            set_metadata(&target, record, false)
        }
        ApplyKind::Symlink(link) => {
            rustix::fs::symlinkat(link.as_slice(), &target.parent, target.name)?;
            set_metadata(&target, record, true)
        }
        ApplyKind::Hardlink(other) => {
            let other = Path::parse(&RawBytes(other.clone()))?;
            let source = beneath.target(&other)?;
            rustix::fs::linkat(
                &source.parent,
                source.name,
                &target.parent,
                target.name,
                AtFlags::empty(),
            )?;
            Ok(())
        }
    }
}

/// Sets what `finish` sets, if what is there is of the kind that the record says.
fn settle(
    beneath: &Beneath<'_>,
    path: &Path,
    record: &ApplyRecord,
    gives: Option<&Assumed<'_>>,
) -> Result<(), ApplyError> {
    let Some((_, _)) = path.split_last() else {
        let root = beneath.open_folder(path)?;
        return set_metadata(&Target { parent: root, name: b"." }, record, false);
    };
    let target = beneath.target(path)?;
    let stat = rustix::fs::statat(&target.parent, target.name, NO_FOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let expected = match record.kind {
        ApplyKind::Dir => kind.is_dir(),
        ApplyKind::File(..) | ApplyKind::Hardlink(_) => kind.is_file(),
        ApplyKind::Symlink(_) => kind.is_symlink(),
    };
    if !expected {
        return Err(Errno::STALE.into());
    }
    set_metadata(&target, record, kind.is_symlink())?;
    match gives {
        Some(assumed) if (stat.st_uid, stat.st_gid) != (record.uid, record.gid) => {
            give(&target, record, kind.is_symlink(), assumed)
        }
        _ => Ok(()),
    }
}

/// Gives what was made for it to its owner. What belongs to another than the commands' user was not
/// made for it, and stays whose it is.
fn give(
    target: &Target<'_>,
    record: &ApplyRecord,
    is_link: bool,
    assumed: &Assumed<'_>,
) -> Result<(), ApplyError> {
    let flags = if is_link { OFlags::PATH } else { OFlags::RDONLY | OFlags::NONBLOCK };
    let flags = flags | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&target.parent, target.name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let expected = if is_link { kind.is_symlink() } else { kind.is_file() || kind.is_dir() };
    if stat.st_uid != assumed.user() || !expected {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(record.uid), Gid::from_raw(record.gid));
    let given = assumed.giving_away(|| {
        rustix::fs::chownat(&file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        if !is_link {
            // A change of owner takes set-id bits away.
            rustix::fs::fchmod(&file, Mode::from_raw_mode(record.mode & 0o7777))?;
        }
        Ok(())
    });
    match given {
        // Nobody here has that number, or the one that it has now.
        Err(Errno::INVAL | Errno::PERM) => Ok(()),
        given => Ok(given?),
    }
}

fn set_metadata(
    target: &Target<'_>,
    record: &ApplyRecord,
    is_link: bool,
) -> Result<(), ApplyError> {
    let (uid, gid) = (Uid::from_raw(record.uid), Gid::from_raw(record.gid));
    match rustix::fs::chownat(&target.parent, target.name, Some(uid), Some(gid), NO_FOLLOW) {
        // Without the right to give files away they stay the commands' own.
        Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    if !is_link {
        // After the owner, because a change of owner takes set-uid away. It follows a link that a
        // command puts there at this moment, with no more rights than that command has.
        let mode = Mode::from_raw_mode(record.mode & 0o7777);
        rustix::fs::chmodat(&target.parent, target.name, mode, AtFlags::empty())?;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: record.mtime_ns.div_euclid(1_000_000_000),
            tv_nsec: record.mtime_ns.rem_euclid(1_000_000_000),
        },
    };
    rustix::fs::utimensat(&target.parent, target.name, &times, NO_FOLLOW)?;
    Ok(())
}

fn set_xattrs(file: impl AsFd, xattrs: &Xattrs) -> rustix::io::Result<()> {
    for (name, value) in xattrs {
        if name.starts_with(b"user.") {
            rustix::fs::fsetxattr(&file, name.as_slice(), value, XattrFlags::empty())?;
        }
    }
    Ok(())
}
