//! Making a sandbox: the part that blocks, from the folder to the running guest.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use moat_core::SandboxLimits;
use moat_guest::{GuestConfig, RawBytes, RootPaths};
use moat_sandbox::{Root, RootFilesystem, SandboxSpec};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::environment::{self, Circumstances};
use crate::fences::Fence;
use crate::folder::{Folder, Record};
use crate::identity::{AGENT, Identity, any_range};
use crate::image;
use crate::launcher::{StepFailed, launch_in};
use crate::limits::{self, Group};
use crate::network::Network;
use crate::options::LocalOptions;
use crate::plan::SHIFT_OWNERS;
use crate::prepared::Prepared;
use crate::process::ProcessId;
use crate::root::{self, ImageRoot, NETWORK_FD, OUTPUTS_FD, Parts};
use crate::roster::Roster;
use crate::system;
use crate::toolchains::Toolchains;
use crate::trust::{self, HostTrust};

/// Where sandboxes of one provider are, and what they share.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) options: &'a LocalOptions,
    pub(crate) sandboxes: &'a Path,
    /// Whether the caller may map ranges of ids, or only himself.
    pub(crate) private: bool,
    pub(crate) prepared: &'a Prepared,
    /// What the sandbox may use, none of it left open.
    pub(crate) limits: SandboxLimits,
}

