//! Making a sandbox: the part that blocks, from the folder to the running guest.

mod claim;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::Arc;

use moat_core::SandboxLimits;
use moat_guest::{GuestConfig, RawBytes, RootPaths};
use moat_sandbox::environment::{self, Circumstances};
use moat_sandbox::network::NetworkPlan;
use moat_sandbox::roster::{ImageAccounts, Roster};
use moat_sandbox::trust;
use moat_sandbox::{Root, RootFilesystem, SandboxNote, SandboxSpec};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::bases;
use crate::capabilities::kept_by_root;
use crate::clear::clear;
use crate::fences::Fence;
use crate::folder::{Folder, Record};
use crate::identity::Identity;
use crate::image::{self, OpenImage};
use crate::launcher::{StepFailed, launch};
use crate::limits::{self, Group};
use crate::options::LocalOptions;
use crate::plan::{LAY_OVER, SHIFT_OWNERS};
use crate::prepared::Prepared;
use crate::process::ProcessId;
use crate::root::{self, ImageRoot, NETWORK_FD, OUTPUTS_FD, Parts};
use crate::sockets;
use crate::system;
use crate::trust::HostTrust;
use crate::users;

use claim::{Claim, claim};

/// Folders beneath which folders of the host can be shown.
const MOUNT_PLACES: [&str; 5] = ["/workspace", "/mnt", "/media", "/srv", "/data"];

/// Where sandboxes of one provider are, and what they share.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) options: &'a LocalOptions,
    pub(crate) sandboxes: &'a Path,
    /// Whether the caller may map ranges of ids, or only himself.
    pub(crate) private: bool,
    pub(crate) prepared: &'a Arc<Prepared>,
    /// What the sandbox may use, none of it left open.
    pub(crate) limits: SandboxLimits,
}

/// A sandbox whose guest was started. Dropped, it is ended and removed.
#[derive(Debug)]
pub(crate) struct Newborn {
    id: String,
    process: ProcessId,
    notes: Vec<SandboxNote>,
    prepared: Arc<Prepared>,
    missing: BTreeSet<Fence>,
    /// Taken out when somebody takes charge of the sandbox.
    folder: Option<Folder>,
}

impl Newborn {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn process(&self) -> &ProcessId {
        &self.process
    }

    pub(crate) fn notes(&self) -> &[SandboxNote] {
        &self.notes
    }

    /// From now on only `destroy`, the guest's own end, or the reaper ends it.
    pub(crate) fn keep(mut self) {
        self.folder = None;
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        let Some(folder) = self.folder.take() else { return };
        end(&self.process);
        // What cannot be removed now is left to the reaper.
        let _ = folder.remove(|path| clear(&self.prepared, &self.missing, path));
    }
}

/// Kills a first process and waits until nothing of its sandbox runs any more.
pub(crate) fn end(process: &ProcessId) -> bool {
    match process.find() {
        Some(process) => {
            process.kill();
            process.wait(std::time::Duration::from_secs(10))
        }
        None => true,
    }
}

/// Makes a folder, and a sandbox in it that lacks the fences `missing`. Where the host lends ids in
/// its tables and then none of them, it is made as if there were none.
pub(crate) fn create(
    place: &Place<'_>,
    spec: &SandboxSpec,
    missing: &BTreeSet<Fence>,
) -> Result<Newborn, StepFailed> {
    let prepared = place.prepared;
    match make(place, spec, missing) {
        Err(failed) if failed.no_ids.is_some() => {
            let all = || match prepared.lending.found() {
                Ok(ids) => users::try_all(prepared, ids),
                Err(_) => Ok(()),
            };
            match prepared.lending.were_refused(all) {
                true => make(place, spec, missing),
                false => Err(failed),
            }
        }
        made => made,
    }
}

