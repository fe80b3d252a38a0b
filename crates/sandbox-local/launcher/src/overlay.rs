//! A workspace that lies over a tree of the host: what is written goes elsewhere, and the tree is
//! as it was for everyone else who lies over it.
//!
//! It is mounted by whoever may shift owners, before there is any namespace of the sandbox: only
//! then does a folder of the tree take another name as if it were the sandbox's own, and do the
//! names of one file stay together when it is written.

use core::ffi::{CStr, c_int};

use crate::shift;
use crate::sys::{self, Errno, check, check_long};

/// Where the tree is mounted, for this process only; beneath the folder, as the other two are.
const LOWER: &CStr = c"base";
const UPPER: &CStr = c"workspace";
const WORK: &CStr = c"work";

const SET_STRING: u32 = 1;
const CREATE: u32 = 6;

/// A mount, not yet anywhere, of `folder/workspace` over the tree at `tree`, whose owners are
/// shifted as `map` says. Nobody else sees what is mounted on the way.
pub(crate) fn laid_over(tree: &CStr, map: &[u8], folder: &CStr) -> Result<c_int, Errno> {
    let shifted = shift::shifted(tree, map)?;
    // SAFETY: takes flags only.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    sys::make_private(c"/")?;
    sys::chdir(folder)?;
    shift::attach(shifted, LOWER)?;
    sys::close(shifted);
    let context = open_context()?;
    let mount = configure(context).and_then(|()| mount(context));
    sys::close(context);
    mount
}

/// Does what a mount does only if it is all that was asked for: a folder of the tree takes another
/// name, and a file that is written under one of its names shows it under the other. The tree is one
/// that was made for this: `folder`, and the empty file `one`, which is `two` as well.
pub(crate) fn rehearse(mount: c_int) -> Result<(), Errno> {
    sys::rename_at(mount, c"folder", c"renamed")?;
    let one = sys::open_at(mount, c"one", libc::O_WRONLY | libc::O_APPEND)?;
    let written = sys::write(one, b"x");
    sys::close(one);
    written?;
    let two = sys::open_at(mount, c"two", libc::O_RDONLY)?;
    let shown = sys::read_byte(two);
    sys::close(two);
    if shown? == Some(b'x') { Ok(()) } else { Err(Errno(libc::EOPNOTSUPP)) }
}

fn open_context() -> Result<c_int, Errno> {
    const CLOSE_ON_EXEC: u32 = 1;
    // SAFETY: the text ends with a zero byte and lives through the call.
    let context = unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), CLOSE_ON_EXEC) };
    check_long(context).map(|fd| fd as c_int)
}

fn configure(context: c_int) -> Result<(), Errno> {
    let options = [
        (c"source", c"moat"),
        (c"lowerdir", LOWER),
        (c"upperdir", UPPER),
        (c"workdir", WORK),
        (c"redirect_dir", c"on"),
        (c"index", c"on"),
        (c"metacopy", c"off"),
    ];
    for (name, value) in options {
        set(context, SET_STRING, Some(name), Some(value))?;
    }
    set(context, CREATE, None, None)
}

fn set(
    context: c_int,
    command: u32,
    name: Option<&CStr>,
    value: Option<&CStr>,
) -> Result<(), Errno> {
    let text = |text: Option<&CStr>| text.map_or(core::ptr::null(), CStr::as_ptr);
    // SAFETY: texts end with a zero byte and live through the call; the kernel takes null where a
    // command has none.
    let answer =
        unsafe { libc::syscall(libc::SYS_fsconfig, context, command, text(name), text(value), 0) };
    check_long(answer).map(drop)
}

fn mount(context: c_int) -> Result<c_int, Errno> {
    const CLOSE_ON_EXEC: u32 = 1;
    const NO_SUID_NO_DEVICES: u32 = 2 | 4;
    // SAFETY: takes a descriptor and flags only.
    let mount =
        unsafe { libc::syscall(libc::SYS_fsmount, context, CLOSE_ON_EXEC, NO_SUID_NO_DEVICES) };
    check_long(mount).map(|fd| fd as c_int)
}
