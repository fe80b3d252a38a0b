//! Files, folders and mounts of the new root.

use core::ffi::{CStr, c_char, c_int};
use core::ptr::null;

use super::{Errno, check, check_long, close};

/// Mounts and unmounts here no longer reach the host, nor the host's here.
pub(crate) fn make_private(path: &CStr) -> Result<(), Errno> {
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the path ends with a zero byte; the other texts are not looked at for these flags.
    check(unsafe { libc::mount(null(), path.as_ptr(), null(), flags, null()) }).map(|_| ())
}

/// Mounts a fresh file system.
pub(crate) fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: u32,
    options: &CStr,
) -> Result<(), Errno> {
    // SAFETY: all texts end with a zero byte and live through the call.
    let answer = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            libc::c_ulong::from(flags),
            options.as_ptr().cast(),
        )
    };
    check(answer).map(|_| ())
}

/// The tree behind a descriptor appears at `target`, with all mounts beneath it.
pub(crate) fn bind(source: c_int, target: &CStr) -> Result<(), Errno> {
    let mut path = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0";
    let mut rest = source.unsigned_abs();
    let digits = rest.checked_ilog10().unwrap_or(0) as usize + 1;
    for place in path.iter_mut().skip(14).take(digits).rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::MALFORMED)?;
    bind_path(path, target)
}

/// The same from a path.
pub(crate) fn bind_path(source: &CStr, target: &CStr) -> Result<(), Errno> {
    let flags = libc::MS_BIND | libc::MS_REC;
    // SAFETY: both texts end with a zero byte; the others are not looked at for these flags.
    let answer = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), null(), flags, null()) };
    check(answer).map(|_| ())
}

/// The current folder becomes the root of everything, and the old root goes away.
pub(crate) fn become_root_directory() -> Result<(), Errno> {
    let here: *const c_char = c".".as_ptr();
    // SAFETY: both texts end with a zero byte. With both the same, the old root comes to lie over
    // the new one, where the next call finds it.
    check_long(unsafe { libc::syscall(libc::SYS_pivot_root, here, here) })?;
    // SAFETY: as above.
    check(unsafe { libc::umount2(here, libc::MNT_DETACH) })?;
    chdir(c"/")
}

pub(crate) fn chdir(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the path ends with a zero byte.
    check(unsafe { libc::chdir(path.as_ptr()) }).map(|_| ())
}

/// Makes a folder; one that is there is kept as it is.
pub(crate) fn mkdir(path: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: the path ends with a zero byte.
    match check(unsafe { libc::mkdir(path.as_ptr(), mode) }) {
        Err(Errno(libc::EEXIST)) => Ok(()),
        made => made.map(|_| ()),
    }
}

pub(crate) fn chmod(path: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: the path ends with a zero byte.
    check(unsafe { libc::chmod(path.as_ptr(), mode) }).map(|_| ())
}

/// Gives what is behind a descriptor, itself, to a user and a group.
pub(crate) fn give(fd: c_int, uid: u32, gid: u32) -> Result<(), Errno> {
    let here: &CStr = c"";
    // SAFETY: the path ends with a zero byte.
    check(unsafe { libc::fchownat(fd, here.as_ptr(), uid, gid, libc::AT_EMPTY_PATH) }).map(|_| ())
}

/// Makes a file with this content. No step follows a link that a sandboxed program could have
/// made: none has run yet.
pub(crate) fn write_file(path: &CStr, mode: u32, content: &[u8]) -> Result<(), Errno> {
    write_to(path, libc::O_CREAT | libc::O_EXCL, mode, content)
}

/// Writes into a file of the kernel that is there.
pub(crate) fn write_setting(path: &CStr, content: &[u8]) -> Result<(), Errno> {
    write_to(path, 0, 0, content)
}

fn write_to(path: &CStr, flags: c_int, mode: u32, content: &[u8]) -> Result<(), Errno> {
    let flags = flags | libc::O_WRONLY | libc::O_CLOEXEC;
    // SAFETY: the path ends with a zero byte.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags, mode) })?;
    let done = if content.is_empty() { Ok(()) } else { write(fd, content) };
    close(fd);
    done
}

/// Opens a file beneath a folder.
pub(crate) fn open_at(folder: c_int, path: &CStr, flags: c_int) -> Result<c_int, Errno> {
    let flags = flags | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // SAFETY: the path ends with a zero byte; nothing is made, so no mode is looked at.
    check(unsafe { libc::openat(folder, path.as_ptr(), flags) })
}

/// Gives something beneath a folder another name there.
pub(crate) fn rename_at(folder: c_int, from: &CStr, to: &CStr) -> Result<(), Errno> {
    // SAFETY: both texts end with a zero byte.
    check(unsafe { libc::renameat(folder, from.as_ptr(), folder, to.as_ptr()) }).map(|_| ())
}

/// Writes all of it.
pub(crate) fn write(fd: c_int, content: &[u8]) -> Result<(), Errno> {
    // SAFETY: the buffer is live and of the given length.
    let written = unsafe { libc::write(fd, content.as_ptr().cast(), content.len()) };
    if written == content.len() as isize { Ok(()) } else { Err(Errno::last()) }
}

/// Reads one byte; `None`: there is none.
pub(crate) fn read_byte(fd: c_int) -> Result<Option<u8>, Errno> {
    let mut byte = 0_u8;
    // SAFETY: there is room for one byte.
    match unsafe { libc::read(fd, (&raw mut byte).cast(), 1) } {
        1 => Ok(Some(byte)),
        0 => Ok(None),
        _ => Err(Errno::last()),
    }
}

pub(crate) fn symlink(target: &CStr, path: &CStr) -> Result<(), Errno> {
    // SAFETY: both texts end with a zero byte.
    check(unsafe { libc::symlink(target.as_ptr(), path.as_ptr()) }).map(|_| ())
}