fn make(
    place: &Place<'_>,
    spec: &SandboxSpec,
    missing: &BTreeSet<Fence>,
) -> Result<Newborn, StepFailed> {
    system::check_devices()?;
    #[cfg(feature = "mutations")]
    let missing = &place.options.left_out.fences(missing);
    check(spec)?;
    let (id, claim, folder) = claim(place, &spec.accounts)?;
    let started = Cast::new(place, spec, claim).and_then(|cast| {
        cast.furnish(place, spec, &folder)
            .map_err(|error| StepFailed::new("furnish the sandbox's folder", error))?;
        start(place, spec, missing, &cast, &folder)
    });
    match started {
        Ok((process, notes)) => {
            let prepared = Arc::clone(place.prepared);
            let missing = missing.clone();
            Ok(Newborn { id, process, notes, prepared, missing, folder: Some(folder) })
        }
        Err(failed) => {
            // What cannot be removed now is left to the reaper.
            let _ = folder.remove(|path| clear(place.prepared, missing, path));
            Err(failed)
        }
    }
}

/// What does not go together.
fn check(spec: &SandboxSpec) -> Result<(), StepFailed> {
    let writable = matches!(spec.root, RootFilesystem::Image { writable: true, .. });
    if spec.accounts.as_root && !writable {
        let message = "that is possible only on an image that may be written";
        return Err(StepFailed::new("run commands as root", message));
    }
    for mount in &spec.mounts {
        let plain = |part| matches!(part, Component::Normal(_) | Component::RootDir);
        let is_place = MOUNT_PLACES
            .iter()
            .any(|place| mount.target.starts_with(place) && mount.target != Path::new(place));
        if !mount.target.components().all(plain) || !is_place || !mount.source.is_absolute() {
            let step = format!("mount `{}`", mount.target.display());
            return Err(StepFailed::new(step, "no folder can be shown there"));
        }
    }
    Ok(())
}

/// Who is in a sandbox, and what it is on.
struct Cast {
    identity: Identity,
    image: Option<OpenImage>,
    roster: Roster,
    bash: bool,
}

impl Cast {
    fn new(place: &Place<'_>, spec: &SandboxSpec, claim: Claim<'_>) -> Result<Self, StepFailed> {
        let image = image::open(&spec.root, |owner| claim.shift(owner), place.sandboxes)?;
        let (bash, texts) = match &image {
            Some(image) => {
                let text = |path: &str| image.text(path).unwrap_or_default();
                (image.has("bin/bash"), [text("etc/passwd"), text("etc/group")])
            }
            None => (place.prepared.bash, Default::default()),
        };
        let [passwd, group] = &texts;
        let shell = if bash { "/bin/bash" } else { "/bin/sh" };
        let accounts = ImageAccounts { passwd, group };
        let roster = Roster::new(&spec.accounts, claim.is_one_user(), accounts, shell);
        let mut roster =
            roster.map_err(|error| StepFailed::new("give the sandbox its users", error))?;
        let identity = claim.identity(&spec.accounts, &mut roster);
        Ok(Self { identity, image, roster, bash })
    }

    fn furnish(&self, place: &Place<'_>, spec: &SandboxSpec, folder: &Folder) -> io::Result<()> {
        let user = self.roster.default.uid;
        match &spec.root {
            RootFilesystem::Host => {
                let links = place.prepared.toolchains.home_links(spec.network.is_some());
                folder.furnish(&self.identity, user, links)?;
            }
            RootFilesystem::Image { writable, .. } => {
                // Toolchains of the host are made for the host's libraries.
                folder.furnish(&self.identity, user, std::iter::empty())?;
                if *writable {
                    folder.furnish_layer(&self.identity)?;
                }
            }
        }
        for mount in &spec.mounts {
            if let Ok(inside) = mount.target.strip_prefix(Root::Workspace.path()) {
                folder.furnish_mount(&self.identity, user, inside)?;
            }
            if mount.owned {
                crate::folder::give_tree(&mount.source, self.identity.on_host(user))?;
            }
        }
        self.roster
            .homes()
            .try_for_each(|(name, uid)| folder.furnish_home(&self.identity, name, uid))
    }
}

