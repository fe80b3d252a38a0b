//! The plan of a sandbox: every step from fresh namespaces to the running guest, in order.
//!
//! The order matters. Sources on the host are opened first, while the first process still is who
//! the caller is; then it becomes somebody of its own user namespace, builds the new root in a file
//! system of memory, moves into it and lets go of the old one; then it gives up what it may, fence
//! by fence, each needing what the next takes away; the filter on system calls comes last.

mod give_up;
mod image;
mod proc;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use moat_core::SandboxLimits;
use moat_sandbox::network::NetworkPlan;
use moat_sandbox::roster::Roster;
use moat_sandbox::trust;
use moat_sandbox::{FolderMount, Root};

use crate::bases::UsedBase;
use crate::fences::Fence;
use crate::folder;
use crate::identity::{Identity, shift_range};
use crate::left_out::{LeftOut, defence};
use crate::limits::{AFTER_COUNTERS_FD, Counters};
use crate::network::{self, RESOLV_CONF};
use crate::plan::{Beneath, Plan, Slot, Step, attribute};
use crate::seccomp::Filter;
use crate::system::{DEVICES, Shown};
use crate::toolchains::Toolchains;
use crate::trust::HostTrust;
use give_up::give_up;
pub(crate) use image::ImageRoot;
use image::ImageSources;
use proc::private_proc;
use tree::{Phase, Tree};

/// The descriptor at which the guest finds its way to write outputs.
pub(crate) const OUTPUTS_FD: i32 = 5;

/// The first of the descriptors at which the guest finds the sockets of a network.
pub(crate) const NETWORK_FD: i32 = AFTER_COUNTERS_FD;

/// What a sandbox is made of.
pub(crate) struct Parts<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) missing: &'a BTreeSet<Fence>,
    /// What a test leaves out of it.
    pub(crate) left_out: &'a LeftOut,
    pub(crate) system: &'a [Shown],
    pub(crate) toolchains: &'a Toolchains,
    /// Sockets of the host in what is shown.
    pub(crate) sockets: &'a [PathBuf],
    pub(crate) filter: &'a Filter,
    /// The sandbox's folder on the host; the new root is mounted over it, in here only.
    pub(crate) folder: &'a Path,
    /// The image that it is on; `None`: the host's system.
    pub(crate) image: Option<&'a ImageRoot>,
    /// What its workspace lies over; `None`: it is a plain folder.
    pub(crate) base: Option<&'a UsedBase>,
    /// Who there is in it.
    pub(crate) roster: &'a Roster,
    /// Its network, and who is trusted in it.
    pub(crate) network: Option<&'a NetworkPlan>,
    /// The host's bundles of certificate authorities, where the sandbox has its own bundle.
    pub(crate) trust: Option<&'a HostTrust>,
    /// Folders of the host that it sees.
    pub(crate) mounts: &'a [FolderMount],
    /// What it may use; of it `/tmp` and `/dev/shm` are made.
    pub(crate) limits: &'a SandboxLimits,
    /// What the guest reads to know which limit was reached.
    pub(crate) counters: &'a Counters,
    /// Ends after the last fence instead of becoming the guest.
    pub(crate) rehearsal: bool,
    /// Sets mount attributes as kernels before 5.12 need it.
    pub(crate) old_kernel: bool,
}

const DEVICE_LINKS: [(&str, &str); 5] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("dev/ptmx", "pts/ptmx"),
];

/// Terminals that a sandbox can have: a machine has some 3,000 for all beside itself.
const MOST_TERMINALS: u32 = 128;

/// Folders of the root with nothing in them.
const EMPTY_FOLDERS: [&str; 4] = ["run", "var", "mnt", "srv"];

const HOSTS: &str = "127.0.0.1\tlocalhost moat\n::1\tlocalhost ip6-localhost ip6-loopback\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n\
    networks: files\nprotocols: files\nservices: files\n";

/// Files of `/etc` that are the sandbox's own. `resolv.conf` is empty: without a network
/// there is nobody to ask.
const SETTINGS: [(&str, &str); 3] =
    [("etc/hosts", HOSTS), ("etc/hostname", "moat\n"), ("etc/resolv.conf", "")];

/// Those that an image has its own of.
const SETTINGS_OF_HOST: [(&str, &str); 2] =
    [("etc/nsswitch.conf", NSSWITCH), ("etc/shells", "/bin/sh\n/bin/bash\n")];

