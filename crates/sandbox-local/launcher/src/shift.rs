//! A tree of the host whose owners are shifted into the sandbox's range of ids.

use core::ffi::{CStr, c_int};

use crate::sys::{self, Errno, check, check_long};

#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// A mount of the tree at `path`, not yet anywhere, on which owners are as `map` says: it has the
/// form of a `uid_map`, whose first number is an owner on disk and whose second is who that is on
/// this host. It takes a user namespace, which a process has to hold for the moment.
pub(crate) fn shifted(path: &CStr, map: &[u8]) -> Result<c_int, Errno> {
    let (gate_out, gate_in) = sys::pipe()?;
    let holder = sys::clone(libc::CLONE_NEWUSER as u64)?;
    if holder == 0 {
        sys::close(gate_in);
        // Nobody opens it: this ends when the other side closes it, or is gone.
        let _ = sys::pass_gate(gate_out);
        sys::exit(0);
    }
    sys::close(gate_out);
    let mount = shift(path, map, holder);
    sys::close(gate_in);
    // SAFETY: without a place for the status none is written.
    unsafe { libc::waitpid(holder, core::ptr::null_mut(), 0) };
    mount
}

fn shift(path: &CStr, map: &[u8], holder: c_int) -> Result<c_int, Errno> {
    const CLONE_TREE: u32 = 1;
    const SHIFT_OWNERS: u64 = 0x10_0000;
    sys::write_proc(holder, "uid_map", map)?;
    sys::write_proc(holder, "gid_map", map)?;
    let namespace = sys::open_proc(holder, "ns/user", libc::O_RDONLY as u32)?;
    let flags = CLONE_TREE | libc::O_CLOEXEC as u32;
    // SAFETY: the path ends with a zero byte and lives through the call.
    let mount = check_long(unsafe {
        libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags)
    })? as c_int;
    let wanted = Attributes {
        set: SHIFT_OWNERS,
        clear: 0,
        propagation: 0,
        user_namespace: namespace as u64,
    };
    // SAFETY: the text ends with a zero byte; the structure is live and of the given size.
    let answer = check_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const wanted,
            size_of::<Attributes>(),
        )
    });
    sys::close(namespace);
    answer.map(|_| mount)
}

/// Puts a mount that is nowhere yet at the target.
pub(crate) fn attach(mount: c_int, target: &CStr) -> Result<(), Errno> {
    const FROM_DESCRIPTOR: u32 = 4;
    // SAFETY: both texts end with a zero byte and live through the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount,
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            FROM_DESCRIPTOR,
        )
    };
    check(answer as c_int).map(|_| ())
}