fn start(
    place: &Place<'_>,
    spec: &SandboxSpec,
    missing: &BTreeSet<Fence>,
    cast: &Cast,
    folder: &Folder,
) -> Result<(ProcessId, Vec<SandboxNote>), StepFailed> {
    let Cast { identity, image, roster, .. } = cast;
    let prepared = place.prepared;
    let listener =
        folder.listen().map_err(|error| StepFailed::new("make the guest's socket", error))?;
    let network = network(spec, missing)?;
    let trust = trust(place, spec, folder)?;
    let id = folder.path().file_name().unwrap_or_default().to_string_lossy();
    let group = prepared.cgroups.make(&id, &place.limits, folder.path())?;
    let config = config(place, spec, cast, &group, network.as_ref(), trust.is_some())?;
    let left_out = place.options.left_out();
    #[cfg(feature = "mutations")]
    let everything = left_out.system();
    #[cfg(not(feature = "mutations"))]
    let everything: Option<Vec<crate::system::Shown>> = None;
    // Of an image nothing is the host's; a test that shows all of the host shows its sockets.
    let sockets = match image.is_some() || everything.is_some() {
        true => Vec::new(),
        false => sockets::find(prepared.system.iter().chain(prepared.toolchains.shown()))?,
    };
    let base = bases::lie_over(place, spec.base, folder)
        .map_err(|error| StepFailed::new("find what the workspace lies over", error))?;
    let mut parts = Parts {
        identity,
        missing,
        left_out: &left_out,
        system: everything.as_ref().unwrap_or(&prepared.system),
        toolchains: &prepared.toolchains,
        sockets: &sockets,
        filter: &prepared.filter,
        folder: folder.path(),
        image: image.as_ref().map(|image| &image.root),
        base: base.as_ref(),
        roster,
        network: network.as_ref(),
        trust,
        mounts: &spec.mounts,
        limits: &place.limits,
        counters: group.counters(),
        rehearsal: false,
        old_kernel: false,
    };
    let doors = group.doors()?;
    let own = [listener.as_fd(), config.as_fd(), prepared.guest.as_fd()];
    let descriptors: Vec<_> = own.into_iter().chain(doors.iter().map(AsFd::as_fd)).collect();
    let mut notes = notes(spec, cast);
    let unshifted = image.as_ref().map(|image| ImageRoot { shift: None, ..image.root.clone() });
    let launched = loop {
        let failed = match launch(&prepared.launcher, &root::plan(&parts), &descriptors) {
            Ok(pid) => break Ok(pid),
            Err(failed) => failed,
        };
        let shifts = parts.image.is_some_and(|image| image.shift.is_some());
        match unshifted.as_ref().filter(|image| !image.writable) {
            // The file system, or the kernel, cannot: the image is used all the same, and its files
            // belong to nobody inside.
            Some(image) if failed.step == SHIFT_OWNERS && shifts => {
                parts.image = Some(image);
                notes.push(SandboxNote::OwnersHidden);
            }
            _ if failed.step == LAY_OVER && parts.base.take().is_some() => {
                bases::give_up(place, folder, &failed).map_err(|error| {
                    StepFailed::new("give the sandbox a plain workspace", error)
                })?;
            }
            _ => break Err(failed),
        }
    };
    let pid = launched?;
    let recorded = ProcessId::of(pid).and_then(|process| {
        folder.write_record(&Record { process: process.clone() })?;
        Ok((process, notes))
    });
    recorded.map_err(|error| StepFailed::new("find the guest that was started", error))
}

/// What whoever reads the journal should know of it.
fn notes(spec: &SandboxSpec, cast: &Cast) -> Vec<SandboxNote> {
    let mut notes = Vec::new();
    if spec.accounts.as_root {
        notes.push(SandboxNote::CommandsAreRoot);
    }
    if cast.image.is_some() && !cast.identity.is_private() {
        notes.push(SandboxNote::OneOwner);
    }
    notes
}