impl Parts<'_> {
    /// The namespaces that are made.
    fn namespaces(&self) -> u64 {
        let wanted = Fence::ALL.into_iter().filter(|fence| !self.missing.contains(fence));
        wanted.map(Fence::namespace).fold(0, |flags, flag| flags | flag)
    }

    fn has(&self, fence: Fence) -> bool {
        !self.missing.contains(&fence)
    }

    /// What the launcher is to lay the workspace over.
    fn beneath(&self) -> Option<Beneath> {
        let base = self.base?;
        let map = shift_range(self.identity, base.owners_from)?;
        let (tree, folder) = (base.tree.clone(), self.folder.to_owned());
        Some(Beneath { tree, map, folder, rehearse: false })
    }
}

/// Composes the plan.
pub(crate) fn plan(parts: &Parts<'_>) -> Plan {
    let mut namespaces = parts.identity.namespaces(parts.namespaces());
    namespaces.shifted = parts.image.and_then(ImageRoot::shifted);
    namespaces.base = parts.beneath();
    #[cfg(feature = "mutations")]
    parts.left_out.identify(&mut namespaces);
    let mut plan = Plan::new(&namespaces);
    #[cfg(feature = "mutations")]
    plan.leave_out(parts.left_out);
    if parts.old_kernel {
        plan.as_on_old_kernels();
    }
    plan.relies_on(Some(Fence::Mount));
    plan.push("set mounts apart from the host's", &Step::MakePrivate(Path::new("/")));
    let sources = Sources::open(&mut plan, parts);
    #[cfg(feature = "mutations")]
    parts.left_out.open_leak(&mut plan);
    begin_root(&mut plan, parts);
    give_homes(&mut plan, parts, &sources);

    match parts.image {
        Some(image) => image::make(&mut plan, parts, &sources, image),
        None => compose(&mut Tree::new(&mut plan, Phase::All), parts, &sources),
    }
    let mut sockets = match parts.network {
        Some(network) => network::listen_at_paths(network, &mut plan),
        None => Vec::new(),
    };

    finish_root(&mut plan, parts);
    own_network(&mut plan, parts, &mut sockets);
    give_up(&mut plan, parts, &sockets, &sources.counters);
    plan
}

/// Everything in the root that is not an image's.
fn compose(tree: &mut Tree<'_>, parts: &Parts<'_>, sources: &Sources<'_>) {
    for (slot, shown) in &sources.shown {
        match shown {
            Shown::Link { path, target } => tree.link(path, target),
            Shown::Bound { path, folder } => tree.bind(*slot, path, *folder, READ_ONLY),
        }
    }
    // Never among the host's own files.
    if parts.left_out.stands(defence::FILES) {
        settings(tree, parts);
    }
    devices(tree, parts, sources);
    for path in parts.sockets {
        tree.mask_shown(path, Path::new("dev/null"));
    }
    memory(tree, parts);
    private_proc(tree, parts, sources);
    own_folders(tree, sources);
    trusted(tree, parts, sources);
}

fn settings(tree: &mut Tree<'_>, parts: &Parts<'_>) {
    for (path, content) in SETTINGS {
        let content = match (path, parts.network) {
            ("etc/resolv.conf", Some(_)) => RESOLV_CONF,
            _ => content,
        };
        tree.file(Path::new(path), 0o644, content.as_bytes());
    }
    tree.file(Path::new("etc/passwd"), 0o644, parts.roster.passwd.as_bytes());
    tree.file(Path::new("etc/group"), 0o644, parts.roster.group.as_bytes());
    tree.link(Path::new("etc/mtab"), OsStr::new("/proc/self/mounts"));
    if parts.image.is_none() {
        for (path, content) in SETTINGS_OF_HOST {
            tree.file(Path::new(path), 0o644, content.as_bytes());
        }
        for path in EMPTY_FOLDERS {
            tree.folder(Path::new(path));
        }
    }
    tree.folder(Path::new("sys"));
    tree.link(Path::new("var/tmp"), OsStr::new("/tmp"));
}

const READ_ONLY: u32 = attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEVICES;
const WRITABLE: u32 = attribute::NO_SUID | attribute::NO_DEVICES;