/// A sandbox whose guest was started. Dropped, it is ended and removed.
#[derive(Debug)]
pub(crate) struct Newborn {
    id: String,
    process: ProcessId,
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
        let _ = folder.remove();
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

/// Makes a folder, and a sandbox in it that lacks the fences `missing`.
pub(crate) fn create(
    place: &Place<'_>,
    spec: &SandboxSpec,
    missing: &BTreeSet<Fence>,
) -> Result<Newborn, StepFailed> {
    system::check_devices()?;
    let (id, identity, folder) = claim(place)?;
    let started = furnish(place, spec, &identity, &folder)
        .and_then(|()| start(place, spec, missing, &identity, &folder));
    match started {
        Ok(process) => Ok(Newborn { id, process, folder: Some(folder) }),
        Err(failed) => {
            // What cannot be removed now is left to the reaper.
            let _ = folder.remove();
            Err(failed)
        }
    }
}

/// Makes a folder whose name no other sandbox has. Where sandboxes have ranges of ids, the range
/// is the name, so that two never share one.
fn claim(place: &Place<'_>) -> Result<(String, Identity, Folder), StepFailed> {
    let failed = |error: io::Error| StepFailed::new("make the sandbox's folder", error);
    for _ in 0..64 {
        let (number, identity) = if place.private {
            let base = any_range().map_err(failed)?;
            (u64::from(base), Identity::Private { base })
        } else {
            let random = getrandom::u64().map_err(io::Error::other).map_err(failed)?;
            (random, Identity::caller())
        };
        let id = format!("{number:016x}");
        match Folder::create(place.sandboxes, &id) {
            Ok(folder) => return Ok((id, identity, folder)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(StepFailed::new("make the sandbox's folder", "all names are taken; run the reaper"))
}

fn furnish(
    place: &Place<'_>,
    spec: &SandboxSpec,
    identity: &Identity,
    folder: &Folder,
) -> Result<(), StepFailed> {
    let furnish = || match &spec.root {
        RootFilesystem::Host => folder.furnish(identity, &place.prepared.toolchains),
        RootFilesystem::Image { writable, .. } => {
            // Toolchains of the host are made for the host's libraries.
            folder.furnish(identity, &Toolchains::default())?;
            if *writable { folder.furnish_layer(identity) } else { Ok(()) }
        }
    };
    furnish().map_err(|error| StepFailed::new("furnish the sandbox's folder", error))
}

fn start(
    place: &Place<'_>,
    spec: &SandboxSpec,
    missing: &BTreeSet<Fence>,
    identity: &Identity,
    folder: &Folder,
) -> Result<ProcessId, StepFailed> {
    let prepared = place.prepared;
    let listener =
        folder.listen().map_err(|error| StepFailed::new("make the guest's socket", error))?;
    let network = network(spec, missing)?;
    let trust = trust(place, spec, folder)?;
    let image = image::open(&spec.root, identity, place.sandboxes)?;
    let bash = match &image {
        Some(image) => image.has("bin/bash"),
        None => prepared.bash,
    };
    let roster = Roster::new(image.as_ref(), if bash { "/bin/bash" } else { "/bin/sh" });
    let id = folder.path().file_name().unwrap_or_default().to_string_lossy();
    let group = prepared.cgroups.make(&id, &place.limits, folder.path())?;
    let config = config(place, spec, identity, &group, network.as_ref(), trust.is_some(), bash)?;
    let mut parts = Parts {
        identity,
        missing,
        system: &prepared.system,
        toolchains: &prepared.toolchains,
        filter: &prepared.filter,
        folder: folder.path(),
        image: image.as_ref().map(|image| &image.root),
        roster: &roster,
        network: network.as_ref(),
        trust,
        limits: &place.limits,
        counters: group.counters(),
        rehearsal: false,
        old_kernel: false,
    };
    let descriptors = [listener.as_fd(), config.as_fd(), prepared.guest.as_fd()];
    let launch = |parts: &Parts<'_>| {
        let plan = root::plan(parts);
        launch_in(&prepared.launcher, &plan, &descriptors, |pid| group.take_in(pid))
    };
    let mut launched = launch(&parts);
    let unshifted = image.as_ref().map(|image| ImageRoot { shift: None, ..image.root.clone() });
    if launched.as_ref().is_err_and(|failed| failed.step == SHIFT_OWNERS)
        && let Some(image) = unshifted.as_ref().filter(|image| !image.writable)
    {
        // The file system, or the kernel, cannot: the image is used all the same, and its files
        // belong to nobody inside.
        parts.image = Some(image);
        launched = launch(&parts);
    }
    let pid = launched?;
    let recorded = ProcessId::of(pid).and_then(|process| {
        folder.write_record(&Record { process: process.clone() })?;
        Ok(process)
    });
    recorded.map_err(|error| StepFailed::new("find the guest that was started", error))
}

/// The network that is asked for. It is made of addresses of a namespace of its own; among the
/// host's they would be the host's.
fn network(spec: &SandboxSpec, missing: &BTreeSet<Fence>) -> Result<Option<Network>, StepFailed> {
    let Some(wanted) = &spec.network else { return Ok(None) };
    if missing.contains(&Fence::Net) {
        let message = format!("it needs the fence `{}`, which this host lacks", Fence::Net);
        return Err(StepFailed::new("give the sandbox a network", message));
    }
    Network::new(wanted).map(Some)
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
    identity: &Identity,
    group: &Group,
    network: Option<&Network>,
    trusts: bool,
    bash: bool,
) -> Result<OwnedFd, StepFailed> {
    let image = match &spec.root {
        RootFilesystem::Host => None,
        RootFilesystem::Image { environment, .. } => Some(environment),
    };
    let mut variables = network.map(Network::environment).unwrap_or_default();
    variables.extend(trusts.then(trust::environment).into_iter().flatten());
    let sockets = network.map_or(0, Network::count);
    let prepared = place.prepared;
    let path = |root: Root| RawBytes::from_path(root.path());
    let grace = u64::try_from(spec.orphan_grace.as_millis()).unwrap_or(u64::MAX);
    let config = GuestConfig {
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
        uid: AGENT,
        gid: AGENT,
        environment: environment::compose(Circumstances {
            toolchains: &prepared.toolchains,
            bash,
            image,
            network: variables,
            wanted: &spec.environment,
        }),
        output_spool: place.options.output_spool,
        max_processes: 1024,
        limits: limits::for_guest(&place.limits, group, identity),
    };
    let write = || -> io::Result<OwnedFd> {
        let mut file = File::from(memfd_create("moat-config", MemfdFlags::CLOEXEC)?);
        file.write_all(&serde_json::to_vec(&config)?)?;
        file.rewind()?;
        Ok(file.into())
    };
    write().map_err(|error| StepFailed::new("write the guest's configuration", error))
}
