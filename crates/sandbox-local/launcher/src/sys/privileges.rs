//! What the guest will be and may do.

use core::ffi::{CStr, c_char, c_int};
use core::mem::zeroed;

use super::{Errno, check, check_long, close};

/// Gives the network namespace its loopback device.
pub(crate) fn bring_loopback_up() -> Result<(), Errno> {
    // SAFETY: takes numbers only.
    let socket =
        check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: an all-zero request is a valid one; its name is set in place, and the kernel reads
    // and writes no more than the structure.
    let answer = unsafe {
        let mut request: libc::ifreq = zeroed();
        for (place, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
            *place = byte as c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as _;
        libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw mut request)
    };
    let answer = check(answer).map(|_| ());
    close(socket);
    answer
}

pub(crate) fn set_host_name(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: the buffer is live and of the given length.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(|_| ())
}

/// Leaves the caller's session, and with it his terminal.
pub(crate) fn new_session() -> Result<(), Errno> {
    // SAFETY: takes nothing.
    check(unsafe { libc::setsid() })?;
    // SAFETY: takes a number.
    unsafe { libc::umask(0o022) };
    Ok(())
}

pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let mut limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    let mut current = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure has room for the answer.
    check(unsafe { libc::getrlimit(resource as _, &raw mut current) })?;
    // An ordinary user cannot go above what he has.
    limit.rlim_max = limit.rlim_max.min(current.rlim_max);
    limit.rlim_cur = limit.rlim_cur.min(limit.rlim_max);
    // SAFETY: the structure is live.
    check(unsafe { libc::setrlimit(resource as _, &raw const limit) }).map(|_| ())
}

/// Becomes a user of the namespace; `groups` says that the groups of the caller can be left behind,
/// `from_root` that the caller is its root: such a one would lose all capabilities with that.
pub(crate) fn become_user(uid: u32, gid: u32, groups: bool, from_root: bool) -> Result<(), Errno> {
    if from_root {
        // SAFETY: takes numbers only. It ends with the next exec.
        check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })?;
    }
    if groups {
        // SAFETY: an empty list is not looked at.
        check(unsafe { libc::setgroups(0, core::ptr::null()) })?;
    }
    // SAFETY: takes numbers only.
    check(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::setresuid(uid, uid, uid) })?;
    if from_root { use_what_is_permitted() } else { Ok(()) }
}

/// What was kept through a change of user is permitted, but not in effect.
fn use_what_is_permitted() -> Result<(), Errno> {
    let header = CapabilityHeader { version: VERSION_3, pid: 0 };
    let mut words = [CapabilityWord { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: version 3 writes two words, for which there is room.
    check_long(unsafe { libc::syscall(libc::SYS_capget, &raw const header, words.as_mut_ptr()) })?;
    for word in &mut words {
        word.effective = word.permitted;
    }
    // SAFETY: version 3 reads a header and two words, which are live.
    check_long(unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) })
        .map(|_| ())
}

/// The version of the capability calls' structures that has two words.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityWord {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Keeps the capabilities of the mask and no other, now and after every exec. Whoever is not root
/// of his namespace has to say that they are to live through an exec.
pub(crate) fn keep_capabilities(keep: u64, through_exec: bool) -> Result<(), Errno> {
    for capability in 0..64_u32 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        // SAFETY: takes numbers only.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            // Past the last one that this kernel knows.
            Err(Errno(libc::EINVAL)) => break,
            dropped => dropped.map(|_| ())?,
        }
    }
    // SAFETY: takes numbers only. Kernels without ambient capabilities have none to clear.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let header = CapabilityHeader { version: VERSION_3, pid: 0 };
    let word = |bits: u32| CapabilityWord {
        effective: bits,
        permitted: bits,
        inheritable: if through_exec { bits } else { 0 },
    };
    let words = [word(keep as u32), word((keep >> 32) as u32)];
    // SAFETY: version 3 reads a header and two words, which are live.
    check_long(unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) })?;
    for capability in (0..64_u32).filter(|bit| through_exec && keep & (1 << bit) != 0) {
        let raise = libc::PR_CAP_AMBIENT_RAISE;
        // SAFETY: takes numbers only.
        check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, capability, 0, 0) })?;
    }
    Ok(())
}

/// No exec gives more than there was before it, whatever the file says.
pub(crate) fn forbid_new_privileges() -> Result<(), Errno> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(|_| ())
}

/// Leaves the keys of the caller's session behind. A kernel without keyrings has none.
pub(crate) fn leave_keyring() -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: c_int = 1;
    let name: *const c_char = core::ptr::null();
    // SAFETY: without a name the kernel makes a nameless keyring and reads nothing.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name) };
    Ok(())
}

/// Adds a seccomp filter, given as the bytes of its instructions.
pub(crate) fn add_filter(instructions: &[u8]) -> Result<(), Errno> {
    const SIZE: usize = size_of::<libc::sock_filter>();
    let start = instructions.as_ptr();
    let length = u16::try_from(instructions.len() / SIZE).map_err(|_| Errno::MALFORMED)?;
    if !start.cast::<libc::sock_filter>().is_aligned() || !instructions.len().is_multiple_of(SIZE) {
        return Err(Errno::MALFORMED);
    }
    let program =
        libc::sock_fprog { len: length, filter: start.cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: the program names `length` aligned instructions that live through the call; the
    // kernel checks them and does not write.
    let answer = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0)
    };
    check(answer).map(|_| ())
}

/// Becomes the program behind a descriptor. Comes back only with the error.
pub(crate) fn execute(
    program: c_int,
    arguments: &[*const c_char],
    variables: &[*const c_char],
) -> Errno {
    let here: &CStr = c"";
    // SAFETY: both lists end with a null pointer and name texts that end with zero bytes, all
    // alive until the call replaces this program.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            here.as_ptr(),
            arguments.as_ptr(),
            variables.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}