/// The network that is asked for. It is made of addresses of a namespace of its own; among the
/// host's they would be the host's.
fn network(
    spec: &SandboxSpec,
    missing: &BTreeSet<Fence>,
) -> Result<Option<NetworkPlan>, StepFailed> {
    let Some(wanted) = &spec.network else { return Ok(None) };
    if missing.contains(&Fence::Net) {
        let message = format!("it needs the fence `{}`, which this host lacks", Fence::Net);
        return Err(StepFailed::new("give the sandbox a network", message));
    }
    let plan = NetworkPlan::new(wanted);
    plan.map(Some).map_err(|error| StepFailed::new("give the sandbox a network", error))
}

/// Writes down whom the sandbox trusts, if it has an authority of its own.
fn trust<'a>(
    place: &Place<'a>,
    spec: &SandboxSpec,
    folder: &Folder,
) -> Result<Option<&'a HostTrust>, StepFailed> {
    let authority = spec.network.as_ref().and_then(|network| network.authority.as_deref());
    let Some(authority) = authority else { return Ok(None) };
    let host = place.prepared.trust();
    folder
        .write_trust(&host.with(authority)?)
        .map_err(|error| StepFailed::new("write the sandbox's trusted authorities", error))?;
    Ok(Some(host))
}

/// What the guest is told, as a file that it reads from its start.
fn config(
    place: &Place<'_>,
    spec: &SandboxSpec,
    cast: &Cast,
    group: &Group,
    network: Option<&NetworkPlan>,
    trusts: bool,
) -> Result<OwnedFd, StepFailed> {
    let image = match &spec.root {
        RootFilesystem::Host => None,
        RootFilesystem::Image { environment, .. } => Some(environment),
    };
    let mut variables = network.map(NetworkPlan::environment).unwrap_or_default();
    variables.extend(trusts.then(trust::environment).into_iter().flatten());
    let sockets = network.map_or(0, NetworkPlan::count);
    let default = &cast.roster.default;
    let prepared = place.prepared;
    let path = |root: Root| RawBytes::from_path(root.path());
    let grace = u64::try_from(spec.orphan_grace.as_millis()).unwrap_or(u64::MAX);
    let mut config = GuestConfig {
        epoch: spec.epoch.0,
        orphan_grace_ms: grace,
        start_grace_ms: 30_000,
        roots: RootPaths {
            workspace: path(Root::Workspace),
            home: path(Root::Home),
            outputs: path(Root::Outputs),
        },
        outputs_fd: Some(OUTPUTS_FD),
        network_fds: (NETWORK_FD..).take(sockets).collect(),
        uid: default.uid,
        gid: default.gid,
        groups: default.groups.clone(),
        capabilities: if spec.accounts.as_root { kept_by_root(&cast.identity) } else { 0 },
        users: cast.roster.users.clone(),
        environment: environment::compose(Circumstances {
            toolchains: (prepared.toolchains.path(), prepared.toolchains.environment()),
            bash: cast.bash,
            user: &default.environment,
            image,
            network: variables,
            wanted: &spec.environment,
        }),
        output_spool: place.options.output_spool,
        max_processes: 1024,
        limits: limits::for_guest(&place.limits, group, &cast.identity),
    };
    mutate(place, &cast.identity, &mut config);
    let write = || -> io::Result<OwnedFd> {
        let mut file = File::from(memfd_create("moat-config", MemfdFlags::CLOEXEC)?);
        file.write_all(&serde_json::to_vec(&config)?)?;
        file.rewind()?;
        Ok(file.into())
    };
    write().map_err(|error| StepFailed::new("write the guest's configuration", error))
}

/// What a test leaves out of the guest's work.
#[cfg(feature = "mutations")]
fn mutate(place: &Place<'_>, identity: &Identity, config: &mut GuestConfig) {
    let left_out = &place.options.left_out;
    left_out.environment(&mut config.environment);
    config.uid = left_out.user(config.uid, identity.guest());
    config.gid = left_out.user(config.gid, identity.guest());
}

#[cfg(not(feature = "mutations"))]
fn mutate(_place: &Place<'_>, _identity: &Identity, _config: &mut GuestConfig) {}
