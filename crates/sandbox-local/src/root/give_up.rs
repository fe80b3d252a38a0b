//! The steps between a finished root and the guest: what it is given, and what it gives up.

use std::path::{Path, PathBuf};

use super::{NETWORK_FD, Parts};
use crate::fences::Fence;
use crate::limits::Counters;
use crate::plan::{Plan, Slot, Step};
use crate::{capabilities, landlock};

/// Everything between a finished root and the guest.
pub(super) fn give_up(
    plan: &mut Plan,
    parts: &Parts<'_>,
    sockets: &[Slot],
    counters: &[(Slot, i32)],
) {
    if parts.has(Fence::Uts) {
        plan.relies_on(Some(Fence::Uts));
        plan.push("set the host name", &Step::HostName("moat"));
    }
    plan.relies_on(None);
    plan.push("leave the caller's keyring", &Step::LeaveKeyring);
    for (name, resource, soft, hard) in LIMITS {
        plan.push(format!("limit {name}"), &Step::Limit { resource, soft, hard });
    }
    let null = plan.slot();
    let path = Path::new("/dev/null");
    let flags = libc::O_RDWR as u32;
    plan.push("open `/dev/null`", &Step::Open { slot: null, flags, optional: false, path });
    for number in 0..3 {
        let step = Step::PassDescriptor { slot: null, number };
        plan.push("give the guest empty standard streams", &step);
    }
    plan.push("pass the socket on", &pass(Slot::LISTENER, moat_guest::LISTENER_FD, parts));
    plan.push("pass the configuration on", &pass(Slot::CONFIG, moat_guest::CONFIG_FD, parts));
    Counters::pass(counters, plan);
    for (number, slot) in (NETWORK_FD..).zip(sockets) {
        let step = Step::PassDescriptor { slot: *slot, number };
        plan.push("pass the network's sockets on", &step);
    }

    plan.relies_on(Some(Fence::User));
    let keep = capabilities::kept_by_guest(parts.identity);
    let through_exec = parts.identity.guest() != 0;
    plan.push("give up capabilities", &Step::KeepCapabilities { keep, through_exec });
    plan.relies_on(Some(Fence::NoNewPrivileges));
    plan.push("forbid new privileges", &Step::NoNewPrivileges);
    if parts.has(Fence::Landlock) {
        plan.relies_on(Some(Fence::Landlock));
        let writable = parts.image.is_some_and(|image| image.writable);
        let homes: Vec<_> =
            parts.roster.homes().map(|(name, _)| Path::new("/home").join(name)).collect();
        let mounts = parts.mounts.iter().filter(|mount| !mount.read_only);
        let mounts = mounts.map(|mount| mount.target.as_path());
        let own: Vec<_> = homes.iter().map(PathBuf::as_path).chain(mounts).collect();
        landlock::step(false, writable, &own, |step| plan.push("set Landlock rules", step));
    }
    if parts.has(Fence::Seccomp) {
        plan.relies_on(Some(Fence::Seccomp));
        plan.push("install the filter on system calls", &Step::Filter(&parts.filter.0));
    }
    plan.relies_on(None);
    if parts.rehearsal {
        plan.push("end", &Step::Exit);
        return;
    }
    let keep = (NETWORK_FD as usize + sockets.len()) as u32;
    #[cfg(feature = "mutations")]
    let keep = parts.left_out.pass_leak(plan, keep);
    plan.push(
        "start the guest",
        &Step::Execute { slot: Slot::PROGRAM, keep, arguments: &["moat-guest"], variables: &[] },
    );
}

fn pass(slot: Slot, number: i32, parts: &Parts<'_>) -> Step<'static> {
    // A rehearsal has no guest and nothing to pass; the program's descriptor stands in.
    let slot = if parts.rehearsal { Slot::LISTENER } else { slot };
    Step::PassDescriptor { slot, number }
}

/// No dumps of memory; no more descriptors than a large build needs; and no more than a small part
/// of what the kernel counts for whoever made the sandbox, root or an ordinary user, beside what he
/// uses himself: signals and timers that wait (he has some 10,000 to 100,000), and locked memory
/// (8 MiB). Commands get limits of their own from the guest.
const LIMITS: [(&str, u32, u64, u64); 4] = [
    ("core dumps", libc::RLIMIT_CORE, 0, 0),
    ("open files", libc::RLIMIT_NOFILE, 16_384, 524_288),
    ("pending signals", libc::RLIMIT_SIGPENDING, 2048, 2048),
    ("locked memory", libc::RLIMIT_MEMLOCK, 1 << 20, 1 << 20),
];
