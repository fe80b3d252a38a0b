//! The steps that a plan may hold, and what each does. The numbers are the wire format; the other
//! side has the same list (`plan::Step` of `moat-sandbox-local`).

use core::ffi::{CStr, c_int};

use crate::plan::Reader;
use crate::sys::{self, Errno};
use crate::{landlock, remount, shift};

/// More than any plan opens.
const SLOTS: usize = 256;
/// Descriptors that may come with a plan.
pub(crate) const MAX_RECEIVED: usize = 8;
/// More than any program is given arguments or variables.
const MAX_TEXTS: usize = 64;

/// Descriptors by the numbers that the plan gives them. The first are those that came with it.
pub(crate) struct Slots {
    fds: [c_int; SLOTS],
}

impl Slots {
    /// The tree with shifted owners.
    pub(crate) const SHIFTED: usize = 3;
    /// The workspace that lies over a tree.
    pub(crate) const OVERLAID: usize = 4;
    /// Where the files of control groups come in.
    const GROUPS: core::ops::Range<usize> = 3..MAX_RECEIVED;

    pub(crate) fn new() -> Self {
        Self { fds: [-1; SLOTS] }
    }

    /// The files of control groups that came with the plan. No step knows of them.
    pub(crate) fn take_groups(&mut self) -> impl Iterator<Item = c_int> {
        let groups = self.fds.get_mut(Self::GROUPS).unwrap_or_default();
        groups.iter_mut().map(|fd| core::mem::replace(fd, -1)).filter(|fd| *fd >= 0)
    }

    pub(crate) fn set(&mut self, slot: usize, fd: c_int) -> Result<(), Errno> {
        *self.fds.get_mut(slot).ok_or(Errno::MALFORMED)? = fd;
        Ok(())
    }

    fn get(&self, slot: u32) -> Result<Option<c_int>, Errno> {
        let fd = *self.fds.get(slot as usize).ok_or(Errno::MALFORMED)?;
        Ok((fd >= 0).then_some(fd))
    }
}

/// Performs every step. Comes back only with the one that failed.
pub(crate) fn perform(mut steps: Reader<'_>, slots: &mut Slots) -> (u32, Errno) {
    let mut number = 0;
    while !steps.is_empty() {
        if let Err(error) = step(&mut steps, slots) {
            return (number, error);
        }
        number += 1;
    }
    // A plan ends with `EXEC` or `EXIT`.
    (number, Errno::MALFORMED)
}

fn step(steps: &mut Reader<'_>, slots: &mut Slots) -> Result<(), Errno> {
    let code = steps.u32()?;
    let mut payload = Reader::new(steps.bytes()?);
    let p = &mut payload;
    match code {
        1 => sys::make_private(p.text()?),
        2 => open(p, slots),
        3 => sys::mount(p.text()?, p.text()?, p.text()?, p.u32()?, p.text()?),
        4 => bind(p, slots),
        5 => mask(p),
        6 => sys::mkdir(p.text()?, p.u32()?),
        7 => sys::write_file(p.text()?, p.u32()?, p.bytes()?),
        8 => sys::symlink(p.text()?, p.text()?),
        9 => remount::read_only(p.text()?, p.u32()? != 0),
        10 => sys::chdir(p.text()?),
        11 => sys::become_root_directory(),
        12 => sys::set_host_name(p.bytes()?),
        13 => sys::bring_loopback_up(),
        14 => sys::new_session(),
        15 => sys::set_limit(p.u32()?, p.u64()?, p.u64()?),
        16 => sys::become_user(p.u32()?, p.u32()?, p.u32()? != 0, p.u32()? != 0),
        17 => sys::keep_capabilities(p.u64()?, p.u32()? != 0),
        18 => sys::forbid_new_privileges(),
        19 => landlock::restrict(p),
        20 => sys::add_filter(p.bytes()?),
        21 => pass(p, slots),
        22 => execute(p, slots),
        23 => sys::exit(0),
        24 => sys::leave_keyring(),
        25 => sys::chmod(p.text()?, p.u32()?),
        26 => sys::add_loopback_address(p.u32()?, p.u32()?),
        27 => bind_internet(p, slots),
        28 => bind_unix(p, slots),
        29 => own(p, slots),
        40 => attach(p, slots),
        41 => setting(p),
        _ => Err(Errno::MALFORMED),
    }
}

/// `slot flags optional path`: opens a source before the process changes user or root. A path that
/// is not there leaves an optional slot empty, and what is bound from it is left out.
fn open(p: &mut Reader<'_>, slots: &mut Slots) -> Result<(), Errno> {
    let (slot, flags, optional) = (p.u32()?, p.u32()?, p.u32()? != 0);
    match sys::open(p.text()?, flags) {
        // Out of the way of those that the guest is given before this one is used.
        Ok(fd) => slots.set(slot as usize, sys::move_high(fd)?),
        Err(error) if optional && error.is_absence() => Ok(()),
        Err(error) => Err(error),
    }
}

