//! What has to be unsafe: system calls that rustix does not offer, and forking.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::process::{Pid, Signal};

/// The highest signal number.
const SIGNALS: i32 = 64;

/// Takes over a descriptor that the launcher promised to leave open, and keeps it from commands.
pub(crate) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl only looks at the number; a closed one gives EBADF.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, as just seen, and each number is adopted once, at the start,
    // before anything else could own it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Ignores every signal but SIGCHLD, and gives a descriptor that is readable when a child ended.
pub(crate) fn take_signals() -> io::Result<OwnedFd> {
    for signal in 1..=SIGNALS {
        if signal != libc::SIGCHLD {
            // SAFETY: installs no handler. SIGKILL, SIGSTOP and reserved numbers give an error,
            // which changes nothing.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
    }
    // SAFETY: the set is initialised by sigemptyset before use; all pointers are to live locals.
    let fd = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: signalfd just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// In a child: no signal is ignored or blocked.
fn reset_signals() {
    for signal in 1..=SIGNALS {
        // SAFETY: installs no handler; numbers that cannot be set give an error and nothing else.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: the set is initialised by sigemptyset before use.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// Sets the user and group that file operations are checked against and new files belong to.
pub(crate) fn set_file_identity(uid: u32, gid: u32) -> io::Result<()> {
    // Neither call reports an error; asking for an impossible id tells what was set.
    const ASK: u32 = u32::MAX;
    // SAFETY: plain numbers in and out. This process has one thread, so "per thread" is "all".
    let set = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        (libc::setfsuid(ASK), libc::setfsgid(ASK))
    };
    if set == (uid as i32, gid as i32) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }
}

/// Sends a signal to every process of the PID namespace but the caller, which has to be its first.
pub(crate) fn kill_all(signal: i32) -> io::Result<()> {
    // SAFETY: plain numbers.
    match unsafe { libc::kill(-1, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A signal by its number, if a process may be sent it.
pub(crate) fn signal(number: i32) -> Option<Signal> {
    if !(1..=SIGNALS).contains(&number) {
        return None;
    }
    // SAFETY: the number is in the kernel's range. 32 and 33 are reserved by libc for threads;
    // sending them is harmless, and this process never handles them.
    Some(unsafe { Signal::from_raw_unchecked(number) })
}

/// Writes the mark that all descendants of a command inherit: see `tree`.
pub(crate) fn set_mark(mark: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to a live local. RLIMIT_LOCKS has no effect since Linux 2.4.25.
    unsafe {
        libc::getrlimit(libc::RLIMIT_LOCKS, &mut limit);
        limit.rlim_cur = mark;
        libc::setrlimit(libc::RLIMIT_LOCKS, &limit);
    }
}

/// In a child: leaves no descriptor above standard error open.
fn close_descriptors() {
    // SAFETY: closes descriptors that this child never uses again. Where the call is missing,
    // nothing is lost: every descriptor of the guest is closed on exec.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

/// Makes a child that runs `run` and ends after it. Gives the child's id.
///
/// `stdio` become its descriptors 0 to 2; all others are closed, signals are as at the start.
pub(crate) fn fork(stdio: [BorrowedFd<'_>; 3], run: impl FnOnce()) -> io::Result<Pid> {
    // SAFETY: this process has one thread, so the child's copy of memory and locks is consistent
    // and it may do all that the parent may.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        reset_signals();
        for (target, source) in (0..).zip(stdio) {
            // SAFETY: the sources are open and above 2: the runtime filled 0 to 2 at the start.
            if unsafe { libc::dup2(source.as_raw_fd(), target) } < 0 {
                exit(126);
            }
        }
        close_descriptors();
        run();
        exit(126);
    }
    Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(io::Error::last_os_error)
}

/// Replaces this process. Returns only what went wrong.
pub(crate) fn exec(program: &CString, argv: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (argv, environment) = (pointers(argv), pointers(environment));
    // SAFETY: both lists end in a null pointer and outlive the call, as do the texts in them.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends a child at once, without running what the parent registered for its own end.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: does not return and touches no memory.
    unsafe { libc::_exit(code) }
}
