//! Becoming the guest of a container: what a launcher does elsewhere is done here, as far as the
//! container's engine has not done it, before the first command can run.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use moat_guest::{ContainerConfig, GuestConfig, GuestLimits, MAX_HEADER};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::network;
use crate::server::Server;

/// What commands may never have, and the guest needs no more once its network is there.
const FOR_NETWORKS: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_BIND_SERVICE);

/// Where a launcher puts the folder of outputs.
const OUTPUTS_FD: i32 = 5;

/// Where the kernel's counters are in a container, by version 2 of control groups and by version 1.
const MEMORY_EVENTS: [&str; 2] =
    ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];
const MEMORY_PEAK: [&str; 2] =
    ["/sys/fs/cgroup/memory.peak", "/sys/fs/cgroup/memory/memory.max_usage_in_bytes"];
const PIDS_EVENTS: [&str; 2] = ["/sys/fs/cgroup/pids.events", "/sys/fs/cgroup/pids/pids.events"];

/// Makes everything ready that the configuration asks for.
pub(crate) fn start(path: &Path) -> Result<Server, String> {
    let config = read_config(path)?;
    let ContainerConfig { mut guest, socket, bridged, network } = config;
    make_roots(&guest)?;
    let listener = listen(&socket.to_path(), 0o666).map_err(failed("make the guest's socket"))?;
    guest.outputs_fd = Some(open_outputs(&guest)?);
    if let Some(wanted) = &network {
        guest.network_fds = network::make(wanted)?;
    }
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    open_counters(&mut guest.limits);
    forget_networks().map_err(failed("give up capabilities"))?;
    Server::begin(guest, listener, !bridged && rustix::process::getpid().is_init())
}

fn read_config(path: &Path) -> Result<ContainerConfig, String> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_HEADER as u64).read_to_end(&mut text))
        .map_err(failed("read the configuration"))?;
    // Nobody needs it any more. Where it cannot be removed, commands still cannot read it.
    let _ = fs::remove_file(path);
    serde_json::from_slice(&text).map_err(|error| format!("bad configuration: {error}"))
}

/// The roots belong to whom they are for, whatever the image has at their places.
fn make_roots(guest: &GuestConfig) -> Result<(), String> {
    let commands = (guest.uid, guest.gid);
    let roots = &guest.roots;
    for (root, (uid, gid)) in
        [(&roots.workspace, commands), (&roots.home, commands), (&roots.outputs, (0, 0))]
    {
        let path = root.to_path();
        let make = || -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(&path)?;
            std::os::unix::fs::chown(&path, Some(uid), Some(gid))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        };
        make().map_err(|error| format!("cannot make `{}`: {error}", path.display()))?;
    }
    make_homes(guest)
}

/// Opens the folder of outputs at the first number that is free of those that every guest has it
/// at, or past it.
fn open_outputs(guest: &GuestConfig) -> Result<i32, String> {
    let open = || -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(guest.roots.outputs.to_path(), flags, Mode::empty())?;
        rustix::io::fcntl_dupfd_cloexec(&folder, OUTPUTS_FD)
    };
    let opened = open().map_err(|error| format!("cannot open the folder of outputs: {error}"))?;
    Ok(opened.into_raw_fd())
}

/// Homes of those beside whom commands run as.
fn make_homes(guest: &GuestConfig) -> Result<(), String> {
    for user in guest.users.values() {
        let Some(home) = user.environment.get("HOME").map(Path::new) else { continue };
        if home == guest.roots.home.to_path() || !home.starts_with("/home") {
            continue;
        }
        let make = || -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(home)?;
            std::os::unix::fs::chown(home, Some(user.uid), Some(user.gid))
        };
        make().map_err(|error| format!("cannot make `{}`: {error}", home.display()))?;
    }
    Ok(())
}

/// A socket at a path, for everyone who can get to the path.
pub(crate) fn listen(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener.into())
}

/// Opens what the kernel counts, where it shows it. Without it limits are still held, and which one
/// was reached is told less surely.
fn open_counters(limits: &mut GuestLimits) {
    let open = |paths: [&str; 2]| paths.into_iter().find_map(|path| File::open(path).ok());
    let number = |file: Option<File>| file.map(|file| file.into_raw_fd());
    limits.memory_events_fd = number(open(MEMORY_EVENTS));
    limits.memory_peak_fd = number(open(MEMORY_PEAK));
    limits.pids_events_fd = number(open(PIDS_EVENTS));
}

fn forget_networks() -> io::Result<()> {
    let sets = rustix::thread::capabilities(None)?;
    let without = CapabilitySets {
        effective: sets.effective - FOR_NETWORKS,
        permitted: sets.permitted - FOR_NETWORKS,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, without)?;
    Ok(())
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("cannot {what}: {error}")
}