/// `slot attributes old target`: the tree behind the slot appears at the target, with all mounts
/// beneath it, and gets the attributes. `old` makes it do without `mount_setattr`.
fn bind(p: &mut Reader<'_>, slots: &mut Slots) -> Result<(), Errno> {
    let (slot, attributes, old) = (p.u32()?, p.u32()?, p.u32()? != 0);
    let target = p.text()?;
    let Some(fd) = slots.get(slot)? else { return Ok(()) };
    sys::bind(fd, target)?;
    remount::set_attributes(target, attributes, old)
}

/// `slot attributes old target`: the mount in the slot, which is nowhere yet, comes to be at the
/// target and gets the attributes.
fn attach(p: &mut Reader<'_>, slots: &Slots) -> Result<(), Errno> {
    let (slot, attributes, old) = (p.u32()?, p.u32()?, p.u32()? != 0);
    let target = p.text()?;
    shift::attach(slots.get(slot)?.ok_or(Errno::MALFORMED)?, target)?;
    remount::set_attributes(target, attributes, old)
}

/// `path cover reachable`: hides what is there, if anything is, behind the file or folder `cover`;
/// with `reachable` only what is in folders that can be entered.
fn mask(p: &mut Reader<'_>) -> Result<(), Errno> {
    let (path, cover, reachable) = (p.text()?, p.text()?, p.u32()? != 0);
    match sys::bind_path(cover, path) {
        Err(error) if error.is_absence() => Ok(()),
        Err(error) if reachable && error.is_closed_folder() => Ok(()),
        done => done,
    }
}

/// `path content`: writes a setting of this user namespace, if the kernel has it.
fn setting(p: &mut Reader<'_>) -> Result<(), Errno> {
    match sys::write_setting(p.text()?, p.bytes()?) {
        Err(error) if error.is_absence() => Ok(()),
        done => done,
    }
}

/// `slot number`: the descriptor that the guest is to find at `number`.
fn pass(p: &mut Reader<'_>, slots: &Slots) -> Result<(), Errno> {
    let (slot, number) = (p.u32()?, p.u32()?);
    let fd = slots.get(slot)?.ok_or(Errno::MALFORMED)?;
    sys::duplicate_to(fd, number as c_int)
}

/// `slot stream address port`: an internet socket of this network namespace, bound, and listening if
/// it is one of a stream.
fn bind_internet(p: &mut Reader<'_>, slots: &mut Slots) -> Result<(), Errno> {
    let (slot, stream) = (p.u32()?, p.u32()? != 0);
    let (address, port) = (p.u32()?, p.u32()?);
    let port = u16::try_from(port).map_err(|_| Errno::MALFORMED)?;
    slots.set(slot as usize, sys::internet_socket(stream, address, port)?)
}

/// `slot path`: a listening socket at a path of the new root, which everyone may connect to.
fn bind_unix(p: &mut Reader<'_>, slots: &mut Slots) -> Result<(), Errno> {
    let slot = p.u32()?;
    slots.set(slot as usize, sys::unix_socket(p.text()?)?)
}

/// `slot uid gid`: gives the file or folder in the slot to somebody of the user namespace.
fn own(p: &mut Reader<'_>, slots: &Slots) -> Result<(), Errno> {
    let (slot, uid, gid) = (p.u32()?, p.u32()?, p.u32()?);
    sys::give(slots.get(slot)?.ok_or(Errno::MALFORMED)?, uid, gid)
}

/// `slot keep count text* count text*`: closes all descriptors from `keep` on and becomes the
/// program in the slot, with arguments and variables.
fn execute(p: &mut Reader<'_>, slots: &Slots) -> Result<(), Errno> {
    let (slot, keep) = (p.u32()?, p.u32()?);
    let program = slots.get(slot)?.ok_or(Errno::MALFORMED)?;
    let mut arguments = [core::ptr::null(); MAX_TEXTS + 1];
    let mut variables = [core::ptr::null(); MAX_TEXTS + 1];
    texts(p, &mut arguments)?;
    texts(p, &mut variables)?;
    sys::close_from_on_exec(keep);
    Err(sys::execute(program, &arguments, &variables))
}

fn texts<'a>(p: &mut Reader<'a>, into: &mut [*const libc::c_char]) -> Result<(), Errno> {
    let count = p.u32()? as usize;
    if count > MAX_TEXTS {
        return Err(Errno::MALFORMED);
    }
    for place in into.iter_mut().take(count) {
        let text: &'a CStr = p.text()?;
        *place = text.as_ptr();
    }
    Ok(())
}
