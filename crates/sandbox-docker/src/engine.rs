//! The connection to an engine, and what is known about it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::SystemInfo;
use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::sync::OnceCell;

use crate::endpoint::Endpoint;
use crate::error::DockerError;
use crate::{login, remote};

/// Seconds that an engine may take to begin its answer: making a container on a busy disk is slow.
const PATIENCE: u64 = 120;

/// How long a first answer may take.
const GREETING: Duration = Duration::from_secs(10);

/// An engine.
#[derive(Debug)]
pub(crate) struct Engine {
    endpoint: Endpoint,
    connected: OnceCell<(Docker, EngineFacts)>,
}

/// What an engine says about itself and its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineFacts {
    /// Where it is.
    pub endpoint: String,
    /// Its version.
    pub version: String,
    /// The machine's system and kernel, for people.
    pub system: String,
    /// The machine's architecture, by the name that Rust gives it.
    pub architecture: String,
    /// Bytes of memory of the machine.
    pub memory_bytes: Option<u64>,
    /// Runtimes by name.
    pub runtimes: BTreeSet<String>,
    /// The runtime that is used when none is asked for.
    pub default_runtime: String,
    /// Containers get a filter on system calls.
    pub seccomp: bool,
    /// Root of a container is nobody on the machine.
    pub user_namespaces: bool,
    /// The engine itself runs without being root.
    pub rootless: bool,
    /// Memory of containers can be limited.
    pub limits_memory: bool,
    /// And their swap.
    pub limits_swap: bool,
    /// And their processes.
    pub limits_pids: bool,
    /// And their share of the processor.
    pub limits_cpu: bool,
}

impl Engine {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, connected: OnceCell::new() }
    }

    /// The client, and what the engine said when it was first spoken to.
    pub(crate) async fn connect(&self) -> Result<&(Docker, EngineFacts), DockerError> {
        let connect = || async {
            let docker = self.open()?.with_request_modifier(login::readable);
            let greet = async {
                let docker = docker.negotiate_version().await?;
                let info = docker.info().await?;
                Ok((docker, info))
            };
            let greeted = tokio::time::timeout(GREETING, greet).await;
            let greeted = greeted.unwrap_or(Err(Error::RequestTimeoutError));
            let (docker, info) =
                greeted.map_err(|error| DockerError::of_greeting(&self.endpoint, &error))?;
            Ok((docker, EngineFacts::new(&self.endpoint, info)))
        };
        self.connected.get_or_try_init(connect).await
    }

    pub(crate) async fn docker(&self) -> Result<&Docker, DockerError> {
        Ok(&self.connect().await?.0)
    }

    pub(crate) async fn facts(&self) -> Result<&EngineFacts, DockerError> {
        Ok(&self.connect().await?.1)
    }

    /// What to say about an error. `step` completes the sentence "the engine cannot …".
    pub(crate) fn error(&self, step: &str, error: &Error) -> DockerError {
        DockerError::of(&self.endpoint, step, error)
    }

    fn open(&self) -> Result<Docker, DockerError> {
        let opened = match &self.endpoint {
            Endpoint::Unix(path) => open_socket(path),
            Endpoint::Tcp { address, tls: None } => {
                Docker::connect_with_http(address, PATIENCE, API_DEFAULT_VERSION)
            }
            Endpoint::Tcp { address, tls: Some(tls) } => {
                return remote::open(address, tls, PATIENCE).map_err(|reason| {
                    let endpoint = self.endpoint.to_string();
                    DockerError::Certificates { endpoint, reason }
                });
            }
        };
        opened.map_err(|error| self.error("be reached", &error))
    }
}

fn open_socket(path: &Path) -> Result<Docker, Error> {
    Docker::connect_with_unix(&path.to_string_lossy(), PATIENCE, API_DEFAULT_VERSION)
}

impl EngineFacts {
    fn new(endpoint: &Endpoint, info: SystemInfo) -> Self {
        let security = info.security_options.unwrap_or_default();
        let has = |name: &str| {
            security
                .iter()
                .any(|option| option.split(',').any(|part| part == format!("name={name}")))
        };
        let unconfined = security
            .iter()
            .any(|option| option.contains("name=seccomp") && option.contains("profile=unconfined"));
        let system = info.operating_system.unwrap_or_default();
        let kernel = info.kernel_version.unwrap_or_default();
        let architecture = match info.architecture.as_deref() {
            Some("amd64") => "x86_64".to_owned(),
            Some("arm64") => "aarch64".to_owned(),
            other => other.unwrap_or_default().to_owned(),
        };
        Self {
            endpoint: endpoint.to_string(),
            version: info.server_version.unwrap_or_default(),
            system: format!("{system}, kernel {kernel}"),
            architecture,
            memory_bytes: info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()),
            runtimes: info.runtimes.unwrap_or_default().into_keys().collect(),
            default_runtime: info.default_runtime.unwrap_or_default(),
            seccomp: has("seccomp") && !unconfined,
            user_namespaces: has("userns") || has("rootless"),
            rootless: has("rootless"),
            limits_memory: info.memory_limit.unwrap_or(false),
            limits_swap: info.swap_limit.unwrap_or(false),
            limits_pids: info.pids_limit.unwrap_or(false),
            limits_cpu: info.cpu_cfs_quota.unwrap_or(false),
        }
    }

    /// Whether containers of this runtime have a kernel of their own, as gVisor's have.
    pub(crate) fn is_gvisor(runtime: &str) -> bool {
        runtime.contains("runsc") || runtime.contains("gvisor")
    }
}
