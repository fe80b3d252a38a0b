//! The Docker engine that the environment names.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use moat_sandbox::SandboxError;
use moat_sandbox_docker::{
    DockerOptions, DockerProvider, Endpoint, EndpointError, PullPolicy, PullProgress,
};

use super::choice::{DockerChoice, Pull};
use crate::config::variable;
use crate::escape::escape;
use crate::home::Home;
use crate::registries::{DockerLogins, docker_folder};

/// Where the engine is, and what this side keeps for it.
pub(crate) struct DockerPlace {
    endpoint: Result<Endpoint, EndpointError>,
    state_dir: PathBuf,
    /// Where Docker keeps its configuration, with logins at registries.
    folder: Option<PathBuf>,
    quiet: bool,
}

impl DockerPlace {
    /// What `DOCKER_HOST`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` say.
    pub(crate) fn find(home: &Home, quiet: bool) -> Self {
        let verify = variable("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
        let folder = docker_folder(home.user_home.as_deref());
        let usual = || folder.clone().filter(|_| verify);
        let certificates = variable("DOCKER_CERT_PATH").map(PathBuf::from).or_else(usual);
        let host = variable("DOCKER_HOST");
        let endpoint = Endpoint::parse(host.as_deref(), certificates.as_deref(), verify);
        Self { endpoint, state_dir: home.data.join("docker"), folder, quiet }
    }

    /// Whether sandboxes of an engine were made from this data folder.
    pub(crate) fn was_used(&self) -> bool {
        self.state_dir.join("owner").exists()
    }

    /// A provider that makes what is meant.
    pub(crate) fn provider(&self, choice: &DockerChoice) -> Result<DockerProvider, SandboxError> {
        let endpoint = self.endpoint.clone().map_err(|error| SandboxError::Setup {
            step: "tell where the Docker engine is".to_owned(),
            message: error.to_string(),
        })?;
        let mut options = DockerOptions::new(endpoint, &self.state_dir, &choice.image);
        options.runtime = choice.runtime.clone();
        options.bridge = choice.bridge;
        options.logins = Some(Arc::new(DockerLogins::new(self.folder.clone())));
        options.pull = match choice.pull {
            Pull::Always => PullPolicy::Always,
            Pull::Missing => PullPolicy::Missing,
            Pull::Never => PullPolicy::Never,
        };
        if std::io::stderr().is_terminal() && !self.quiet {
            options.progress = Some(Arc::new(|progress| show(&progress)));
        }
        DockerProvider::new(options)
    }

    /// A provider that finds and ends, and makes nothing.
    pub(crate) fn any(&self) -> Result<DockerProvider, SandboxError> {
        self.provider(&DockerChoice::default())
    }
}

#[expect(clippy::print_stderr, reason = "the command line talks to a person here")]
fn show(progress: &PullProgress) {
    let PullProgress { status, layer, bytes } = progress;
    let so_far = match bytes {
        Some((now, all)) => format!(": {} of {} MB", now / 1_000_000, all / 1_000_000),
        None => String::new(),
    };
    eprint!("\r\u{1b}[K{} {}{so_far}\r", escape(status), escape(layer));
}
