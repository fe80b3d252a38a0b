//! What is known about a path.

use std::io;
use std::os::fd::BorrowedFd;

use moat_guest::{MAX_XATTRS, StatKind, StatRecord, Xattrs};
use rustix::fs::{AtFlags, FileType, StatxFlags, StatxTimestamp, statx};
use rustix::io::Errno;

use super::NO_FOLLOW;

/// Bytes of a list of attribute names, the kernel's own limit.
const MAX_NAMES: usize = 64 << 10;

/// A folder whose entries are looked at.
///
/// It is the working folder of this process meanwhile: extended attributes cannot be asked for by
/// folder and name, and this process has one thread and uses its working folder for nothing else.
pub(super) struct Folder<'a>(BorrowedFd<'a>);

impl<'a> Folder<'a> {
    pub(super) fn enter(folder: BorrowedFd<'a>) -> io::Result<Self> {
        rustix::process::fchdir(folder)?;
        Ok(Self(folder))
    }

    /// Reads what is known about an entry; with an empty name, about the folder itself.
    pub(super) fn stat(&self, name: &[u8], path: Vec<u8>) -> io::Result<StatRecord> {
        let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { NO_FOLLOW };
        let stat = statx(self.0, name, flags, StatxFlags::BASIC_STATS)?;
        let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::RegularFile => StatKind::File,
            FileType::Directory => StatKind::Dir,
            FileType::Symlink => {
                StatKind::Symlink(rustix::fs::readlinkat(self.0, name, Vec::new())?.into_bytes())
            }
            _ => StatKind::Other,
        };
        let may_have_attributes = matches!(kind, StatKind::File | StatKind::Dir);
        Ok(StatRecord {
            path,
            mode: u32::from(stat.stx_mode) & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            mtime_ns: nanoseconds(&stat.stx_mtime),
            ctime_ns: nanoseconds(&stat.stx_ctime),
            inode: stat.stx_ino,
            links: stat.stx_nlink.into(),
            xattrs: if may_have_attributes { xattrs(name)? } else { Xattrs::new() },
            kind,
        })
    }
}

fn nanoseconds(time: &StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.into())
}

/// The `user.*` attributes of an entry of the working folder.
fn xattrs(name: &[u8]) -> io::Result<Xattrs> {
    let name = if name.is_empty() { b".".as_slice() } else { name };
    let mut xattrs = Xattrs::new();
    let mut total = 0;
    for attribute in attribute_names(name)? {
        let Some(value) = attribute_value(name, &attribute)? else { continue };
        total += attribute.len() + value.len();
        if total > MAX_XATTRS {
            return Err(Errno::TOOBIG.into());
        }
        xattrs.insert(attribute, value);
    }
    Ok(xattrs)
}

fn attribute_names(name: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut small = [0; 256];
    let mut large = Vec::new();
    let names = match rustix::fs::llistxattr(name, &mut small[..]) {
        Ok(length) => small.get(..length).unwrap_or_default(),
        Err(Errno::RANGE) => {
            large.resize(MAX_NAMES, 0);
            let length = rustix::fs::llistxattr(name, &mut large[..])?;
            large.get(..length).unwrap_or_default()
        }
        Err(Errno::OPNOTSUPP) => &[],
        Err(error) => return Err(error.into()),
    };
    let names = names.split(|byte| *byte == 0).filter(|name| name.starts_with(b"user."));
    Ok(names.map(<[u8]>::to_vec).collect())
}

/// The value of an attribute; `None` if it is gone or may not be read.
fn attribute_value(name: &[u8], attribute: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; MAX_NAMES];
    match rustix::fs::lgetxattr(name, attribute, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::ACCESS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
