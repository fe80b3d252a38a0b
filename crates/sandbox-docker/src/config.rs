//! What the guest is told.

use std::collections::BTreeMap;

use moat_guest::{
    ContainerConfig, ContainerNetwork, ContainerSocket, GuestConfig, RawBytes, RootPaths,
};
use moat_sandbox::environment::{self, Circumstances};
use moat_sandbox::network::{NetworkPlan, SSH_AGENT};
use moat_sandbox::trust::{self, Bundle};
use moat_sandbox::{GATEWAY, Root, SYNTHETIC_PREFIX, SandboxError, SandboxSpec};

use crate::archive::Archive;
use crate::base::Base;
use crate::container::{CONFIG, PRIVATE, RUN, SOCKET, STATE};
use crate::limits::Held;

/// What commands keep that run as root of an image: what package managers do to the image's own
/// files and users (CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID).
const KEPT_BY_ROOT: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7;

/// What decides about it.
pub(crate) struct Told<'a> {
    pub(crate) spec: &'a SandboxSpec,
    pub(crate) base: &'a Base,
    pub(crate) held: &'a Held,
    pub(crate) network: Option<&'a NetworkPlan>,
    pub(crate) bridged: bool,
    /// Whom programs inside trust, if that is not what the image says.
    pub(crate) trusted: Option<Bundle>,
    pub(crate) output_spool: u32,
}

/// The archive for the volume of what is the guest's own.
pub(crate) fn archive(told: &Told<'_>) -> Result<Vec<u8>, SandboxError> {
    let config = serde_json::to_vec(&config(told)).map_err(|error| SandboxError::Setup {
        step: "write the guest's configuration".to_owned(),
        message: error.to_string(),
    })?;
    let inside =
        |path: &str| path.strip_prefix(STATE).unwrap_or(path).trim_start_matches('/').to_owned();
    let archive = Archive::default()
        .folder(&inside(PRIVATE), 0o700)
        .folder(&inside(RUN), 0o700)
        .file(&inside(CONFIG), 0o600, &config);
    let archive = match &told.trusted {
        Some(Bundle { pem, java }) => {
            archive.file(&inside(trust::PEM), 0o644, pem).file(&inside(trust::JAVA), 0o644, java)
        }
        None => archive,
    };
    Ok(archive.finish())
}

fn config(told: &Told<'_>) -> ContainerConfig {
    let Told { spec, base, .. } = told;
    let path = |root: Root| RawBytes::from_path(root.path());
    let default = &base.roster.default;
    let grace = u64::try_from(spec.orphan_grace.as_millis()).unwrap_or(u64::MAX);
    ContainerConfig {
        guest: GuestConfig {
            epoch: spec.epoch.0,
            orphan_grace_ms: grace,
            start_grace_ms: 60_000,
            roots: RootPaths {
                workspace: path(Root::Workspace),
                home: path(Root::Home),
                outputs: path(Root::Outputs),
            },
            outputs_fd: None,
            network_fds: Vec::new(),
            uid: default.uid,
            gid: default.gid,
            groups: default.groups.clone(),
            capabilities: if spec.accounts.as_root { KEPT_BY_ROOT } else { 0 },
            users: base.roster.users.clone(),
            environment: variables(told),
            output_spool: told.output_spool,
            max_processes: 1024,
            limits: told.held.for_guest(),
        },
        socket: SOCKET.into(),
        bridged: told.bridged,
        network: told.network.map(network),
    }
}

fn network(plan: &NetworkPlan) -> ContainerNetwork {
    let sockets = plan.sockets().iter().map(|socket| ContainerSocket {
        stream: socket.stream,
        address: socket.address,
        port: socket.port,
    });
    ContainerNetwork {
        address: GATEWAY,
        prefix: u8::try_from(SYNTHETIC_PREFIX).unwrap_or(32),
        sockets: sockets.collect(),
        ssh_agent: plan.has_ssh_agent().then(|| SSH_AGENT.into()),
    }
}

fn variables(told: &Told<'_>) -> BTreeMap<String, String> {
    let of_image = told.base.environment.iter().filter_map(|text| text.split_once('='));
    let image: BTreeMap<String, String> =
        of_image.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut network = told.network.map(NetworkPlan::environment).unwrap_or_default();
    network.extend(told.trusted.as_ref().map(|_| trust::environment()).into_iter().flatten());
    environment::compose(Circumstances {
        toolchains: (&[], &[]),
        bash: told.base.bash,
        user: &told.base.roster.default.environment,
        image: Some(&image),
        network,
        wanted: &told.spec.environment,
    })
}
