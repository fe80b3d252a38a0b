//! The socket to the harness, the child and the gate at which it waits.

use core::ffi::c_int;
use core::mem::{size_of, zeroed};

use super::{Errno, check, check_long, move_high, open};
use crate::steps::{MAX_RECEIVED, Slots};

/// A plan is smaller: its largest parts are two seccomp filters of some kilobytes.
const MAX_PLAN: usize = 160 * 1024;
/// Room for the header of a control message and the descriptors, in units that align it.
const CONTROL_WORDS: usize = 8;

/// Room for one plan, aligned for everything that lies in it.
#[repr(C, align(8))]
pub(crate) struct Message {
    bytes: [u8; MAX_PLAN],
}

/// What the harness is told.
pub(crate) enum Report {
    /// The first process has this number.
    Started { pid: c_int },
    /// A step failed.
    Failed { step: u32, error: Errno },
}

impl Message {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; MAX_PLAN] }
    }

    /// Waits for the one message. Its descriptors go into the first slots.
    pub(crate) fn receive(&mut self, control: c_int, slots: &mut Slots) -> Result<&[u8], Errno> {
        let mut part = libc::iovec { iov_base: self.bytes.as_mut_ptr().cast(), iov_len: MAX_PLAN };
        let mut room = [0_u64; CONTROL_WORDS];
        // SAFETY: an all-zero `msghdr` is a valid one that names no buffers.
        let mut header: libc::msghdr = unsafe { zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = room.as_mut_ptr().cast();
        header.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
        // SAFETY: the header names two live buffers with their true lengths.
        let length = unsafe { libc::recvmsg(control, &raw mut header, libc::MSG_CMSG_CLOEXEC) };
        let length = usize::try_from(length).map_err(|_| Errno::last())?;
        if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 || length == 0 {
            return Err(Errno::MALFORMED);
        }
        // SAFETY: the header was filled by `recvmsg`; `room` is aligned for it and lives on.
        let ancillary = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        if !ancillary.is_null() {
            keep_descriptors(ancillary, slots)?;
        }
        self.bytes.get(..length).ok_or(Errno::MALFORMED)
    }
}

fn keep_descriptors(ancillary: *const libc::cmsghdr, slots: &mut Slots) -> Result<(), Errno> {
    // SAFETY: `CMSG_FIRSTHDR` gave a header that lies whole in the buffer.
    let (level, kind, length) =
        unsafe { ((*ancillary).cmsg_level, (*ancillary).cmsg_type, (*ancillary).cmsg_len) };
    if level != libc::SOL_SOCKET || kind != libc::SCM_RIGHTS {
        return Err(Errno::MALFORMED);
    }
    // SAFETY: computes a length from a length.
    let empty = unsafe { libc::CMSG_LEN(0) } as usize;
    let count = length.saturating_sub(empty) / size_of::<c_int>();
    if count > MAX_RECEIVED {
        return Err(Errno::MALFORMED);
    }
    for slot in 0..count {
        // SAFETY: the kernel wrote `count` descriptors behind the header; reads one of them
        // wherever it is aligned.
        let fd = unsafe { libc::CMSG_DATA(ancillary).cast::<c_int>().add(slot).read_unaligned() };
        slots.set(slot, move_high(fd)?)?;
    }
    Ok(())
}

/// Tells the harness something. If it is gone there is nobody to tell.
pub(crate) fn report(control: c_int, report: Report) {
    let words: [u32; 3] = match report {
        Report::Started { pid } => [1, pid as u32, 0],
        Report::Failed { step, error } => [2, step, error.0 as u32],
    };
    // SAFETY: the buffer is live and of the given length.
    unsafe {
        libc::send(control, words.as_ptr().cast(), size_of::<[u32; 3]>(), libc::MSG_NOSIGNAL)
    };
}

