//! Landlock: rules on files that hold whatever happens to mounts, as a second fence.

use core::ffi::c_int;
use core::mem::size_of;

use crate::plan::Reader;
use crate::sys::{self, Errno, check_long};

#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: c_int,
}

/// Bits of file access that each version of the interface knows, from version 1 on.
const KNOWN: [u64; 6] = [0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff, 0xffff];

/// `required files scoped count (access path)*`: allows the accesses beneath the paths and refuses
/// all others of `files`. What this kernel does not know is left out; a kernel without Landlock is
/// an error only if it is required. Paths that are not there are left out.
pub(crate) fn restrict(p: &mut Reader<'_>) -> Result<(), Errno> {
    let required = p.u32()? != 0;
    let (files, scoped, count) = (p.u64()?, p.u64()?, p.u32()?);
    let version = match version() {
        Ok(version) => version,
        Err(error) if required => return Err(error),
        Err(_) => return Ok(()),
    };
    let known = KNOWN.get(version.min(KNOWN.len()) - 1).copied().ok_or(Errno::MALFORMED)?;
    let ruleset = make(version, Ruleset { files: files & known, network: 0, scoped })?;
    for _ in 0..count {
        let (access, path) = (p.u64()?, p.text()?);
        match sys::open(path, libc::O_PATH as u32) {
            Ok(parent) => {
                allow(ruleset, Beneath { allowed: access & files & known, parent })?;
                sys::close(parent);
            }
            Err(error) if error.is_absence() => {}
            Err(error) => return Err(error),
        }
    }
    // SAFETY: takes numbers only.
    check_long(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) })?;
    sys::close(ruleset);
    Ok(())
}

fn version() -> Result<usize, Errno> {
    const VERSION: u32 = 1;
    let nothing: *const Ruleset = core::ptr::null();
    // SAFETY: with this flag the kernel reads no structure and answers a number.
    let answer = check_long(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION)
    })?;
    usize::try_from(answer).ok().filter(|version| *version > 0).ok_or(Errno(libc::ENOSYS))
}

fn make(version: usize, ruleset: Ruleset) -> Result<c_int, Errno> {
    // Older kernels know only the beginning of the structure.
    let size = match version {
        0..=3 => 8,
        4..=5 => 16,
        _ => size_of::<Ruleset>(),
    };
    // SAFETY: the structure is live and at least as large as said.
    check_long(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size, 0)
    })
    .map(|fd| fd as c_int)
}

fn allow(ruleset: c_int, rule: Beneath) -> Result<(), Errno> {
    const PATH_BENEATH: c_int = 1;
    // SAFETY: the structure is live and of the kind that the number names.
    check_long(unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset, PATH_BENEATH, &raw const rule, 0)
    })
    .map(|_| ())
}
