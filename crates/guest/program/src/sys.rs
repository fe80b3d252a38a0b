//! What has to be unsafe: system calls that rustix does not offer, and forking.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::process::{Gid, Pid, Signal, Uid, getgid, getuid};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

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
    if set == (uid as i32, gid as i32) { Ok(()) } else { set_effective_identity(uid, gid) }
}

/// The same for kernels without ids for files alone (gVisor's). The real ids stay the process's own,
/// and with them the way back.
fn set_effective_identity(uid: u32, gid: u32) -> io::Result<()> {
    let (own, own_group) = (getuid(), getgid());
    // Only the process's own user may change groups, and only he may become another.
    set_thread_res_uid(own, own, own)?;
    set_thread_res_gid(own_group, Gid::from_raw(gid), own_group)?;
    set_thread_res_uid(own, Uid::from_raw(uid), own)?;
    Ok(())
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

/// Sets a limit of the calling process, which may not exceed what it has; where it would, nothing
/// changes.
pub(crate) fn set_limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to a live local.
    unsafe {
        libc::getrlimit(resource, &mut limit);
        limit.rlim_max = limit.rlim_max.min(hard);
        limit.rlim_cur = limit.rlim_max.min(soft);
        libc::setrlimit(resource, &limit);
    }
}

/// What processes used, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Microseconds of processor time.
    pub(crate) cpu_us: u64,
    /// Bytes of memory of the largest process at its highest point.
    pub(crate) peak_memory: u64,
    /// Bytes read from storage.
    pub(crate) read: u64,
    /// Bytes written to storage.
    pub(crate) written: u64,
}

impl Usage {
    fn of(usage: &libc::rusage) -> Self {
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        let micros = |time: &libc::timeval| number(time.tv_sec) * 1_000_000 + number(time.tv_usec);
        Self {
            cpu_us: micros(&usage.ru_utime).saturating_add(micros(&usage.ru_stime)),
            peak_memory: number(usage.ru_maxrss).saturating_mul(1024),
            read: number(usage.ru_inblock).saturating_mul(512),
            written: number(usage.ru_oublock).saturating_mul(512),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.cpu_us = self.cpu_us.saturating_add(other.cpu_us);
        self.peak_memory = self.peak_memory.max(other.peak_memory);
        self.read = self.read.saturating_add(other.read);
        self.written = self.written.saturating_add(other.written);
    }
}

/// What all children used that have ended and were waited for, with their descendants.
pub(crate) fn usage_of_ended() -> Usage {
    // SAFETY: a plain struct for which zeros are valid, filled by the call.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    Usage::of(&usage)
}

/// A child that has ended and is still there to be looked at, if there is one.
pub(crate) fn ended_child() -> Option<Pid> {
    // SAFETY: a plain struct for which zeros are valid; where no child has ended its pid stays 0.
    let pid = unsafe {
        let mut info = std::mem::zeroed::<libc::siginfo_t>();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_ALL, 0, &mut info, flags) != 0 {
            return None;
        }
        info.si_pid()
    };
    Pid::from_raw(pid).filter(|_| pid > 0)
}

/// Lets go of a child that has ended: its exit code, or -N for signal N, and what it and those of
/// its descendants used that were waited for.
pub(crate) fn reap(pid: Pid) -> Option<(i32, Usage)> {
    let mut status = 0;
    // SAFETY: pointers to live locals; the struct is plain and zeros are valid.
    let (reaped, usage) = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        let pid = pid.as_raw_nonzero().get();
        (libc::wait4(pid, &mut status, libc::WNOHANG, &mut usage), usage)
    };
    if reaped != pid.as_raw_nonzero().get() {
        return None;
    }
    let code = if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else if libc::WIFSIGNALED(status) {
        -libc::WTERMSIG(status)
    } else {
        -1
    };
    Some((code, Usage::of(&usage)))
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
        if crate::left_out::stands("descriptors") {
            close_descriptors();
        }
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