/// Waits for a word of the harness; an error if it is gone instead.
pub(crate) fn hear(control: c_int) -> Result<(), Errno> {
    let mut byte = [0_u8];
    // SAFETY: room for one byte.
    match unsafe { libc::recv(control, byte.as_mut_ptr().cast(), 1, 0) } {
        1 => Ok(()),
        0 => Err(Errno(libc::EPIPE)),
        _ => Err(Errno::last()),
    }
}

/// A pipe whose ends close on exec: (read, write).
pub(crate) fn pipe() -> Result<(c_int, c_int), Errno> {
    let mut ends = [-1; 2];
    // SAFETY: there is room for two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    let [out, into] = ends;
    Ok((out, into))
}

/// A child in new namespaces; 0 in the child.
pub(crate) fn clone(namespaces: u64) -> Result<c_int, Errno> {
    let flags = namespaces | libc::SIGCHLD as u64;
    // SAFETY: without a stack and without `CLONE_VM` this is a fork: the child has a copy of
    // everything. There is one thread, so the copy is whole.
    check_long(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) }).map(|pid| pid as c_int)
}

/// Leaves the caller's namespaces of these kinds for new ones.
pub(crate) fn unshare(namespaces: u64) -> Result<(), Errno> {
    if namespaces == 0 {
        return Ok(());
    }
    // SAFETY: takes a number.
    check(unsafe { libc::unshare(namespaces as c_int) }).map(|_| ())
}

/// Lets the child go on.
pub(crate) fn open_gate(gate: c_int) {
    // SAFETY: one byte of a live buffer.
    unsafe { libc::write(gate, [1_u8].as_ptr().cast(), 1) };
}

/// Enters the control group whose file this is, and closes it. Zero stands for whoever writes it.
pub(crate) fn enter_group(file: c_int) -> Result<(), Errno> {
    // SAFETY: one byte of a live buffer.
    let written = unsafe { libc::write(file, c"0".as_ptr().cast(), 1) };
    let entered = if written == 1 { Ok(()) } else { Err(Errno::last()) };
    super::close(file);
    entered
}

/// Waits until the other side opens the gate; an error if it went away instead.
pub(crate) fn pass_gate(gate: c_int) -> Result<(), Errno> {
    let mut byte = [0_u8];
    // SAFETY: room for one byte.
    match unsafe { libc::read(gate, byte.as_mut_ptr().cast(), 1) } {
        1 => Ok(()),
        _ => Err(Errno::MALFORMED),
    }
}

/// Writes a whole small file of `/proc/PID/`.
pub(crate) fn write_proc(pid: c_int, name: &str, content: &[u8]) -> Result<(), Errno> {
    let fd = open_proc(pid, name, libc::O_WRONLY as u32)?;
    // SAFETY: the buffer is live and of the given length.
    let written = unsafe { libc::write(fd, content.as_ptr().cast(), content.len()) };
    let error = Errno::last();
    super::close(fd);
    if written == content.len() as isize { Ok(()) } else { Err(error) }
}

/// Opens a file of `/proc/PID/`.
pub(crate) fn open_proc(pid: c_int, name: &str, flags: u32) -> Result<c_int, Errno> {
    let mut path = [0_u8; 48];
    let mut digits = [0_u8; 10];
    let parts: [&[u8]; 4] = [b"/proc/", decimal(pid, &mut digits), b"/", name.as_bytes()];
    let mut length = 0;
    for part in parts {
        let place = path.get_mut(length..length + part.len()).ok_or(Errno::MALFORMED)?;
        place.copy_from_slice(part);
        length += part.len();
    }
    let path = core::ffi::CStr::from_bytes_until_nul(&path).map_err(|_| Errno::MALFORMED)?;
    open(path, flags)
}

fn decimal(number: c_int, digits: &mut [u8; 10]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut start = digits.len();
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        start = place;
        if rest == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

/// Every signal does what it does by default, and none is blocked: a parent may have had its own
/// wishes.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: installs no code; numbers that cannot be set answer an error.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an empty set is made in place before it is read.
    unsafe {
        let mut none: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, core::ptr::null_mut());
    }
}