/// What is opened on the host before the first process becomes somebody else.
struct Sources<'a> {
    shown: Vec<(Slot, &'a Shown)>,
    devices: Vec<(Slot, &'static str)>,
    /// All of the host's devices, where a test leaves the choice out.
    host_devices: Option<Slot>,
    proc: Option<Slot>,
    /// Absent: it comes mounted.
    workspace: Option<Slot>,
    home: Slot,
    /// Homes of others, by name.
    homes: Vec<(Slot, &'a str)>,
    outputs: Slot,
    /// Folders of the host that the sandbox sees.
    mounts: Vec<(Slot, &'a FolderMount)>,
    image: Option<ImageSources>,
    /// The sandbox's own bundle of certificate authorities, as text and for Java.
    trust: Option<[Slot; 2]>,
    /// Files of control groups, and the numbers by which the guest finds them.
    counters: Vec<(Slot, i32)>,
}

impl<'a> Sources<'a> {
    fn open(plan: &mut Plan, parts: &Parts<'a>) -> Self {
        let paths = parts.system.iter().chain(parts.toolchains.shown());
        let shown = paths
            // An image brings its own.
            .filter(|_| parts.image.is_none())
            .map(|shown| match shown {
                Shown::Link { .. } => (Slot::PROGRAM, shown),
                // One that has gone since it was found is left out.
                Shown::Bound { path, .. } => (open(plan, path, true), shown),
            })
            .collect();
        let devices = DEVICES
            .map(|(name, ..)| (open(plan, &Path::new("/dev").join(name), name == "tty"), name));
        let proc = (!parts.has(Fence::Proc)).then(|| open(plan, Path::new("/proc"), false));
        Self {
            shown,
            devices: devices.into(),
            host_devices: (!parts.left_out.stands(defence::DEVICES))
                .then(|| open(plan, Path::new("/dev"), false)),
            proc,
            workspace: (parts.base.is_none())
                .then(|| open(plan, &parts.folder.join(folder::WORKSPACE), false)),
            home: open(plan, &parts.folder.join("home"), false),
            homes: parts
                .roster
                .homes()
                .map(|(name, _)| {
                    (open(plan, &parts.folder.join(folder::HOMES).join(name), false), name)
                })
                .collect(),
            outputs: open(plan, &parts.folder.join("outputs"), false),
            mounts: parts
                .mounts
                .iter()
                .map(|mount| (open(plan, &mount.source, false), mount))
                .collect(),
            image: parts.image.map(|image| ImageSources::open(plan, parts, image)),
            trust: parts.trust.map(|_| {
                [folder::TRUST, folder::TRUST_JAVA]
                    .map(|name| open(plan, &parts.folder.join(name), false))
            }),
            counters: parts.counters.open(plan),
        }
    }
}

fn open(plan: &mut Plan, path: &Path, optional: bool) -> Slot {
    let slot = plan.slot();
    let name = format!("open `{}`", path.display());
    plan.push(name, &Step::Open { slot, flags: libc::O_PATH as u32, optional, path });
    slot
}

/// Mounts an empty root over the sandbox's own folder, goes there and becomes the guest's user.
fn begin_root(plan: &mut Plan, parts: &Parts<'_>) {
    let guest = parts.identity.guest();
    let options = format!("mode=755,uid={guest},gid={guest},size=4m,nr_inodes=8192");
    plan.push(
        "mount an empty root",
        &Step::Mount {
            source: "moat",
            target: parts.folder,
            kind: "tmpfs",
            flags: (libc::MS_NOSUID | libc::MS_NODEV) as u32,
            options: &options,
        },
    );
    plan.push("enter the empty root", &Step::ChangeDir(parts.folder));
    plan.relies_on(Some(Fence::User));
    plan.push("become a user of the sandbox", &parts.identity.become_guest());
    plan.push("leave the caller's session", &Step::NewSession);
    plan.relies_on(Some(Fence::Mount));
}

/// Homes of others become theirs, where that can be done inside only.
fn give_homes(plan: &mut Plan, parts: &Parts<'_>, sources: &Sources<'_>) {
    if parts.identity.is_private() || parts.identity.is_one_user() {
        return;
    }
    plan.relies_on(Some(Fence::User));
    for ((slot, name), (_, uid)) in sources.homes.iter().zip(parts.roster.homes()) {
        let step = Step::Own { slot: *slot, uid, gid: uid };
        plan.push(format!("give `{name}` a home"), &step);
    }
    plan.relies_on(Some(Fence::Mount));
}

fn devices(tree: &mut Tree<'_>, parts: &Parts<'_>, sources: &Sources<'_>) {
    if let Some(slot) = sources.host_devices {
        tree.bind(slot, Path::new("dev"), true, 0);
        return;
    }
    let few = if parts.left_out.stands(defence::LIMITS) {
        format!(",max={MOST_TERMINALS}")
    } else {
        String::new()
    };
    for (slot, name) in &sources.devices {
        // Without `nodev`, or they would not work.
        let attributes = attribute::NO_SUID | attribute::NO_EXEC;
        tree.bind(*slot, &Path::new("dev").join(name), false, attributes);
    }
    let options = format!("newinstance,ptmxmode=0666,mode=0620{few}");
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
    tree.mount("devpts", Path::new("dev/pts"), flags, &options);
    for (path, target) in DEVICE_LINKS {
        tree.link(Path::new(path), OsStr::new(target));
    }
}

fn memory(tree: &mut Tree<'_>, parts: &Parts<'_>) {
    let mut options = "mode=1777".to_owned();
    // Zero would be no limit at all.
    let limits = [("size", parts.limits.tmp_bytes), ("nr_inodes", parts.limits.tmp_inodes)];
    for (name, limit) in limits.into_iter().filter_map(|(name, limit)| Some((name, limit?))) {
        options.push_str(&format!(",{name}={}", limit.max(1)));
    }
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    for (path, defence) in [("tmp", defence::FILES), ("dev/shm", defence::DEVICES)] {
        if parts.left_out.stands(defence) {
            tree.mount("tmpfs", Path::new(path), flags, &options);
        }
    }
}

/// The folders that are the sandbox's own. Outputs are mounted twice: writable, which only the
/// guest reaches, through a descriptor of that mount (not of the host's, from which `..` would lead
/// out), and over it read-only for everyone.
fn own_folders(tree: &mut Tree<'_>, sources: &Sources<'_>) {
    let workspace = Path::new("workspace");
    match sources.workspace {
        Some(slot) => tree.bind(slot, workspace, true, WRITABLE),
        None => tree.attach(Slot::OVERLAID, workspace, WRITABLE),
    }
    for (slot, mount) in &sources.mounts {
        let attributes = if mount.read_only { READ_ONLY } else { WRITABLE };
        match mount.target.starts_with(Root::Workspace.path()) {
            // The folder beneath it was made with the workspace.
            true => tree.bind_over(*slot, &mount.target, attributes),
            false => tree.bind(*slot, &mount.target, true, attributes),
        }
    }
    tree.bind(sources.home, Path::new("home/agent"), true, WRITABLE);
    for (slot, name) in &sources.homes {
        tree.bind(*slot, &Path::new("home").join(name), true, WRITABLE);
    }
    let outputs = Path::new("moat/outputs");
    tree.bind(sources.outputs, outputs, true, WRITABLE | attribute::NO_EXEC);
    if !tree.mounts() {
        return;
    }
    let writable = tree.plan().slot();
    tree.plan().push(
        "open the folder of outputs",
        &Step::Open {
            slot: writable,
            flags: libc::O_DIRECTORY as u32,
            optional: false,
            path: outputs,
        },
    );
    tree.bind_over(sources.outputs, outputs, READ_ONLY | attribute::NO_EXEC);
    let step = Step::PassDescriptor { slot: writable, number: OUTPUTS_FD };
    tree.plan().push("pass the folder of outputs on", &step);
}

/// The sandbox's bundle of authorities, at its own path and over those of the host that are shown.
fn trusted(tree: &mut Tree<'_>, parts: &Parts<'_>, sources: &Sources<'_>) {
    let (Some(host), Some([pem, java])) = (parts.trust, sources.trust) else { return };
    let attributes = READ_ONLY | attribute::NO_EXEC;
    tree.bind(pem, Path::new(trust::PEM), false, attributes);
    tree.bind(java, Path::new(trust::JAVA), false, attributes);
    let is_shown = |place: &Path| {
        parts.system.iter().any(|shown| match shown {
            Shown::Bound { path, .. } => place.starts_with(path),
            Shown::Link { .. } => false,
        })
    };
    match parts.image {
        Some(image) => {
            for place in &image.bundles {
                tree.bind(pem, place, false, attributes);
            }
        }
        None => {
            for place in host.places().filter(|place| is_shown(place)) {
                tree.bind_over(pem, place, attributes);
            }
        }
    }
}

fn finish_root(plan: &mut Plan, parts: &Parts<'_>) {
    plan.push("move into the new root", &Step::PivotRoot);
    if let Some(image) = parts.image {
        image::finish(plan, image);
        return;
    }
    let step = Step::ReadOnly { path: Path::new("/"), bind: false };
    plan.push("make the new root read-only", &step);
}

/// The loopback device, and what listens on it. Without a namespace of its own there is none: this
/// would be the host's.
fn own_network(plan: &mut Plan, parts: &Parts<'_>, sockets: &mut Vec<Slot>) {
    if !parts.has(Fence::Net) {
        return;
    }
    plan.relies_on(Some(Fence::Net));
    plan.push("bring up the loopback device", &Step::Loopback);
    if let Some(network) = parts.network {
        sockets.extend(network::listen(network, plan));
    }
}
