//! System calls with safe faces: texts are C strings, errors are values. All unsafe code of the
//! launcher is here, in `landlock` and in `remount`.

mod control;
mod files;
mod network;
mod privileges;

use core::ffi::{CStr, c_int, c_long};

pub(crate) use control::*;
pub(crate) use files::*;
pub(crate) use network::*;
pub(crate) use privileges::*;

/// The system's number of an error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) c_int);

impl Errno {
    /// The plan cannot be understood.
    pub(crate) const MALFORMED: Self = Self(libc::EBADMSG);

    /// The error of the last call of this thread.
    pub(crate) fn last() -> Self {
        // SAFETY: the C library gives every thread its own, always valid place for the number.
        Self(unsafe { *libc::__errno_location() })
    }

    /// Whether it says that a path is not there.
    pub(crate) fn is_absence(self) -> bool {
        matches!(self.0, libc::ENOENT | libc::ENOTDIR)
    }

    /// Whether it says that a folder of a path may not be entered.
    pub(crate) fn is_closed_folder(self) -> bool {
        self.0 == libc::EACCES
    }
}

/// `-1` is an error, anything else an answer.
pub(crate) fn check(answer: c_int) -> Result<c_int, Errno> {
    if answer == -1 { Err(Errno::last()) } else { Ok(answer) }
}

/// The same for calls without a wrapper in the C library.
pub(crate) fn check_long(answer: c_long) -> Result<c_long, Errno> {
    if answer == -1 { Err(Errno::last()) } else { Ok(answer) }
}

/// Ends the process at once.
pub(crate) fn exit(code: c_int) -> ! {
    // SAFETY: takes a number and does not come back.
    unsafe { libc::_exit(code) }
}

/// Closes a descriptor; that it may fail changes nothing.
pub(crate) fn close(fd: c_int) {
    // SAFETY: a descriptor is a number; closing one that is not open is an error, not a danger.
    unsafe { libc::close(fd) };
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) {
    // SAFETY: takes numbers only; this program keeps no descriptor of its own there.
    if unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } == 0 {
        return;
    }
    // Kernels before 5.9.
    for fd in first as c_int..4096 {
        close(fd);
    }
}

/// Every descriptor from `first` on closes when the guest is executed.
pub(crate) fn close_from_on_exec(first: u32) {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: takes numbers only.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if done == 0 {
        return;
    }
    // Kernels before 5.11.
    for fd in first as c_int..4096 {
        // SAFETY: takes numbers only; a descriptor that is not open answers an error.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Moves a descriptor out of the way of those that the guest is given, and has it close on exec.
pub(crate) fn move_high(fd: c_int) -> Result<c_int, Errno> {
    // SAFETY: takes numbers only.
    let moved = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 64) })?;
    close(fd);
    Ok(moved)
}

/// Makes `fd` also known as `number`, open across exec.
pub(crate) fn duplicate_to(fd: c_int, number: c_int) -> Result<(), Errno> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::dup2(fd, number) }).map(|_| ())
}

/// Opens a path; always closes on exec.
pub(crate) fn open(path: &CStr, flags: u32) -> Result<c_int, Errno> {
    // SAFETY: the path ends with a zero byte and lives through the call.
    check(unsafe { libc::open(path.as_ptr(), flags as c_int | libc::O_CLOEXEC, 0) })
}

/// What the process is called in lists; it was started by the number of a descriptor.
pub(crate) fn set_name(name: &CStr) {
    // SAFETY: the name ends with a zero byte; what is too long is cut.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}
