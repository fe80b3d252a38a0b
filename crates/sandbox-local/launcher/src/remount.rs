//! Attributes of mounts, for a whole tree of them.

use core::ffi::{CStr, c_int};
use core::ptr::null;

use crate::sys::{self, Errno, check, check_long};

/// `MOUNT_ATTR_…` that plans use; the kernel's numbers.
const RDONLY: u32 = 1;
const NOSUID: u32 = 2;
const NODEV: u32 = 4;
const NOEXEC: u32 = 8;

#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Gives the mount at `target` and all beneath it these attributes. `old` does it as kernels before
/// 5.12 need it; they are recognised by themselves.
pub(crate) fn set_attributes(target: &CStr, attributes: u32, old: bool) -> Result<(), Errno> {
    const RECURSIVE: u32 = 0x8000;
    if attributes == 0 {
        return Ok(());
    }
    if !old {
        let wanted =
            Attributes { set: u64::from(attributes), clear: 0, propagation: 0, user_namespace: 0 };
        // SAFETY: the path ends with a zero byte; the structure is live and of the given size.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                libc::AT_FDCWD,
                target.as_ptr(),
                RECURSIVE,
                &raw const wanted,
                size_of::<Attributes>(),
            )
        };
        match check_long(answer) {
            Err(Errno(libc::ENOSYS)) => {}
            done => return done.map(|_| ()),
        }
    }
    one_by_one(target, attributes)
}

/// Makes a mount that a plan made itself read-only.
pub(crate) fn read_only(target: &CStr, bind_first: bool) -> Result<(), Errno> {
    if bind_first {
        match sys::bind_path(target, target) {
            Err(error) if error.is_absence() => return Ok(()),
            done => done?,
        }
        return set_attributes(target, RDONLY | NOSUID | NODEV | NOEXEC, false);
    }
    remount(target, RDONLY)
}

/// Adds attributes to one mount. Those that it has are named again: inside a user namespace they
/// cannot be taken away, and leaving one out is refused.
fn remount(target: &CStr, attributes: u32) -> Result<(), Errno> {
    // SAFETY: all-zero is a valid answer to be overwritten; the path ends with a zero byte.
    let has = unsafe {
        let mut answer: libc::statvfs = core::mem::zeroed();
        check(libc::statvfs(target.as_ptr(), &raw mut answer))?;
        answer.f_flag
    };
    let mut flags = libc::MS_REMOUNT | libc::MS_BIND;
    for (attribute, flag, had) in [
        (RDONLY, libc::MS_RDONLY, libc::ST_RDONLY),
        (NOSUID, libc::MS_NOSUID, libc::ST_NOSUID),
        (NODEV, libc::MS_NODEV, libc::ST_NODEV),
        (NOEXEC, libc::MS_NOEXEC, libc::ST_NOEXEC),
        (0, libc::MS_NOATIME, libc::ST_NOATIME),
        (0, libc::MS_NODIRATIME, libc::ST_NODIRATIME),
        (0, libc::MS_RELATIME, libc::ST_RELATIME),
    ] {
        if attributes & attribute != 0 || has & had != 0 {
            flags |= flag;
        }
    }
    // SAFETY: the path ends with a zero byte; the other texts are not looked at for these flags.
    let answer = unsafe { libc::mount(null(), target.as_ptr(), null(), flags, null()) };
    check(answer).map(|_| ())
}

/// More mounts than a host has beneath one system folder.
const MAX_MOUNTS: usize = 256 * 1024;

/// The same for the mount and all beneath it, as the list of mounts names them.
fn one_by_one(target: &CStr, attributes: u32) -> Result<(), Errno> {
    let mut path = [0_u8; 4096];
    let root = absolute(target, &mut path)?;
    remount(target, attributes)?;

    let mut list = [0_u8; MAX_MOUNTS];
    let length = read_mounts(&mut list)?;
    let lines = list.get(..length).ok_or(Errno::MALFORMED)?;
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(place) = line.split(|byte| *byte == b' ').nth(4) else { continue };
        let mut name = [0_u8; 4096];
        let name = unescape(place, &mut name)?;
        let beneath = name.strip_prefix(root).is_some_and(|rest| rest.starts_with(b"/"));
        if !beneath {
            continue;
        }
        let mut text = [0_u8; 4096];
        text.get_mut(..name.len()).ok_or(Errno::MALFORMED)?.copy_from_slice(name);
        let text = CStr::from_bytes_until_nul(&text).map_err(|_| Errno::MALFORMED)?;
        match remount(text, attributes) {
            // Behind another mount, or beneath a folder that only the host may enter.
            Err(error) if error.is_absence() || error.0 == libc::EACCES => {}
            done => done?,
        }
    }
    Ok(())
}

/// The path from the root of this process; plans name targets relative to the current folder.
fn absolute<'a>(target: &CStr, path: &'a mut [u8; 4096]) -> Result<&'a [u8], Errno> {
    let name = target.to_bytes();
    let mut length = 0;
    if !name.starts_with(b"/") {
        // SAFETY: the buffer is live and of the given length.
        let answer = unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len() - 1) };
        // The length that is answered counts the zero byte.
        length = check_long(answer)? as usize - 1;
        *path.get_mut(length).ok_or(Errno::MALFORMED)? = b'/';
        length += 1;
    }
    let end = length + name.len();
    path.get_mut(length..end).ok_or(Errno::MALFORMED)?.copy_from_slice(name);
    path.get(..end).ok_or(Errno::MALFORMED)
}

fn read_mounts(list: &mut [u8; MAX_MOUNTS]) -> Result<usize, Errno> {
    let fd: c_int = sys::open(c"/proc/self/mountinfo", libc::O_RDONLY as u32)?;
    let mut length = 0;
    loop {
        let room = list.get_mut(length..).ok_or(Errno::MALFORMED)?;
        if room.is_empty() {
            // Leaving one out would leave it writable.
            return Err(Errno(libc::E2BIG));
        }
        // SAFETY: the buffer is live and of the given length.
        let read = unsafe { libc::read(fd, room.as_mut_ptr().cast(), room.len()) };
        let read = usize::try_from(read).map_err(|_| Errno::last())?;
        if read == 0 {
            break;
        }
        length += read;
    }
    sys::close(fd);
    Ok(length)
}

/// Blanks and the like are written as a backslash and three octal digits.
fn unescape<'a>(name: &[u8], into: &'a mut [u8; 4096]) -> Result<&'a [u8], Errno> {
    let mut rest = name.iter();
    let mut length = 0;
    while let Some(byte) = rest.next() {
        let mut value = *byte;
        if value == b'\\' {
            let digits = rest.as_slice().get(..3).ok_or(Errno::MALFORMED)?;
            value = digits.iter().fold(0_u8, |sum, digit| {
                sum.wrapping_mul(8).wrapping_add(digit.wrapping_sub(b'0'))
            });
            rest = rest.as_slice().get(3..).unwrap_or_default().iter();
        }
        *into.get_mut(length).ok_or(Errno::MALFORMED)? = value;
        length += 1;
    }
    into.get(..length).ok_or(Errno::MALFORMED)
}
