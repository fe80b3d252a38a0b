//! Makes a sandbox: the small program between the harness and the guest.
//!
//! Namespaces cannot be made from a program with threads, so the harness starts this one with a
//! socket as its standard input, and sends it one message: a *plan* and the descriptors that the
//! plan speaks of. The plan was computed, and its order thought through, in safe code on the other
//! side; here it is only executed, step by step. The first step that fails is reported by its
//! number, with the system's error; the other side knows what the step was.
//!
//! ```text
//! harness ──plan, descriptors──▶ launcher ──clone──▶ first process: steps … ──exec──▶ guest
//!         ◀──────── pid ──────── (writes the id maps, or hears that they are written; exits)
//!         ◀──────── step, errno, or the end of the socket: it runs ────────┘
//! ```
//!
//! It allocates nothing, knows no policy, and reads nothing but the plan. It starts without the
//! standard library's runtime, which would only make it slower.
#![no_main]

mod landlock;
mod overlay;
mod plan;
mod remount;
mod shift;
mod steps;
mod sys;

use core::ffi::{c_char, c_int};

use plan::{Plan, Reader};
use steps::Slots;
use sys::{Errno, Message};

/// Where the harness put its end of the socket.
const CONTROL: c_int = 0;

/// Numbers of what happens before the first step of a plan. The other side names them.
mod stage {
    pub(crate) const RECEIVE: u32 = 0xffff_0001;
    pub(crate) const READ: u32 = 0xffff_0002;
    pub(crate) const CLONE: u32 = 0xffff_0003;
    pub(crate) const SETGROUPS: u32 = 0xffff_0004;
    pub(crate) const UID_MAP: u32 = 0xffff_0005;
    pub(crate) const GID_MAP: u32 = 0xffff_0006;
    pub(crate) const SHIFT: u32 = 0xffff_0007;
    pub(crate) const ENTER: u32 = 0xffff_0008;
    pub(crate) const MAPPED: u32 = 0xffff_0009;
    pub(crate) const OVERLAY: u32 = 0xffff_000a;
    pub(crate) const REHEARSE: u32 = 0xffff_000b;
}

/// The entry point that the C library calls.
///
/// # Safety
/// Called once, by the C library, with the program's arguments, which are not used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    sys::close_from(3);
    sys::reset_signals();
    sys::set_name(c"moat-launcher");
    let mut message = Message::new();
    let control = match sys::move_high(CONTROL) {
        Ok(fd) => fd,
        Err(_) => return 2,
    };
    let (step, error) = match launch(control, &mut message) {
        Ok(()) => return 0,
        Err(failed) => failed,
    };
    sys::report(control, sys::Report::Failed { step, error });
    1
}

/// The namespaces that a process can only be begun in.
const FIRST_NAMESPACES: u64 = (libc::CLONE_NEWUSER | libc::CLONE_NEWPID) as u64;

type Failed = (u32, Errno);

fn launch(control: c_int, message: &mut Message) -> Result<(), Failed> {
    let at = |step: u32| move |error: Errno| (step, error);
    let mut slots = Slots::new();
    let bytes = message.receive(control, &mut slots).map_err(at(stage::RECEIVE))?;
    let plan = Plan::read(&mut Reader::new(bytes)).map_err(at(stage::READ))?;

    for group in slots.take_groups() {
        sys::enter_group(group).map_err(at(stage::ENTER))?;
    }
    if let Some((path, map)) = plan.shifted {
        let mount = shift::shifted(path, map).map_err(at(stage::SHIFT))?;
        slots.set(Slots::SHIFTED, mount).map_err(at(stage::SHIFT))?;
    }
    if let Some(base) = &plan.base {
        let mount = overlay::laid_over(base.tree, base.map, base.folder);
        let mount = mount.map_err(at(stage::OVERLAY))?;
        if base.rehearse {
            overlay::rehearse(mount).map_err(at(stage::REHEARSE))?;
        }
        slots.set(Slots::OVERLAID, mount).map_err(at(stage::OVERLAY))?;
    }
    let (gate_out, gate_in) = sys::pipe().map_err(at(stage::CLONE))?;
    // While others write the maps, the child makes what needs none.
    let later = if plan.mapped_outside { plan.namespaces & !FIRST_NAMESPACES } else { 0 };
    let child = sys::clone(plan.namespaces & !later).map_err(at(stage::CLONE))?;
    if child == 0 {
        sys::close(gate_in);
        if let Err(error) = sys::unshare(later) {
            sys::report(control, sys::Report::Failed { step: stage::CLONE, error });
            sys::exit(4);
        }
        first_process(control, gate_out, &plan, &mut slots);
    }
    sys::report(control, sys::Report::Started { pid: child });
    let mapped = if plan.mapped_outside {
        sys::hear(control).map_err(at(stage::MAPPED))
    } else {
        write_maps(child, &plan)
    };
    if mapped.is_ok() {
        sys::open_gate(gate_in);
    }
    // Without the byte the child finds the gate's end and exits.
    mapped
}

/// The id maps are written from outside, by who may map more than himself.
fn write_maps(child: c_int, plan: &Plan<'_>) -> Result<(), Failed> {
    if plan.deny_setgroups {
        sys::write_proc(child, "setgroups", b"deny").map_err(|error| (stage::SETGROUPS, error))?;
    }
    if !plan.uid_map.is_empty() {
        sys::write_proc(child, "uid_map", plan.uid_map).map_err(|e| (stage::UID_MAP, e))?;
    }
    if !plan.gid_map.is_empty() {
        sys::write_proc(child, "gid_map", plan.gid_map).map_err(|e| (stage::GID_MAP, e))?;
    }
    Ok(())
}

/// What the child does: wait for its id maps, then every step. The last step of a plan becomes the
/// guest, or exits.
fn first_process(control: c_int, gate: c_int, plan: &Plan<'_>, slots: &mut Slots) -> ! {
    if sys::pass_gate(gate).is_err() {
        sys::exit(3);
    }
    sys::close(gate);
    let (step, error) = steps::perform(plan.steps, slots);
    sys::report(control, sys::Report::Failed { step, error });
    sys::exit(4)
}
